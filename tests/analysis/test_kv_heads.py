"""Classes of heads, on maps made by hand for each look and on the built-in model."""

from functools import lru_cache

import numpy as np
import pytest

from tests.analysis.copying import N_VOCAB, copying_model
from tests.conftest import BUILTIN_MODEL
from workbench import analysis
from workbench.analysis.kv_heads import LEAST_TEXT, LOOKS, N_LOCAL, N_SINK, class_of
from workbench.errors import ParameterError
from workbench.model import ActivationTrace, load_model

STORY = "Once upon a time, there was a little dog named Max. Max had a ball. " * 4
ROUNDED = 1e-6  # attention is float32


@lru_cache
def builtin():
    return load_model(BUILTIN_MODEL, device="cpu")


def looking(n, at):
    """One head (1, n, n): token t gives all its attention to position at(t)."""
    probs = np.zeros((1, n, n), np.float32)
    for t in range(n):
        probs[0, t, max(0, at(t))] = 1
    return probs


TWICE = [*range(30), *range(30)]


@pytest.mark.parametrize(
    ("at", "looks", "name"),
    [
        (lambda t: 0, {"sink"}, "sink"),
        (lambda t: N_SINK - 1, {"sink"}, "sink"),
        (lambda t: t - 1, {"previous", "local"}, "previous"),
        (lambda t: t, {"local"}, "local"),
        (lambda t: t - N_LOCAL + 1, {"local"}, "local"),
        (lambda t: t - 29, {"induction"}, "induction"),
        (lambda t: t - 30, {"duplicate"}, "mixed"),
    ],
    ids=["first", "fourth", "before", "itself", "eighth back", "follower", "same token"],
)
def test_a_head_that_looks_at_one_place_only_has_the_class_of_that_place(at, looks, name):
    found = {look: x[0] for look, x in analysis.looks_of_heads(looking(60, at), TWICE).items()}
    assert {look for look, share in found.items() if share == 1} == looks
    assert max(share for look, share in found.items() if look not in looks) < 0.5
    assert class_of(found) == name


def test_a_look_just_out_of_reach_is_not_local_and_not_a_sink():
    found = analysis.looks_of_heads(looking(60, lambda t: t - N_LOCAL), TWICE)
    assert found["local"][0] == 0
    found = analysis.looks_of_heads(looking(60, lambda t: N_SINK if t > N_SINK else 0), TWICE)
    assert found["sink"][0] == 0


def test_even_attention_gives_each_look_its_number_of_positions():
    n = 60
    even = (np.tri(n) / np.arange(1, n + 1)[:, None])[None]
    found = analysis.looks_of_heads(even, TWICE)
    rows = np.arange(N_SINK + N_LOCAL - 1, n)
    assert found["sink"][0] == pytest.approx((N_SINK / (rows + 1)).mean())
    assert found["local"][0] == pytest.approx((N_LOCAL / (rows + 1)).mean())
    assert found["previous"][0] == pytest.approx((1 / (rows + 1)).mean())
    assert found["induction"][0] == pytest.approx((1 / np.arange(31, 61)).mean())


def test_without_a_token_said_again_there_is_no_induction_to_measure():
    found = analysis.looks_of_heads(looking(60, lambda t: 0), range(60))
    assert np.isnan(found["induction"][0]) and np.isnan(found["duplicate"][0])


def test_a_token_said_at_once_again_is_no_induction():
    """Its follower would be the token that looks."""
    found = analysis.looks_of_heads(looking(60, lambda t: t), [7] * 60)
    assert np.isnan(found["induction"][0])


@pytest.mark.parametrize(
    ("ids", "after"),
    [
        ([7, 8, 7], [-1, -1, 1]),
        ([5, 5, 5], [-1, 1, 2]),
        ([1, 2, 1, 3, 1], [-1, -1, 1, -1, 3]),
        ([], []),
        (np.array([4, 4]), [-1, 1]),
    ],
)
def test_the_position_after_the_last_same_token(ids, after):
    np.testing.assert_array_equal(analysis.follower_positions(ids), after)


@pytest.mark.parametrize("shape", [(1, 60, 59), (1, 1, 60), (60, 60)])
def test_maps_that_are_not_of_these_tokens_are_refused(shape):
    with pytest.raises(ParameterError, match=r"probs: not the attention of these .* \(H, 60, 60\)"):
        analysis.looks_of_heads(np.zeros(shape), TWICE)


@pytest.mark.parametrize("n_random", [8, 20, N_VOCAB])
def test_an_induction_circuit_made_by_hand_is_found_with_the_head_that_it_needs(tmp_path, n_random):
    ids = np.random.default_rng(5).integers(0, N_VOCAB, 100)
    result = analysis.head_classes(copying_model(tmp_path), ids, n_random)
    assert result.names == ("previous", "induction")
    assert result.previous[0] > 0.99 and result.induction[1] > 0.85  # position 0 has none before
    assert result.of_class("induction") == [(1, 0)]
    assert result.loss_again < 0.2 * result.loss_once


