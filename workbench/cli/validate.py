"""`workbench validate`: what is wrong with a file, and where.

Source: our own. Leaves out mending it: `workbench edit` and a fresh download do.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

import workbench as wb

from .app import app, out
from .printing import print_rows

if TYPE_CHECKING:
    from ..gguf.findings import ValidationReport

__all__ = ["validate"]

COLUMNS = ["severity", "byte", "place", "rule", "what", "source"]


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="GGUF file; of a split model, any shard.")],
    profile: Annotated[
        str, typer.Option(help="spec, or llama.cpp for what its loader accepts.")
    ] = "spec",
    data: Annotated[bool, typer.Option("--data", help="Look at all weights too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check FILE against every rule of the format; exit 1 if it is rejected."""
    report = wb.validate_gguf(file, profile=profile, data=data)
    if as_json:
        out.print(_as_json(report), markup=False, soft_wrap=True)
    else:
        _print_report(report)
    if not report.accepted:
        raise typer.Exit(1)


def _as_json(report: "ValidationReport") -> str:
    """The report as JSON, all of it in ASCII."""
    return json.dumps({**asdict(report), "accepted": report.accepted}, indent=2)


def _print_report(report: "ValidationReport") -> None:
    """A table of the findings under one line with the verdict."""
    verdict = "[bold green]accepted[/]" if report.accepted else "[bold red]rejected[/]"
    counts = ", ".join(f"{report.count(kind)} {kind}s" for kind in ("error", "warning", "note"))
    out.print(f"{escape(report.path)}: {verdict} under the profile {report.profile}; {counts}")
    if not report.complete:
        out.print("the walk ended early: what lies behind the damage was not looked at")
    if report.data_bytes:
        speed = report.data_bytes / max(report.seconds, 1e-9) / 1e9
        out.print(f"looked at {report.data_bytes:,} bytes of weights, {speed:.2f} GB/s")
    rows = [[f.severity, f.offset, f.place, f.rule, f.message, f.source] for f in report.findings]
    if rows:
        print_rows("findings", COLUMNS, rows)
