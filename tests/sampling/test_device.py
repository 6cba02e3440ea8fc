import re
from contextlib import nullcontext

import numpy as np
import pytest

from tests.ops.fibers import needs_compiler
from tests.ops.sampling_cases import CpuSampler
from workbench.errors import ParameterError
from workbench.sampling import SamplerChain, SamplingParams, stages
from workbench.sampling.device import AHEAD, device_draws, why_not_on_device

N_VOCAB = 300


class Cache:
    """The tokens of a KV cache."""

    def __init__(self, n_past):
        self.token_ids = list(range(n_past))

    @property
    def n_past(self):
        return len(self.token_ids)

    def appending(self, token_ids):
        self.token_ids += token_ids
        return nullcontext()


class Graph:
    """A model whose logits follow from the token and its position; the kernels run on the CPU."""

    stream = None

    def __init__(self):
        self.sampler, self.n_launched = CpuSampler(N_VOCAB), 0

    def launch(self):
        token, position, _, stop = (int(word) for word in self.sampler.state[:4])
        self.n_launched += 1
        if not stop:
            self.sampler.logits[:] = logits_after(token, position)
            self.sampler.enqueue()


def logits_after(token, position):
    rng = np.random.default_rng([token, position])
    return (2 * rng.normal(size=N_VOCAB)).astype(np.float32)


def chain_draws(chain, token, position, n):
    """The tokens that the chain draws on the host."""
    drawn = []
    for i in range(n):
        token, left = chain.sample(logits_after(token, position + i))
        drawn.append((token, left))
    return drawn


@pytest.mark.parametrize(
    "chain",
    [
        SamplerChain(),
        SamplerChain([stages.top_k(3)]),
        SamplerChain([stages.top_k(10000)]),
        SamplerChain([]),
        SamplerChain([stages.min_p(0.1), stages.temp(0)]),
        SamplerChain([stages.top_k(0), stages.top_p(0.5, min_keep=1)]),
    ],
    ids=str,
)
def test_chains_of_the_four_stages_in_order_run_on_the_device(chain):
    assert why_not_on_device(chain, 10000) is None


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        ([stages.temp(0.5), stages.top_k(3)], "in that order, the chain is temp -> top_k"),
        ([stages.top_p(0.5), stages.top_p(0.4)], "the chain is top_p -> top_p"),
        ([stages.top_k(5000)], r"up to 2048 candidates in order, got top_k\(k=5000\); 0 is off"),
        ([stages.top_p(0.5, min_keep=2)], "has min_keep"),
        ([stages.min_p(1.5)], "min_p up to 1"),
        ([stages.temp(1e39)], "temperatures that float32 holds"),
        ([stages.Stage("dry", {}, lambda c, h: c)], "no kernel for dry"),
        ([stages.Stage("temp", {}, lambda c, h: c)], "no kernel for temp"),
    ],
)
def test_what_the_device_cannot_run_is_named(chain, reason):
    assert re.search(reason, why_not_on_device(SamplerChain(chain), 10000))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"penalty_repeat": 1.1}, "the GPU has no kernel for penalties"),
        ({"dry_multiplier": 1, "dry_sequence_breakers": ()}, "no kernel for dry"),
        ({"logit_bias": {1: 1.0}}, "no kernel for logit_bias"),
        ({"xtc_probability": 0.1}, "no kernel for xtc"),
        ({"typ_p": 0.5}, "no kernel for typical 0.5"),
        ({"top_n_sigma": 1}, "no kernel for top_n_sigma 1"),
        ({"dynatemp_range": 0.1}, "no kernel for temp_ext"),
        ({"entropy_threshold": 1}, "no kernel for entropy_guided"),
        ({"mirostat": 2}, "draws by probability, and the chain ends with mirostat_v2"),
        ({"adaptive_target": 0.3}, "the chain ends with adaptive_p"),
    ],
)
def test_settings_without_a_kernel_are_named(changes, reason):
    assert reason in why_not_on_device(SamplerChain(SamplingParams(**changes)), 10000)
    assert why_not_on_device(SamplerChain(grammar=object()), 10000) == "the GPU knows no grammar"


@needs_compiler
@pytest.mark.parametrize("params", [{}, {"top_k": 0, "top_p": 1, "min_p": 0, "temperature": 2}])
def test_draws_read_behind_are_those_of_the_host(params):
    settings = SamplingParams(seed=6, **params)
    chain, twin, graph, cache = SamplerChain(settings), SamplerChain(settings), Graph(), Cache(5)
    drawn = list(device_draws(graph, logits_after(4, 4), chain, cache, 30))
    want = chain_draws(twin, 4, 4, 30)
    assert [draw.token_id for draw in drawn] == [token for token, _ in want]
    for draw, (_, left) in zip(drawn, want, strict=True):
        np.testing.assert_array_equal(draw.candidates.ids, left.ids)
        np.testing.assert_array_equal(draw.candidates.probs, left.probs)
    assert cache.token_ids[5:] == [token for token, _ in want[:-1]]  # the last needs no slot
    assert chain.sample(np.zeros(9))[0] == twin.sample(np.zeros(9))[0]  # generators are even
    assert graph.n_launched == 29


@needs_compiler
def test_closing_early_leaves_cache_and_generator_where_the_host_was():
    chain, twin, graph, cache = SamplerChain(), SamplerChain(), Graph(), Cache(3)
    draws = device_draws(graph, logits_after(2, 2), chain, cache, 100)
    got = [next(draws).token_id for _ in range(4)]
    draws.close()
    assert got == [token for token, _ in chain_draws(twin, 2, 2, 4)]
    assert cache.token_ids[3:] == got[:3]
    assert chain.sample(np.zeros(9))[0] == twin.sample(np.zeros(9))[0]
    assert graph.n_launched <= 4 + AHEAD and graph.sampler.state[3] == 1


@needs_compiler
def test_after_a_stop_token_the_device_draws_no_more():
    chain, graph, cache = SamplerChain(SamplingParams(temperature=0)), Graph(), Cache(3)
    tokens = [token for token, _ in chain_draws(SamplerChain(chain.stages), 2, 2, 4)]
    draws = list(device_draws(graph, logits_after(2, 2), chain, cache, 100, [tokens[3]]))
    assert [draw.token_id for draw in draws] == tokens
    assert graph.sampler.state[2] == 4


@needs_compiler
def test_unusable_logits_raise_what_the_chain_raises():
    logits = logits_after(2, 2)
    logits[77] = np.nan
    with pytest.raises(ParameterError, match="token 77 has logit nan"):
        next(device_draws(Graph(), logits, SamplerChain(), Cache(3), 5))


@needs_compiler
def test_more_candidates_than_are_listed_have_their_share_in_the_tail():
    sampler, chain = CpuSampler(6000), SamplerChain([])
    graph = Graph()
    graph.sampler = sampler
    logits = np.linspace(0, 1, 6000).astype(np.float32)
    draw = next(device_draws(graph, logits, chain, Cache(3), 1))
    want = np.exp(logits - 1.0) / np.exp(logits - 1.0).sum(dtype=np.float64)
    np.testing.assert_allclose(draw.candidates.probs, want[draw.candidates.ids], rtol=1e-5)
    assert draw.candidates.tail > 0 and len(draw.candidates) < 6000
