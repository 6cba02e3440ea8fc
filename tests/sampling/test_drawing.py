"""Samplers with a memory, and what a chain does with it."""

import numpy as np
import pytest

from workbench.errors import ParameterError
from workbench.sampling import SamplerChain, SamplingParams, stages
from workbench.sampling.candidates import candidates_from

RNG = np.random.default_rng(11)
ROWS = RNG.normal(size=(30, 200)).astype(np.float32) * 3
HALVES = np.log(np.array([0.5, 0.25, 0.125, 0.125], np.float32))  # 1, 2, 3 and 3 bits

SETTINGS = {
    "dist": {},
    "xtc": {"xtc_probability": 0.5, "xtc_threshold": 0.05},
    "mirostat": {"mirostat": 1},
    "mirostat_v2": {"mirostat": 2, "mirostat_tau": 3.0},
    "adaptive_p": {"samplers": ("min_p", "adaptive_p"), "adaptive_target": 0.3},
}
each_setting = pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)


def drawn(chain, rows=ROWS):
    return [chain.sample(row)[0] for row in rows]


@each_setting
def test_one_seed_gives_one_text_and_reset_starts_over(changes):
    params = SamplingParams(seed=5, **changes)
    chain = SamplerChain(params)
    first = drawn(chain)
    assert drawn(SamplerChain(params)) == first
    chain.reset()
    assert drawn(chain) == first
    assert drawn(SamplerChain(params, seed=6)) != first


@each_setting
def test_apply_and_explain_change_nothing_that_is_remembered(changes):
    chain, twin = (SamplerChain(SamplingParams(seed=5, **changes)) for _ in range(2))
    for row in ROWS:
        left = chain.apply(row)
        np.testing.assert_array_equal(chain.explain(row)[-1].after.ids, left.ids)
        token_id, used = chain.sample(row)
        np.testing.assert_array_equal(used.ids, left.ids)
        assert token_id == twin.sample(row)[0]


@each_setting
def test_a_fork_goes_its_own_way_from_the_same_state(changes):
    chain = SamplerChain(SamplingParams(seed=5, **changes))
    drawn(chain, ROWS[:7])
    fork = chain.fork()
    want = drawn(chain, ROWS[7:])
    assert drawn(fork, ROWS[7:]) == want


@each_setting
def test_stages_of_one_chain_are_not_moved_by_another(changes):
    first = SamplerChain(SamplingParams(seed=5, **changes))
    made = [*first.stages, first.last] if first.last not in first.stages else first.stages
    one, other = SamplerChain(made), SamplerChain(made)
    assert drawn(one) == drawn(other) == drawn(first)


def test_mirostat_2_keeps_tokens_of_at_most_mu_bits():
    keep = [
        len(SamplerChain([stages.mirostat_v2(tau=tau)]).apply(HALVES)) for tau in (0.4, 0.6, 1, 2)
    ]
    assert keep == [1, 1, 2, 4]  # mu = 0.8, 1.2, 2 and 4 bits; the best token always stays


def test_mirostat_learns_from_the_token_that_was_accepted():
    chain = SamplerChain([stages.mirostat_v2(tau=2.0, eta=0.5)])
    chain.apply(HALVES)  # all four stay: mu = 4
    chain.accept(0)  # 1 bit: one below tau, so mu = 4 + 0.5 * 1
    np.testing.assert_allclose(chain.last.memory.mu, 4.5, rtol=1e-6)
    chain.apply(HALVES)
    chain.accept(3)  # 3 bits
    np.testing.assert_allclose(chain.last.memory.mu, 4.0, rtol=1e-6)
    chain.accept(3)  # nothing was proposed since
    np.testing.assert_allclose(chain.last.memory.mu, 4.0, rtol=1e-6)
    chain.apply(HALVES)
    chain.accept(99)  # no candidate
    np.testing.assert_allclose(chain.last.memory.mu, 4.0, rtol=1e-6)


