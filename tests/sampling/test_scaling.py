"""Temperatures that look at the distribution first."""

import numpy as np
import pytest

from workbench.errors import ParameterError
from workbench.sampling import stages
from workbench.sampling.candidates import candidates_from
from workbench.sampling.stages.scaling import mood_of

FLAT = np.zeros(8, np.float32)
PEAK = np.array([30, 0, 0, 0], np.float32)
SIGMA_PAIRS = [  # llama.cpp 0c1e570: how many of two logits its top_n_sigma(2) keeps
    ((-0.8568108, 7.802783), 1),
    ((7.058921, -1.6525317), 1),
    ((-2.7988293, 12.737869), 1),
    ((0.016984712, -0.77404), 2),
    ((0.8391098, -1.9919132), 2),
    ((0.07224837, -10.087893), 2),
]
TWO_MINDS = np.concatenate([[7.0], np.zeros(1000)]).astype(np.float32)  # one good token, or any


def apply(stage, logits):
    return stage.apply(candidates_from(logits), ())


def test_dynamic_temperature_is_highest_where_all_tokens_are_equal():
    slope = np.log(np.array([4, 1, 1, 1, 1], np.float32))  # half of it, and four eighths
    entropy = 0.5 * np.log(2) + 0.5 * np.log(8)
    t = 0.5 + (1.5 - 0.5) * entropy / np.log(5)
    np.testing.assert_allclose(apply(stages.temp_ext(1.0, 0.5), slope).logits, slope / t, rtol=1e-6)
    np.testing.assert_allclose(apply(stages.temp_ext(1.0, 0.5), FLAT).logits, FLAT)
    squared = 0.5 + (1.5 - 0.5) * (entropy / np.log(5)) ** 2
    result = apply(stages.temp_ext(1.0, 0.5, exponent=2.0), slope)
    np.testing.assert_allclose(result.logits, slope / squared, rtol=1e-6)


def test_dynamic_temperature_without_a_range_is_temperature():
    for t in (0.0, 0.7, 2.0):
        ours, plain = apply(stages.temp_ext(t), PEAK), apply(stages.temp(t), PEAK)
        np.testing.assert_array_equal(ours.logits, plain.logits)
    assert stages.temp_ext(1.0).off == "temperature 1: off"


@pytest.mark.parametrize(("logits", "mood"), [(PEAK, "sure"), (FLAT, "open"), (TWO_MINDS, "lost")])
def test_entropy_and_varentropy_tell_the_mood(logits, mood):
    assert mood_of(candidates_from(logits), 1.5, 2.0)[0] == mood
    assert mood_of(candidates_from(TWO_MINDS), 9.0, 2.0)[0] == "fork"


def test_entropy_and_varentropy_are_mean_and_variance_of_the_surprise():
    logits = np.log(np.array([0.5, 0.25, 0.25], np.float32))
    _, h, v = mood_of(candidates_from(logits), 1, 1)
    np.testing.assert_allclose(h, 1.5 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(v, 0.25 * np.log(2) ** 2, rtol=1e-6)
    _, h, v = mood_of(candidates_from([0.0, -np.inf]), 1, 1)
    assert (h, v) == (0, 0)


def test_a_sure_model_says_its_best_token():
    assert apply(stages.entropy_guided(1.5), PEAK).ids.tolist() == [0]


def test_an_open_choice_stays_as_it_is():
    before = candidates_from(FLAT)
    assert stages.entropy_guided(1.5).apply(before, ()) is before


def test_a_fork_is_flattened():
    after = apply(stages.entropy_guided(9.0, 2.0, strength=0.5), TWO_MINDS)
    np.testing.assert_allclose(after.logits, TWO_MINDS / 1.5, rtol=1e-6)


def test_a_lost_model_loses_its_tail_and_is_sharpened():
    logits = np.concatenate([[7.0, 6.0], np.zeros(500)]).astype(np.float32)
    _, h, v = mood_of(candidates_from(logits), 1.5, 2.0)
    assert 1.6 < h + np.sqrt(v) < 7.6  # nats of the second token, and of each of the 500
    after = apply(stages.entropy_guided(1.5, 2.0, strength=0.5), logits)
    assert after.ids.tolist() == [0, 1]
    np.testing.assert_allclose(after.logits, logits[:2] * 1.5, rtol=1e-6)


def test_entropy_guided_sampling_is_off_at_zero():
    assert stages.entropy_guided(0).off == "entropy_threshold 0: off"
    with pytest.raises(ParameterError, match="entropy_guided: strength is negative"):
        stages.entropy_guided(1, strength=-1)


def test_typical_keeps_the_tokens_nearest_to_the_entropy():
    # surprises 0.69, 1.39, 2.08, 2.08 nats around an entropy of 1.21
    logits = np.log(np.array([0.5, 0.25, 0.125, 0.125], np.float32))
    assert apply(stages.typical(0.2), logits).ids.tolist() == [1]
    assert apply(stages.typical(0.3), logits).ids.tolist() == [1, 0]
    assert apply(stages.typical(0.2, min_keep=3), logits).ids.tolist() == [1, 0, 2]


def test_two_tokens_are_both_within_two_deviations_as_c_rounds_them():
    # both are one deviation from the mean, so the lower one lies on the very edge of n = 2
    for pair, n_kept in SIGMA_PAIRS:
        kept = apply(stages.top_n_sigma(2.0), np.array(pair, np.float32)).logits > -np.inf
        assert kept.sum() == n_kept, pair


def test_top_n_sigma_bans_what_is_far_below_the_best():
    logits = np.array([10, 9, 0, 0, 1, -np.inf], np.float32)  # mean 4, deviation 4.52
    kept = apply(stages.top_n_sigma(1.0), logits).logits
    np.testing.assert_array_equal(kept, [10, 9] + [-np.inf] * 4)
    np.testing.assert_array_equal(apply(stages.top_n_sigma(3.0), logits).logits, logits)
