"""Causal patching: put a clean model's residual stream into a damaged one and see what heals.

    damaged   x0 ─► layer 0 ─► layer 1 ─► layer 2 ─► … ─► logits    KL from the clean: 0.05
    patched   x0 ─► layer 0 ─► clean's l_out-1 ─► layer 2 ─► … ─► logits               0.02

With the clean stream after layer 1, only the layers behind it are still damaged. How much KL is
left after each stage falls to that of the head alone; the steps are each layer's own damage, and
together they are the whole.
Sources: Meng et al., arXiv:2202.05262; Vig et al., arXiv:2004.12265 (causal tracing).
Left out: patching of single heads; `ActivationTrace.patch` takes any tap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..model import ActivationTrace, Model, to_numpy
from .divergence import kl_by_position
from .residual_stream import stream_names

__all__ = ["PatchMap", "PatchScan", "patch_by_layer", "patch_by_position"]


@dataclass(frozen=True, eq=False)
class PatchScan:
    """What is left of the divergence when the clean stream goes on after each stage.

    stages: (n,) "embedding", "layer 0", …, "head". kl_before: without a patch. kl_left: (n,), with
    the stream patched after that stage (after the head: 0). damage: (n,), what the stage itself
    adds. All in nats, means over positions.
    """

    stages: tuple[str, ...]
    kl_before: float
    kl_left: np.ndarray

    @property
    def damage(self) -> np.ndarray:
        """(n,): the step at each stage; they sum to kl_before."""
        return -np.diff(self.kl_left, prepend=self.kl_before)

    def to_frame(self) -> pd.DataFrame:
        """One row a stage; `share` is of the whole damage."""
        damage = self.damage
        columns = {"stage": self.stages, "kl_left": self.kl_left, "damage": damage}
        return pd.DataFrame(columns | {"share": damage / (self.kl_before or 1)})


@dataclass(frozen=True, eq=False)
class PatchMap:
    """The same for one position patched at a time, judged by the last position's distribution.

    stages: (n,). pieces: (T,) texts. kl_before: of the last position, nats. kl_left: (n, T).
    """

    stages: tuple[str, ...]
    pieces: tuple[str, ...]
    kl_before: float
    kl_left: np.ndarray

    @property
    def healed(self) -> np.ndarray:
        """(n, T): share of the divergence that a patch takes away; below 0 where it adds."""
        return 1 - self.kl_left / (self.kl_before or 1)


def patch_by_layer(
    model: Model, clean: Mapping[str, np.ndarray], token_ids: Sequence[int], base_logits: Any
) -> PatchScan:
    """Find which layer's damage matters: patch the whole stream after each stage in turn.

    model: the damaged one. clean: a trace of the clean model's stream (`stream_taps`) on the same
    tokens; base_logits: (T, n_vocab), its logits. Returns: PatchScan. Raises: ParameterError.
    """
    names, stages = _stages(clean)
    base = to_numpy(base_logits)
    kl = [_mean_kl(model, clean, token_ids, base, name) for name in (None, *names)]
    return PatchScan((*stages, "head"), kl[0], np.array([*kl[1:], 0.0]))


def patch_by_position(
    model: Model,
    clean: Mapping[str, np.ndarray],
    token_ids: Sequence[int],
    base_logits: Any,
    pieces: Sequence[str] | None = None,
    n_stages: int | None = None,
) -> PatchMap:
    """Patch the stream after each stage at one position at a time.

    Arguments as for `patch_by_layer`; pieces: texts of the tokens; n_stages: how many stages, taken
    evenly, by default all. Each stage costs a forward pass for each token. Returns: PatchMap.
    """
    names, stages = _stages(clean)
    if n_stages is not None and n_stages < len(names):
        chosen = np.linspace(0, len(names) - 1, n_stages).round().astype(int)
        names, stages = (tuple(all_[i] for i in chosen) for all_ in (names, stages))
    base = to_numpy(base_logits)[-1:]
    run = [model, clean, token_ids, base]
    left = [[_mean_kl(*run, name, at) for at in range(len(token_ids))] for name in names]
    pieces = tuple(map(str, range(len(token_ids))) if pieces is None else pieces)
    return PatchMap(stages, pieces, _mean_kl(*run, None), np.array(left))


def _stages(clean: Mapping[str, np.ndarray]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Taps of the stream before layer 0 and after each, and what the results call them."""
    names = tuple(stream_names(clean))
    return names, ("embedding", *(f"layer {layer}" for layer in range(len(names) - 1)))


def _mean_kl(
    model: Model,
    clean: Mapping[str, np.ndarray],
    token_ids: Sequence[int],
    base: np.ndarray,
    name: str | None,
    position: int | None = None,
) -> float:
    """KL (nats) from the base's logits (their last positions), mean over these positions."""
    trace = ActivationTrace()
    if name is not None:
        trace.patch(name, clean, position)
    cache = model.new_cache(n_ctx=len(token_ids), type_k="f32", type_v="f32")
    logits = to_numpy(model.forward(token_ids, cache, trace=trace, last_only=len(base) == 1))
    return float(np.mean(kl_by_position(base, logits)))
