"""Mixtures of experts: a router's choice for each token, and the chosen networks.

    logits ─► expert_probs ─► choose_experts ─► shares_of_experts ─► mix_experts

Each step stands alone, so that what lies between can be seen and changed. All but the softmax are
of both devices: NumPy's functions hand CuPy's arrays on to CuPy.
Source: llama.cpp src/llama-graph.cpp, `build_moe_ffn`; Jiang et al., arXiv:2401.04088.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .cpu_activations import sigmoid
from .cpu_attention import MINUS_INFINITY, softmax

__all__ = [
    "choose_experts",
    "expert_probs",
    "mix_experts",
    "normalized_shares",
    "shares_of_experts",
]

SMALLEST_HALF = np.float32(2.0**-14)  # smallest normal float16: ggml's floor for a sum of weights
GROUP_VOTES = 2  # a group of experts counts as much as its best two


def expert_probs(logits: np.ndarray, gating: str) -> np.ndarray:
    """What the router's scores mean: (T, n_expert) float32 for the same.

    gating: "softmax", "sigmoid", or "softmax_weight", which leaves them until experts are chosen.
    """
    if gating == "softmax":
        return softmax(logits)
    return sigmoid(logits) if gating == "sigmoid" else logits


def choose_experts(
    probs: np.ndarray,
    n_used: int,
    bias: np.ndarray | None = None,
    n_groups: int = 0,
    n_groups_used: int = 0,
) -> np.ndarray:
    """The n_used experts with the greatest numbers: (T, n_used) int64, the best first.

    probs: (T, n_expert) float32; bias: (n_expert,) added for the choice only; n_groups: above 1,
    only experts of the n_groups_used best groups are chosen.
    """
    if bias is not None:
        probs = probs + bias
    if n_groups > 1:
        probs = _best_groups(probs, n_groups, n_groups_used)
    return np.argsort(-probs, axis=-1, kind="stable")[:, :n_used]


def _best_groups(probs: np.ndarray, n_groups: int, n_used: int) -> np.ndarray:
    """The same with -inf for experts outside of the best groups."""
    groups = probs.reshape(len(probs), n_groups, -1)
    votes = np.sort(groups, axis=-1)[..., -GROUP_VOTES:].sum(axis=-1)
    order = np.argsort(-votes, axis=-1, kind="stable")
    places = np.argsort(order, axis=-1, kind="stable")  # of each group in that order
    chosen = np.where((places < n_used)[..., None], groups, MINUS_INFINITY)
    return chosen.reshape(probs.shape)


def shares_of_experts(probs: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The numbers of the chosen: probs (T, n_expert), ids (T, n_used) -> (T, n_used) float32."""
    return np.take_along_axis(probs, ids, axis=-1)


def normalized_shares(shares: np.ndarray) -> np.ndarray:
    """Shares (T, n_used) made to sum to 1."""
    total = shares.sum(axis=-1, keepdims=True)
    return shares / np.maximum(total, SMALLEST_HALF)


def mix_experts(
    x: np.ndarray,
    ids: np.ndarray,
    shares: np.ndarray,
    experts: tuple[Any, Any, Any],
    activation: Callable[..., np.ndarray],
    linear: Callable[..., np.ndarray],
    weigh_first: bool = False,
) -> np.ndarray:
    """The weighted sum of the feed-forward networks that each token was given.

    x: (T, E) float32; ids, shares: (T, n_used); experts: gate and up (n_expert, F, E) and down
    (n_expert, E, F), each a packed weight and a bias (n_expert, F or E) or None, of which only the
    chosen are expanded; gate's weight None for an ungated network; weigh_first: shares multiply
    what experts read. Returns: (T, E) float32.
    """
    out = np.zeros_like(x)
    chosen = ids.get() if hasattr(ids, "get") else ids  # on the host, where the loop is
    for expert in np.unique(chosen):
        rows, choice = _places(chosen == expert)
        gate, up, down = (_of_expert(part, int(expert)) for part in experts)
        share = shares[rows, choice].reshape(-1, 1)
        given = x[rows] * share if weigh_first else x[rows]
        hidden = linear(given, *up)
        hidden = activation(hidden) if gate is None else activation(linear(given, *gate), hidden)
        made = linear(hidden, *down)
        out[rows] += made if weigh_first else made * share
    return out


def _places(is_chosen: np.ndarray) -> tuple[Any, Any]:
    """Rows and choices that are True in (T, n_used); of one token as slices, which copy nothing."""
    rows, choice = np.nonzero(is_chosen)
    if len(is_chosen) > 1 or len(choice) > 1:
        return rows, choice
    return slice(0, 1), slice(int(choice[0]), int(choice[0]) + 1)


def _of_expert(part: tuple[Any, Any], expert: int) -> tuple[Any, Any] | None:
    weight, bias = part
    if weight is None:
        return None
    return weight[expert], None if bias is None else bias[expert]
