import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ParameterError
from workbench.sampling import Stage, stages
from workbench.sampling.candidates import candidates_from

LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.3, 0.15], np.float32))


def apply(stage: Stage, logits=LOGITS):
    return stage.apply(candidates_from(logits), ())


def test_top_k_keeps_the_two_largest_in_falling_order():
    result = apply(stages.top_k(2))
    assert result.ids.tolist() == [1, 3]
    np.testing.assert_allclose(result.probs, [4 / 7, 3 / 7], rtol=1e-6)


def test_top_p_stops_at_the_token_that_reaches_p():
    assert apply(stages.top_p(0.75)).ids.tolist() == [1, 3, 4]


def test_min_p_keeps_tokens_half_as_probable_as_the_best_in_id_order():
    result = apply(stages.min_p(0.5))
    assert (result.ids.tolist(), result.sorted) == ([1, 3], False)


def test_min_keep_overrides_top_p_and_min_p():
    assert len(apply(stages.top_p(0.01, min_keep=3))) == 3
    assert len(apply(stages.min_p(0.99, min_keep=4))) == 4
    assert len(apply(stages.min_p(0.99, min_keep=99))) == 5


def test_temperature_zero_leaves_one_finite_logit_and_all_candidates():
    result = apply(stages.temp(0))
    assert len(result) == 5
    np.testing.assert_array_equal(result.probs, [0, 1, 0, 0, 0])


def test_a_temperature_too_small_for_float32_is_greedy():
    np.testing.assert_array_equal(apply(stages.temp(1e-60)).probs, [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(apply(stages.temp(1e-38), LOGITS * 1e3).probs, [0, 1, 0, 0, 0])


@pytest.mark.parametrize(
    "off", [stages.top_k(0), stages.top_k(-1), stages.top_p(1.0), stages.min_p(0), stages.temp(1)]
)
def test_a_stage_turned_off_returns_its_input(off):
    before = candidates_from(LOGITS)
    assert off.apply(before, ()) is before


def test_equal_logits_come_in_id_order():
    flat = np.zeros(9, np.float32)
    assert apply(stages.top_k(4), flat).ids.tolist() == [0, 1, 2, 3]
    assert apply(stages.top_p(0.5), flat).ids.tolist() == [0, 1, 2, 3, 4]


def test_top_p_beyond_its_first_look_equals_a_full_sort():
    logits = np.random.default_rng(7).normal(size=5000).astype(np.float32)
    order = np.argsort(-logits, kind="stable")
    running = np.cumsum(candidates_from(logits).probs[order])
    expected = order[: int(np.argmax(running >= np.float32(0.9))) + 1]
    np.testing.assert_array_equal(apply(stages.top_p(0.9), logits).ids, expected)


finite = st.floats(-30, 30, width=32)


@given(st.lists(finite, min_size=1, max_size=60), st.integers(1, 70), st.floats(0.01, 1.5))
def test_no_stage_loses_the_best_token_or_invents_one(values, k, p):
    logits = np.array(values, np.float32)
    for stage in (stages.top_k(k), stages.top_p(p), stages.min_p(p), stages.temp(p)):
        result = apply(stage, logits)
        assert logits.argmax() in result.ids
        assert len(set(result.ids.tolist())) == len(result) <= logits.size
        np.testing.assert_allclose(result.probs.sum(dtype=np.float64), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stages.top_p(-0.1), "top_p: p is negative; expected a number from 0 to 1"),
        (lambda: stages.top_p(float("nan")), "top_p: p is not usable; expected a finite number"),
        (lambda: stages.min_p("half"), "min_p: p is not usable"),
        (lambda: stages.min_p(0.1, min_keep=-1), "min_p: min_keep is negative"),
        (lambda: stages.top_k(2.5), "top_k: k is not usable; expected a whole number, got 2.5"),
        (lambda: stages.top_k(True), "top_k: k is not usable"),
        (lambda: stages.temp(float("inf")), "temp: t is not usable"),
    ],
)
def test_a_bad_parameter_is_one_sentence(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def test_a_stage_prints_as_the_call_that_made_it():
    assert str(stages.top_k(40)) == "top_k(k=40)"
    assert str(stages.min_p(0.05, min_keep=2)) == "min_p(p=0.05, min_keep=2)"


def test_a_min_p_below_what_float32_holds_is_off():
    candidates = candidates_from(LOGITS)
    assert stages.min_p(1e-60).apply(candidates, ()) is candidates
