"""The command `workbench bench`; the speeds themselves are never tested."""

from typer.testing import CliRunner

from workbench.cli import app

SMALL = ("--type", "q4_0", "--rows", "8", "--row-length", "256", "--repeats", "1")


def test_bench_prints_a_row_for_each_type():
    done = CliRunner().invoke(app, ["bench", "dequantize", *SMALL])
    assert done.exit_code == 0, done.output
    assert "dequantize, 8 x 256" in done.output and "Q4_0" in done.output
