"""The memory calculator, driven as the next cell drives it."""

import pytest

import workbench as wb
from tests.conftest import BUILTIN_MODEL
from workbench.errors import ParameterError
from workbench.panels import MemoryCalculator


@pytest.fixture(scope="module")
def gguf():
    with wb.open_gguf(BUILTIN_MODEL) as gguf:
        yield gguf


@pytest.fixture
def panel(gguf):
    return MemoryCalculator(gguf)


def test_it_begins_with_the_trained_context(panel, gguf):
    assert panel.model.n_ctx == 1024 and panel.error is None
    assert panel.summary().splitlines()[0] == "n_ctx 1,024, k f16, v f16, n_batch 512"
    assert bytes(panel.picture.value).startswith(b"\x89PNG")


def test_each_control_changes_model_picture_and_table(panel, gguf):
    seen = {(bytes(panel.picture.value), panel.table.value)}
    for control, value in (
        (panel.n_ctx, 4096), (panel.type_k, "q8_0"), (panel.type_v, "q4_0"), (panel.n_batch, 64),
    ):  # fmt: skip
        control.value = value
        assert (bytes(panel.picture.value), panel.table.value) not in seen
        seen.add((bytes(panel.picture.value), panel.table.value))
    expected = wb.analysis.memory_model(gguf, 4096, "q8_0", "q4_0", 64)
    assert panel.model == expected
    assert f"total: {expected.total:,} bytes" in panel.summary()
    assert repr(panel) == "MemoryCalculator(n_ctx=4096, type_k=q8_0, type_v=q4_0, n_batch=64)"


def test_an_error_is_shown_and_goes_away(panel, monkeypatch):
    monkeypatch.setattr(
        "workbench.panels.memory_calculator.memory_png", lambda model: 1 / 0, raising=True
    )
    panel.n_batch.value = 7
    assert panel.summary() == "error: division by zero" and "division" in panel.message.value
    monkeypatch.undo()
    panel.n_batch.value = 8
    assert panel.error is None and panel.message.value == ""


def test_a_context_outside_of_the_slider_is_refused(gguf):
    with pytest.raises(ParameterError, match="n_ctx: outside of the slider; expected from 32"):
        MemoryCalculator(gguf, n_ctx=8)
