import numpy as np
import pytest

from workbench.errors import ParameterError
from workbench.sampling import SamplerChain, SamplingParams, stages
from workbench.sampling.dist import Dist

LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.3, 0.15], np.float32))


def test_the_generator_is_the_c_plus_plus_mersenne_twister():
    # std::mt19937(5489), its default seed: the 10000th output is fixed by the C++ standard
    dist = Dist(5489)
    for _ in range(4999):
        dist.uniform()
    low, high = 0, 4123659995  # outputs 9999 and 10000; only the high one is in the standard
    assert abs(dist.uniform() - (low + high * 2.0**32) / 2.0**64) < 2.0**-32


def test_params_give_the_stages_in_llama_cpps_order():
    chain = SamplerChain(SamplingParams(top_k=5, seed=3))
    assert repr(chain) == (
        "SamplerChain(top_k(k=5) -> top_p(p=0.95) -> min_p(p=0.05) -> temp(t=0.8) -> dist(seed=3))"
    )


def test_the_same_seed_draws_the_same_and_reset_starts_over():
    chain, twin = SamplerChain(SamplingParams(seed=9)), SamplerChain(SamplingParams(seed=9))
    first = [chain.sample(LOGITS)[0] for _ in range(20)]
    assert first == [twin.sample(LOGITS)[0] for _ in range(20)]
    chain.reset()
    assert first == [chain.sample(LOGITS)[0] for _ in range(20)]
    assert len(set(first)) > 1


def test_a_single_candidate_uses_up_a_number_as_in_llama_cpp():
    chain, twin = SamplerChain([stages.top_k(1)], seed=4), SamplerChain([], seed=4)
    assert chain.sample(LOGITS)[0] == 1
    twin.skip()
    chain.stages = twin.stages
    assert [chain.sample(LOGITS)[0] for _ in range(9)] == [twin.sample(LOGITS)[0] for _ in range(9)]


def test_apply_and_explain_leave_the_draw_alone():
    chain, twin = SamplerChain(), SamplerChain()
    chain.apply(LOGITS)
    chain.explain(LOGITS)
    assert [chain.sample(LOGITS)[0] for _ in range(9)] == [twin.sample(LOGITS)[0] for _ in range(9)]


def test_draws_follow_the_probabilities():
    chain = SamplerChain([], seed=1)
    counts = np.bincount([chain.sample(LOGITS)[0] for _ in range(4000)], minlength=5)
    # three standard deviations of a share of 0.4 over 4000 draws are 0.023
    np.testing.assert_allclose(counts / 4000, np.exp(LOGITS), atol=0.024)


def test_a_banned_token_is_never_drawn():
    logits = LOGITS.copy()
    logits[1] = -np.inf
    chain = SamplerChain(SamplingParams(temperature=5))
    assert 1 not in {chain.sample(logits)[0] for _ in range(200)}


def test_explain_says_who_removed_what():
    top_k, top_p, temp = SamplerChain(
        [stages.top_k(3), stages.top_p(0.8), stages.temp(0.5)]
    ).explain(LOGITS)
    assert (top_k.name, top_k.params, top_k.n_before) == ("top_k", {"k": 3}, 5)
    assert (top_k.kept.tolist(), top_k.removed.tolist()) == ([1, 3, 4], [0, 2])
    np.testing.assert_allclose(top_k.probs_before, np.exp(LOGITS), rtol=1e-6)
    np.testing.assert_allclose(top_k.probs_after, np.array([0.4, 0.3, 0.15]) / 0.85, rtol=1e-6)
    assert (top_p.kept.tolist(), top_p.removed.tolist()) == ([1, 3], [4])
    assert top_p.effect == "top_p 0.8: kept 2 of 3 tokens, removed 17.65% of the probability"
    assert (temp.kept.tolist(), temp.removed.tolist()) == ([1, 3], [])
    assert temp.effect == "temp 0.5: kept all 2 tokens, entropy 0.683 -> 0.653 nats"


def test_explain_gives_entropy_in_nats():
    (report,) = SamplerChain([stages.top_k(2)]).explain(np.zeros(8, np.float32))
    np.testing.assert_allclose(report.entropy_before, np.log(8), rtol=1e-6)
    np.testing.assert_allclose(report.entropy_after, np.log(2), rtol=1e-6)


def test_explain_names_a_stage_that_did_nothing():
    reports = SamplerChain([stages.top_k(40), stages.top_p(0.6), stages.top_k(4)]).explain(LOGITS)
    assert reports[0].effect == "top_k 40 on 5 tokens: no effect"
    assert reports[2].effect == "top_k 4 after top_p left 2: no effect"


def test_explain_counts_tokens_set_to_minus_infinity_as_removed():
    (report,) = SamplerChain([stages.temp(0)]).explain(LOGITS)
    assert (report.kept.tolist(), report.removed.tolist()) == ([1], [0, 2, 3, 4])
    assert "kept 1 of 5" in report.effect


@pytest.mark.parametrize("method", ["apply", "explain", "sample"])
@pytest.mark.parametrize(
    ("logits", "message"),
    [
        ([1, float("nan"), 2], "logits: token 1 has logit nan; expected finite"),
        ([1, 2, float("inf")], "logits: token 2 has logit inf; expected finite"),
        ([float("-inf")] * 3, r"logits: all 3 tokens are banned \(-inf\)"),
        ([], r"wrong shape; expected \(n_vocab,\) with at least one token, got \(0,\)"),
        ([[1, 2]], r"wrong shape; .*got \(1, 2\); pass one row"),
        (7.0, r"wrong shape; .*got \(\)"),
        ("abc", "logits: not an array of numbers"),
        ([[1], [2, 3]], "logits: not an array of numbers"),
        (None, r"logits: "),
    ],
)
def test_unusable_logits_are_one_sentence(method, logits, message):
    with pytest.raises(ParameterError, match=message):
        getattr(SamplerChain(), method)(logits)


@pytest.mark.parametrize("settings", [5, "top_k", [40], [stages.top_k], {"top_k": 4}])
def test_a_chain_of_something_else_is_refused(settings):
    with pytest.raises(ParameterError, match="SamplerChain: not a list of stages"):
        SamplerChain(settings)


def test_top_k_beyond_the_vocabulary_keeps_everything():
    assert len(SamplerChain([stages.top_k(10**6)]).apply(LOGITS)) == 5
