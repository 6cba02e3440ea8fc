"""Opening a file is timed in processes of their own, beside gguf-py where it is installed."""

import importlib.util

import pytest

from workbench import analysis, model_path
from workbench.errors import GGUFError


def test_every_program_that_is_installed_has_a_row():
    speed = analysis.open_speed(model_path(), repeats=1)
    programs = ["workbench"] + ["gguf-py"] * bool(importlib.util.find_spec("gguf"))
    assert speed.program.tolist() == programs and speed.times[0] == 1
    assert (speed.seconds > 0).all() and (speed.mb >= 0).all()


def test_what_is_no_gguf_file_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "text").write_text("hello")
    with pytest.raises(GGUFError, match="not a GGUF file"):
        analysis.open_speed(tmp_path / "text")