@pytest.mark.parametrize(
    ("looks", "name"),
    [
        ({"induction": 0.3, "sink": 0.6}, "induction"),
        ({"induction": 0.29, "sink": 0.5, "local": 0.5}, "sink"),
        ({"previous": 0.5, "local": 0.9}, "previous"),
        ({"previous": 0.49, "local": 0.5}, "local"),
        ({"sink": 0.49, "local": 0.49}, "mixed"),
        ({"duplicate": 1.0}, "mixed"),
    ],
)
def test_a_class_is_the_first_look_that_reaches_its_threshold(looks, name):
    assert class_of(dict.fromkeys(LOOKS, 0.0) | looks) == name


def test_repeated_tokens_are_different_said_twice_and_not_special():
    model = builtin()
    ids = analysis.repeated_tokens(model, 50, seed=3)
    start, once, again = ids[:-100], ids[-100:-50], ids[-50:]
    assert start.tolist() == model.tokenizer.encode("")
    np.testing.assert_array_equal(once, again)
    assert len(set(once)) == 50 and not {model.tokenizer.bos_id, model.tokenizer.eos_id} & set(once)
    np.testing.assert_array_equal(ids, analysis.repeated_tokens(model, 50, seed=3))
    assert (ids != analysis.repeated_tokens(model, 50, seed=4)).any()


@pytest.mark.parametrize("n", [1, 0, -5, 5000, 2.0, "8"])
def test_more_random_tokens_than_the_vocabulary_has_or_none_are_refused(n):
    with pytest.raises(ParameterError, match="n_random: no such number of different tokens"):
        analysis.repeated_tokens(builtin(), n)


def test_a_text_too_short_to_tell_sinks_from_neighbours_is_refused():
    with pytest.raises(ParameterError, match=rf"expected at least {LEAST_TEXT} tokens, got 3"):
        analysis.head_classes(builtin(), [1, 2, 3])


@pytest.mark.parametrize("ids", [[[1] * 60], None, "cat", [1, [2]], [1.5] * 60])
def test_what_are_no_token_ids_is_refused(ids):
    with pytest.raises(ParameterError, match="token_ids: not token ids; expected a one-dimens"):
        analysis.head_classes(builtin(), ids)


@pytest.mark.parametrize("seed", [-1, 1.5, "3", None, True])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ParameterError, match="seed: none; expected an integer from 0 up"):
        analysis.repeated_tokens(builtin(), 8, seed)


@lru_cache
def classes():
    model = builtin()
    return analysis.head_classes(model, model.tokenizer.encode(STORY), n_random=32)


def test_every_head_of_the_built_in_model_has_one_class_and_shares_from_0_to_1():
    model, result = builtin(), classes()
    assert len(result.names) == model.config.n_layer * model.config.n_head
    table = result.to_frame()
    assert set(table["class"]) <= set(analysis.HEAD_CLASSES)
    shares = table[list(LOOKS)].to_numpy()
    assert shares.min() >= 0 and shares.max() <= 1 + ROUNDED
    assert (table.previous <= table.local + ROUNDED).all()
    assert result.counts().to_numpy().sum() == len(result.names)
    found = [pair for name in analysis.HEAD_CLASSES for pair in result.of_class(name)]
    assert sorted(found) == list(zip(table.layer, table["head"], strict=True))


def test_shares_are_those_of_a_trace_of_the_same_text():
    model, result = builtin(), classes()
    ids, trace = model.tokenizer.encode(STORY), ActivationTrace(["kq_soft_max-5"])
    model.forward(ids, model.new_cache(len(ids), "f32", "f32"), trace=trace)
    rows = np.arange(N_SINK + N_LOCAL - 1, len(ids))
    expected = [probs[rows, rows - 1].mean() for probs in trace["kq_soft_max-5"]]
    np.testing.assert_allclose(result.previous[result.layers == 5], expected, rtol=1e-5)


def test_the_built_in_model_looks_near_and_does_not_copy_random_tokens():
    """Trained on stories alone, it never had to: no induction head, and no gain at the second."""
    result = classes()
    counts = result.counts().sum()
    assert counts.induction == 0 and counts.sink == 0 and counts.local > 10
    assert result.induction.max() < 0.15 and result.loss_again > 0.8 * result.loss_once


def test_the_clearest_of_a_class_comes_first_and_unknown_classes_are_refused():
    result = classes()
    local = [result.local[8 * layer + head] for layer, head in result.of_class("local")]
    assert local == sorted(local, reverse=True)
    with pytest.raises(ParameterError, match="class: no such class of heads; expected one of ind"):
        result.of_class("locl")