@pytest.mark.parametrize("tau", [0.0, -3.0])
@pytest.mark.parametrize("make", [stages.mirostat, stages.mirostat_v2])
def test_mirostat_that_allows_no_surprise_takes_the_best_token(make, tau):
    chain = SamplerChain([make(tau=tau, eta=0.0)])
    assert drawn(chain) == ROWS.argmax(axis=1).tolist()


@pytest.mark.parametrize("logits", [np.zeros(9), [1.0], [3.0, -np.inf, -np.inf], np.eye(4)[0] * 90])
def test_mirostat_1_survives_distributions_without_a_slope(logits):
    assert len(SamplerChain([stages.mirostat()]).apply(np.array(logits, np.float32))) >= 1


def test_adaptive_p_favours_the_token_nearest_to_the_target():
    for target, best in ((0.5, 0), (0.25, 1)):
        left = SamplerChain([stages.adaptive_p(target)]).apply(HALVES)
        assert left.ids[left.probs.argmax()] == best and not left.sorted


def test_adaptive_p_makes_up_for_tokens_that_were_too_probable():
    chain = SamplerChain([stages.adaptive_p(0.3, decay=0.5)])
    before = chain.apply(HALVES).probs
    chain.accept(0)
    after = chain.apply(HALVES).probs
    assert after[0] < before[0] and after[2] > before[2]


def test_a_negative_target_turns_adaptive_p_into_a_plain_draw():
    chain = SamplerChain([stages.adaptive_p(-1.0, seed=3)])
    np.testing.assert_array_equal(chain.apply(HALVES).logits, HALVES)
    assert drawn(chain) == drawn(SamplerChain([], seed=3))


def test_xtc_leaves_the_last_token_above_its_threshold():
    left = stages.xtc(1.0, 0.2).apply(candidates_from(HALVES), ())
    assert left.ids.tolist() == [1, 2, 3]
    assert len(stages.xtc(1.0, 0.2, min_keep=4).apply(candidates_from(HALVES), ())) == 4


def test_xtc_strikes_as_often_as_its_probability_says():
    chain = SamplerChain([stages.xtc(0.3, 0.2, seed=1)])
    struck = [len(chain.sample(HALVES)[1]) == 3 for _ in range(2000)]
    # three standard deviations of a share of 0.3 over 2000 draws are 0.031
    np.testing.assert_allclose(np.mean(struck), 0.3, atol=0.031)


@pytest.mark.parametrize("name", ["dist", "greedy", "mirostat", "mirostat_v2"])
def test_nothing_comes_after_the_stage_that_picks(name):
    with pytest.raises(ParameterError, match=f"{name} picks the token; expected it as the last"):
        SamplerChain([getattr(stages, name)(), stages.top_k(5)])


def test_greedy_takes_the_first_of_equal_logits_and_needs_no_number():
    chain = SamplerChain([stages.greedy()])
    assert chain.sample(np.array([1, 3, 3], np.float32))[0] == 1 and chain.drawn is None


def test_the_number_that_chose_a_token_is_told():
    chain = SamplerChain([], seed=2)
    token_id, left = chain.sample(ROWS[0])
    shares = np.cumsum(left.probs.astype(np.float64))
    assert shares[token_id - 1] < chain.drawn * shares[-1] <= shares[token_id] + 1e-6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stages.dist(-1), r"dist: seed: expected a whole number below 2\*\*32, got -1"),
        (lambda: stages.dist(2**32), "dist: seed: expected a whole"),
        (lambda: stages.mirostat(tau=float("inf")), "mirostat: tau is not usable"),
        (lambda: stages.mirostat(m=2.5), "mirostat: m is not usable"),
        (lambda: stages.adaptive_p("a"), "adaptive_p: target is not usable"),
        (lambda: stages.xtc(-0.1, 0.1), "xtc: probability is negative"),
        (lambda: SamplerChain(seed="a"), "SamplerChain: seed is not usable"),
    ],
)
def test_a_bad_parameter_is_one_sentence(make, message):
    with pytest.raises(ParameterError, match=message):
        make()
