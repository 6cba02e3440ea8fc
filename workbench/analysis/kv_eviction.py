"""A KV cache that forgets: a policy replayed on a recorded run, and really run.

    token p comes ─► the policy makes room ─► p's shares over what is held, scaled up to 1 ─► next

`replay_eviction` asks a recorded run how much attention would have been lost. `run_eviction` sends
the text through the model and takes the positions away in every layer: the shares of those held,
divided by their sum, are exactly the softmax over a cache without the others. All tokens go
through a layer in one pass, and are then taken one after another, as the policy would have to.
Sources: the papers that `kv_policies.py` names.
Left out: what the policies' own bookkeeping takes; moving what is left together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..errors import ParameterError, UnsupportedError, WorkbenchError
from ..model import ActivationTrace, KVRun, Model, to_numpy
from ..model.kv_checks import demand_instance, is_integer
from .kv_held import HeldPositions
from .kv_policies import Policy, checked_budget, eviction_policy, full
from .kv_stats import CacheEffect, cache_effect, checked_seed, checked_text

__all__ = [
    "EvictionReplay",
    "EvictionResult",
    "checked_eviction",
    "full_logits",
    "replay_eviction",
    "run_eviction",
]

LEAST_SINK_SHARE = 0.01  # a recorded row, rounded to float16, adds up to 1 within less


@dataclass(frozen=True, eq=False)
class EvictionReplay:
    """What a policy would have taken away from a recorded text: N tokens, L layers.

    policy, budget: as asked for. lost: (N, L) float64, the share of each token's attention that
    falls on positions gone by then, mean over heads. gone_at: for each layer (K, N) int64, the
    position of the token before which each position went; N: it stayed.
    """

    policy: str
    budget: int
    lost: np.ndarray
    gone_at: tuple[np.ndarray, ...]

    @property
    def mean_lost(self) -> float:
        """Mean over tokens and layers."""
        return float(self.lost.mean())

    def kept(self, layer: int, position: int) -> np.ndarray:
        """(K, position + 1) bool: which positions the token at a position sees.

        Raises: ParameterError for a layer or position that is not there.
        """
        return _kept(self.gone_at, layer, position)


@dataclass(frozen=True, eq=False)
class EvictionResult:
    """What a policy did to a model's predictions.

    policy, budget: as asked for. n_prompt: tokens that saw everything. effect: of the tokens after
    them. gone_at: as of `EvictionReplay`.
    """

    policy: str
    budget: int
    n_prompt: int
    effect: CacheEffect
    gone_at: tuple[np.ndarray, ...]

    def kept(self, layer: int, position: int) -> np.ndarray:
        """As of `EvictionReplay`."""
        return _kept(self.gone_at, layer, position)

    def to_row(self) -> dict[str, Any]:
        """A row of a table."""
        return {"policy": self.policy, "budget": self.budget, **self.effect.to_row()}


def _kept(gone_at: tuple[np.ndarray, ...], layer: int, position: int) -> np.ndarray:
    for name, value, n in (("layer", layer, len(gone_at)), ("position", position, _n(gone_at))):
        if not is_integer(value) or not 0 <= value < n:
            raise ParameterError(
                f"{name}: not in this result; expected from 0 to {n - 1}, got {value!r}"
            )
    return gone_at[layer][:, : position + 1] > position


def _n(gone_at: tuple[np.ndarray, ...]) -> int:
    """Tokens of the text."""
    return gone_at[0].shape[1]


def replay_eviction(
    run: KVRun, policy: str | Policy, budget: int, n_prompt: int = 0, seed: int = 0
) -> EvictionReplay:
    """Let a policy decide on a recorded run: which positions it would drop, what they got.

    run: of a `KVRecorder`, from position 0 on. policy, budget, n_prompt, seed: as for
    `run_eviction`. Scores are the recorded shares over what is held, so later layers' decisions may
    differ from a real run's, in which what came before has changed.
    Returns: EvictionReplay. Raises: ParameterError.
    """
    demand_instance("run", run, KVRun, "KVRecorder.run or KVRun.load")
    if run.first:
        raise ParameterError(
            f"run: begins in the middle of a text; expected its first position to be 0, got "
            f"{run.first}; record with an empty cache"
        )
    name, function, budget = checked_eviction(policy, budget, n_prompt, run.n_tokens, seed)
    layers = _layers(function, budget, n_prompt, run.n_tokens, run.n_layer, seed)
    lost = np.zeros((run.n_tokens, run.n_layer))
    for layer, held in enumerate(layers):
        norms = run.k_norm[:, layer, : run.n_head_kv[layer]]
        held.add_key_norms(norms if run.per_head else norms.mean(axis=1, keepdims=True))
        for step in range(run.n_tokens):
            shares = run.mass(step, layer).astype(np.float32)
            has_sink = bool((shares.sum(axis=1) < 1 - LEAST_SINK_SHARE).any())
            lost[step, layer] = held.see(shares, has_sink).mean()
    return EvictionReplay(name, budget, lost, tuple(held.gone_at for held in layers))


def run_eviction(
    model: Model,
    ids: str | Sequence[int],
    policy: str | Policy,
    budget: int,
    n_prompt: int = 0,
    seed: int = 0,
    base: np.ndarray | None = None,
) -> EvictionResult:
    """Send a text through a model whose KV cache forgets, and compare with the full cache.

    ids: the text, or its token ids. policy: a name of EVICTION_POLICIES, or a function (seen,
    budget, rng) -> (K, n) bool. budget: positions that any token sees, itself included, in each
    layer and KV head. n_prompt: tokens at the start that see everything, as prompts do; by default
    the budget holds from the first. seed: of `random`. base: `full_logits` of the same text, which
    are computed else. Takes 8 bytes for each token and entry of the vocabulary.
    Returns: EvictionResult. Raises: ParameterError.
    """
    ids = checked_text(model, ids)
    name, function, budget = checked_eviction(policy, budget, n_prompt, len(ids), seed)
    base = full_logits(model, ids) if base is None else _checked_base(base, model, ids)
    layers = _layers(function, budget, n_prompt, len(ids), model.config.n_layer, seed)
    logits, slots = _run(model, ids, layers)
    nbytes = sum(
        int((held.gone_at == len(ids)).sum()) * row_bytes // len(held.gone_at)
        for held, row_bytes in zip(layers, slots, strict=True)
    )
    effect = cache_effect(base, logits, ids, nbytes, n_prompt)
    return EvictionResult(name, budget, n_prompt, effect, tuple(held.gone_at for held in layers))


def full_logits(model: Model, ids: str | Sequence[int]) -> np.ndarray:
    """(T, n_vocab) float32: a text under the full float16 cache, computed as `run_eviction` does.

    Raises: ParameterError.
    """
    ids = checked_text(model, ids)
    layers = _layers(full, len(ids), 0, len(ids), model.config.n_layer, 0)
    return _run(model, ids, layers)[0]


def _run(
    model: Model, ids: np.ndarray, layers: list[HeldPositions]
) -> tuple[np.ndarray, list[int]]:
    """Logits (T, n_vocab) of a text in a forgetting cache; bytes a position of its layers."""
    trace, network = ActivationTrace(), model.network
    for layer, held in enumerate(layers):
        has_sink = network.weights.blk[layer].attn_sinks.weight is not None
        trace.edit(f"Kcur-{layer}", partial(_see_keys, held))
        see = partial(_see_all, held, layer, has_sink, network.ops)
        trace.edit(f"kq_soft_max-{layer}", see)
    cache = model.new_cache(len(ids))
    try:
        logits = to_numpy(model.forward(ids, cache, trace))
    except ParameterError as error:
        if isinstance(error.__cause__, WorkbenchError):  # ours, said from inside an edit
            raise error.__cause__ from None
        raise
    pairs = [cache.buffers(layer) for layer in range(len(layers))]
    return logits, [(k.nbytes + v.nbytes) // len(k) for k, v in pairs]


def _see_keys(held: HeldPositions, keys: Any) -> None:
    held.add_key_norms(np.linalg.norm(to_numpy(keys), axis=2))


def _see_all(held: HeldPositions, layer: int, has_sink: bool, ops: Any, probs: Any) -> Any:
    """Shares (H, T, S) of a piece of the text, S ending with its last token, as held allows."""
    shares = to_numpy(probs)
    n_tokens, n_keys = shares.shape[1:]
    skipped = held.n_seen + n_tokens - n_keys  # positions that a sliding window no longer reaches
    for token in range(n_tokens):
        row = np.zeros((len(shares), held.n_seen + 1), np.float32)
        stop = held.n_seen + 1 - skipped
        row[:, skipped:] = shares[:, token, :stop]
        held.see(row, has_sink)
        if not has_sink and not row.any(axis=1).all():
            raise UnsupportedError(
                f"eviction: layer {layer} at position {held.n_seen - 1} gives what is held less "
                "attention than float32 can say; expected shares above 1e-45, got 0; keep more "
                "positions"
            )
        shares[:, token, :stop] = row[:, skipped:]
    return ops.asarray(shares)


def _layers(
    policy: Policy, budget: int, n_prompt: int, n: int, n_layer: int, seed: int
) -> list[HeldPositions]:
    budget = n if policy is full else budget
    return [HeldPositions(policy, budget, n_prompt, n, (seed, layer)) for layer in range(n_layer)]


def checked_eviction(
    policy: str | Policy, budget: int, n_prompt: int, n: int, seed: int
) -> tuple[str, Policy, int]:
    """Name and function of a policy and its budget, for a text of n tokens.

    Raises: ParameterError for what `run_eviction` cannot take.
    """
    name, function = eviction_policy(policy)
    checked_seed(seed)
    if not is_integer(n_prompt) or not 0 <= n_prompt < n:
        raise ParameterError(
            f"n_prompt: leaves no token to measure; expected from 0 to {n - 1}, got {n_prompt!r}"
        )
    return name, function, checked_budget(name, budget)


def _checked_base(base: Any, model: Model, ids: np.ndarray) -> np.ndarray:
    shape = (len(ids), model.config.n_vocab)
    if getattr(base, "shape", None) != shape:
        raise ParameterError(
            f"base: not this text's logits; expected {shape}, got "
            f"{getattr(base, 'shape', type(base).__name__)}; take full_logits(model, ids)"
        )
    if base.dtype.kind != "f" or not np.isfinite(base).all():
        raise ParameterError(
            f"base: no logits; expected finite floats, got {base.dtype}"
            f"{' with NaN or inf' if base.dtype.kind == 'f' else ''}; take full_logits(model, ids)"
        )
    return base
