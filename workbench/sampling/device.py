"""Which chains the GPU can run by itself, and the tokens it draws, read behind.

    host                  GPU
    launch 0 … 8   ──▶    token 0, token 1, token 2 …     each drawn where its logits are
    yield token 0  ◀──    record 0                        the host is AHEAD launches in front
    launch 9       ──▶

A chain is served when what is on of it is top_k, top_p, min_p, temp, or some of these, in that
order, and dist; tokens, candidates and random numbers then are those of `SamplerChain.sample`.
Source: workbench/ops/kernels/sample.cu. Leaves out: samplers that need the history, which the
host's chain has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..ops import sampling_layout as layout
from .candidates import Candidates
from .chain import SamplerChain
from .stages import Stage

__all__ = ["DecodeGraph", "Draw", "device_draws", "why_not_on_device"]

STAGES = Stage.__module__.rpartition(".")[0]  # whose functions the kernels repeat
ORDER = ("top_k", "top_p", "min_p", "temp")
AHEAD = 8  # tokens that may be on their way while the host looks at one
LARGEST_TEMPERATURE = 3e38


@dataclass(frozen=True, eq=False)
class Draw:
    """One token out of the model: token_id; logprob over all logits; candidates it was among."""

    token_id: int
    logprob: float
    candidates: Candidates


class DecodeGraph(Protocol):
    """One token of a model on the GPU, as a CUDA graph that ends with the sampler's kernels.

    launch: enqueues one token, from the state's token and position to the next. sampler: a
    `workbench.ops.cuda_sampling.DeviceSampler`, whose logits and state the graph reads and writes.
    stream: on which it is launched.
    """

    sampler: Any
    stream: Any

    def launch(self) -> None:
        """Enqueue one token."""


def why_not_on_device(chain: SamplerChain, n_vocab: int) -> str | None:
    """Why the GPU cannot run a chain by itself, in one sentence; None if it can.

    n_vocab: tokens of the model.
    """
    if chain.grammar is not None:
        return "the GPU knows no grammar"
    if chain.last.name != "dist":
        return f"the GPU draws by probability, and the chain ends with {chain.last.name}"
    places, active = [], [stage for stage in chain.stages if not stage.off]
    for stage in active:
        reason = _why_not(stage, n_vocab)
        if reason:
            return reason
        places.append(ORDER.index(stage.name))
    if places != sorted(set(places)):
        names = " -> ".join(stage.name for stage in active)
        return f"the GPU runs {' -> '.join(ORDER)} in that order, the chain is {names}"
    return None


def _why_not(stage: Stage, n_vocab: int) -> str | None:
    """Why the GPU has no kernel for a stage."""
    if stage.name not in ORDER or not stage.apply.__module__.startswith(STAGES):
        return f"the GPU has no kernel for {stage.label}"
    params = stage.params
    if params.get("min_keep", 0) > 1:
        return f"the GPU keeps no more than asked for, and {stage} has min_keep"
    if layout.CAPACITY < params.get("k", 0) < n_vocab:
        return f"the GPU puts up to {layout.CAPACITY} candidates in order, got {stage}; 0 is off"
    if stage.name == "min_p" and params["p"] > 1:
        return f"the GPU takes min_p up to 1, got {stage}"
    if params.get("t", 1) > LARGEST_TEMPERATURE:
        return f"the GPU takes temperatures that float32 holds, got {stage}"
    return None


def device_settings(chain: SamplerChain, stop_ids: Sequence[int] = ()) -> np.ndarray:
    """The settings of a chain that `why_not_on_device` lets pass, as the kernels read them.

    stop_ids: tokens after which no more are drawn. Returns: (1,) `sampling_layout.SETTINGS`.
    """
    params = {stage.name: stage.params for stage in chain.stages if not stage.off}
    return layout.settings_record(
        top_k=max(0, params.get("top_k", {}).get("k", 0)),
        top_p=params.get("top_p", {}).get("p", 1.0),
        min_p=params.get("min_p", {}).get("p", 0.0),
        temperature=params.get("temp", {}).get("t", 1.0),
        stop_ids=tuple(stop_ids),
    )


def device_draws(
    graph: DecodeGraph,
    logits: Any,
    chain: SamplerChain,
    cache: Any,
    n_most: int,
    stop_ids: Sequence[int] = (),
) -> Iterator[Draw]:
    """Tokens drawn on the GPU, up to n_most; closing the iterator stops it at once.

    logits: (V,) float32 on the GPU, of the last token in the cache. cache: a KVCache, in which the
    graph writes behind n_past; it holds a token once the draw after it is asked for.
    stop_ids: tokens after which there are no others. The chain's generator moves on with the draws
    that were yielded.
    Raises: ParameterError, as the chain does, when logits hold NaN, +inf or nothing but -inf.
    """
    sampler, stream = graph.sampler, graph.stream
    last, position = int(cache.token_ids[-1]), cache.n_past - 1
    settings = device_settings(chain, stop_ids)
    sampler.begin(logits, settings, chain.generator_state(), last, position, stream)
    n_launched, token_id = 1, None
    try:
        for step in range(n_most):
            while n_launched < min(step + 1 + AHEAD, n_most):
                graph.launch()
                n_launched += 1
            if token_id is not None:
                with cache.appending([token_id]):
                    pass  # the graph has written its keys and values
            drawn = sampler.wait(step, stream)
            if drawn.unusable:
                chain.apply(sampler.host_logits(stream))  # says what is wrong with them
            if drawn.drew:
                chain.skip()
            token_id = drawn.token_id
            left = Candidates(drawn.ids, drawn.logits, drawn.sorted, drawn.tail)
            yield Draw(token_id, drawn.logprob, left)
            if token_id in stop_ids:
                return
    finally:
        sampler.stop(stream)
