"""Our logits beside recordings of llama.cpp's, as a table."""

from pathlib import Path

import numpy as np
import pytest

from workbench.analysis import parity, parity_table
from workbench.errors import ParameterError
from workbench.model import load_model

DATA = Path(__file__).resolve().parents[1] / "data"


@pytest.fixture(scope="module")
def model():
    with load_model(DATA / "llama-tied.gguf") as model:
        yield model


@pytest.fixture
def golden():
    with np.load(DATA / "llama-tied.npz") as arrays:
        return dict(arrays)


def test_a_recording_of_some_positions_agrees(model, golden):
    result = parity(model, golden)[0]
    assert result.logits.n_tokens == len(golden["positions"]) and result.logits.top1 == 1
    assert result.logits.max_abs < 5e-5 and result.logits.nmse < 1e-10
    assert result.logits.kl_max < 1e-9
    assert result.n_greedy_same == result.n_greedy == 24
    table = parity_table([result])
    assert list(table["greedy"]) == ["24/24"] and list(table["recording"]) == ["logits"]


def test_logits_of_expanded_weights_stand_first(model, golden):
    golden["logits_dequant"] = golden["logits"]
    golden["logits"] = golden["logits"] + np.float32(0.5)
    first, second = parity(model, golden)
    assert (first.recording, second.recording) == ("logits_dequant", "logits")
    assert first.logits.max_abs < 5e-5 < 0.49 < second.logits.max_abs
    assert (first.n_greedy, second.n_greedy) == (0, 24)


def test_the_first_other_token_ends_what_is_the_same(model, golden):
    golden["greedy_tokens"] = golden["greedy_tokens"].copy()
    golden["greedy_tokens"][7] += 1
    assert parity(model, golden)[0].n_greedy_same == 7


def test_what_is_no_recording_is_refused(model, golden):
    with pytest.raises(ParameterError, match="expected arrays tokens and logits, got tokens"):
        parity(model, {"tokens": golden["tokens"]})
    with pytest.raises(ParameterError, match="expected the shape of the base"):
        parity(model, {"tokens": golden["tokens"], "logits": golden["logits"]})
