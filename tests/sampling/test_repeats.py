"""Bias, penalties and DRY, with answers that can be seen by eye."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ParameterError
from workbench.sampling import stages
from workbench.sampling.candidates import candidates_from
from workbench.sampling.stages.dry import breaker_tokens, repeated_lengths

LOGITS = np.array([2.0, -2.0, 1.0, 0.5], np.float32)


def moved(stage, history=(), logits=LOGITS):
    return stage.apply(candidates_from(logits), history).logits.tolist()


def test_a_repeat_penalty_divides_positive_and_multiplies_negative_logits():
    assert moved(stages.penalties(4, repeat=2.0), [0, 1]) == [1.0, -4.0, 1.0, 0.5]


def test_frequency_counts_each_time_and_presence_once():
    assert moved(stages.penalties(9, freq=0.25), [2, 2, 2, 3]) == [2.0, -2.0, 0.25, 0.25]
    assert moved(stages.penalties(9, present=0.25), [2, 2, 2, 3]) == [2.0, -2.0, 0.75, 0.25]


def test_only_the_last_n_tokens_are_penalized():
    assert moved(stages.penalties(2, present=1.0), [0, 0, 1, 2]) == [2.0, -3.0, 0.0, 0.5]


@pytest.mark.parametrize("history", [[], [99, -5, 2**31], np.array([], np.int32)])
def test_an_empty_history_and_ids_outside_the_vocabulary_move_nothing(history):
    assert moved(stages.penalties(9, repeat=2.0, freq=1, present=1), history) == LOGITS.tolist()
    assert moved(stages.dry(1.0, breakers=()), history) == LOGITS.tolist()


def test_tokens_are_found_where_the_candidates_are_few_and_in_another_order():
    left = stages.top_k(3).apply(candidates_from(LOGITS), ())
    assert left.ids.tolist() == [0, 2, 3]
    after = stages.penalties(9, present=1.0).apply(left, [1, 2, 3])
    assert after.logits.tolist() == [2.0, 0.0, -0.5] and not after.sorted
    biased = stages.logit_bias({3: 9.0, 1: 5.0}).apply(left, ())
    assert biased.logits.tolist() == [2.0, 1.0, 9.5] and not biased.sorted


def test_a_bias_is_added_and_minus_infinity_bans():
    assert moved(stages.logit_bias({0: -1.5, 3: -np.inf, 77: 4})) == [0.5, -2.0, 1.0, -np.inf]
    assert moved(stages.logit_bias([(0, 1.0), (0, 1.0)])) == [4.0, -2.0, 1.0, 0.5]


def test_the_input_is_not_written_to():
    logits = LOGITS.copy()
    for stage in (stages.logit_bias({0: 1}), stages.penalties(4, present=1.0)):
        moved(stage, [0], logits)
    moved(stages.dry(1.0, 2.0, 1, breakers=()), [0, 1, 0], logits)
    np.testing.assert_array_equal(logits, LOGITS)


def test_dry_lowers_the_token_that_would_go_on_with_the_repeat():
    # 0 1 2 3 … 0 1 2 -> 3 would make a repeat of four; three are there already
    history = [0, 1, 2, 3, 9, 0, 1, 2]
    assert repeated_lengths(history, 2, {}) == {3: 3}
    # 0.5 * 2 ** (3 - 2) = 1
    assert moved(stages.dry(0.5, 2.0, 2, breakers=()), history) == [2.0, -2.0, 1.0, -0.5]


def test_dry_lets_repeats_up_to_the_allowed_length_pass():
    assert repeated_lengths([0, 1, 2, 3, 9, 0, 1, 2], 4, {}) == {}


def test_dry_forgets_what_is_before_a_breaker():
    assert repeated_lengths([0, 1, 2, 3, 9, 0, 1, 2], 2, {0: [()]}) == {3: 2}
    assert repeated_lengths([0, 1, 2, 3, 9, 0, 1, 2], 2, {1: [()]}) is None
    # a breaker of two tokens, 9 then 0, and one that is not complete, 9 then 7
    assert repeated_lengths([0, 1, 2, 3, 9, 0, 1, 2], 1, {9: [(0,)]}) == {3: 2}
    assert repeated_lengths([0, 1, 2, 3, 9, 0, 1, 2], 1, {9: [(7,)]}) == {3: 3}


def test_a_breaker_itself_is_never_lowered():
    stage = stages.dry(1.0, 2.0, 1, breakers=["c"], tokenizer=Letters())
    history = [3, 0, 1, 2, 3, 0, 1]  # "d a b c d a b": "c" would go on, and is a breaker
    assert repeated_lengths(history, 1, breaker_tokens(("c",), Letters())) == {2: 3}
    assert moved(stage, history) == LOGITS.tolist()


class Letters:
    """A vocabulary: a, b, c, d, ab, cd."""

    n_vocab = 6
    words = (b"a", b"b", b"c", b"d", b"ab", b"cd")

    def decode_bytes(self, ids):
        return b"".join(self.words[i] for i in ids)

    def encode(self, text, add_special):
        assert not add_special
        return ["abcd".index(letter) for letter in text]


def test_breakers_are_found_inside_tokens_and_across_them():
    assert breaker_tokens(("b",), Letters()) == {1: [()], 4: [()]}
    # "bc": after "b" or "ab" comes c
    assert breaker_tokens(("bc",), Letters()) == {1: [(2,)], 4: [(2,)]}
    assert breaker_tokens(("",), Letters()) == {}


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 4))
def test_repeats_are_those_found_by_comparing_every_pair_of_places(tokens, allowed):
    longest = {}
    for end in range(1, len(tokens)):  # a passage that ends before `end`
        same = 0
        while same < end and tokens[end - 1 - same] == tokens[len(tokens) - 1 - same]:
            same += 1
        if same >= allowed:
            longest[tokens[end]] = max(longest.get(tokens[end], 0), same)
    assert (repeated_lengths(tokens, allowed, {}) or {}) == longest


def test_a_repeat_of_any_length_stays_within_float32():
    (low, *_) = moved(stages.dry(1.0, 3.0, 1, 500, breakers=()), [0] * 500)
    assert low == -np.float32(3.0**80)  # ln of the largest float32 is 88.7 = 80.8 ln 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stages.dry(0.8), "dry: breakers are texts, and there is no tokenizer"),
        (lambda: stages.dry(0.8, breakers="abc"), "breakers: expected a list of texts, got 'abc'"),
        (lambda: stages.dry(float("nan")), "dry: multiplier is not usable"),
        (lambda: stages.penalties(1.5), "penalties: last_n is not usable; expected a whole"),
        (lambda: stages.penalties(64, repeat=0), "repeat: expected a number above 0, got 0"),
        (lambda: stages.logit_bias({-1: 1.0}), "logit_bias: expected token ids from 0 up, got -1"),
        (lambda: stages.logit_bias({1: np.inf}), "token 1: expected a finite number, or -inf"),
        (lambda: stages.logit_bias([(1, "a")]), "token 1: expected a finite number"),
        (lambda: stages.logit_bias(5), "expected a mapping of token id to number, or pairs"),
        (lambda: moved(stages.penalties(9, 2.0), ["a"]), "history: expected token ids"),
        (lambda: moved(stages.penalties(9, 2.0), [1.5]), "history: expected token ids"),
    ],
)
def test_a_bad_parameter_is_one_sentence(make, message):
    with pytest.raises(ParameterError, match=message):
        make()
