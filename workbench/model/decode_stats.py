"""What is measured while one token goes through a model: attention, keys and values, the stream.

    cached position   0    1    2    …   n_past - 1
    shares[layer]    ▇▇▇▇  ▁    ▂    …    ▅          each head's attention to each position

The decode graph of a GPU leaves these numbers in buffers as it runs; `plain_decode_stats` has the
same from the plain forward pass, on every device: the truth that the graph is held to.
Source: our own. Leaves out: other tensors, which `ActivationTrace` keeps.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UnsupportedError
from .trace import ActivationTrace
from .transformer import forward

if TYPE_CHECKING:
    from .kv_cache import KVCache
    from .transformer import Network

__all__ = ["DecodeStats", "plain_decode_stats"]


@dataclass(frozen=True, eq=False)
class DecodeStats:
    """One token's statistics; L layers, H heads, K KV heads, E n_embd, S positions with its own.

    position: of the token. shares: (L, H, S) float32, the attention that each head gave to each
    position: a row adds up to 1, less where the head has a learned sink.
    entropy: (L, H) float32 nats of each head's shares. k_norm, v_norm: (L, K) float32, Euclidean
    norms of the key (rotated, as it is cached) and value that it left. taps: (L, E) float32, the
    residual stream after each layer, `l_out`.
    """

    position: int
    shares: np.ndarray
    entropy: np.ndarray
    k_norm: np.ndarray
    v_norm: np.ndarray
    taps: np.ndarray

    @property
    def n_layer(self) -> int:
        """Layers of the model."""
        return len(self.shares)

    @cached_property
    def mass(self) -> np.ndarray:
        """(L, S) float32: the shares of each position, summed over the heads."""
        return self.shares.sum(axis=1)

    @property
    def mean_mass(self) -> np.ndarray:
        """(S,) float64: the share that each position got, averaged over layers and heads."""
        return self.mass.mean(axis=0, dtype=np.float64) / self.entropy.shape[1]

    def most_seen(self, n: int = 5) -> np.ndarray:
        """(n,) int64: the positions that got the most attention, the first of them the most."""
        return np.argsort(-self.mean_mass, kind="stable")[:n]


def plain_decode_stats(
    network: "Network", token_id: int, cache: "KVCache"
) -> tuple[Any, DecodeStats]:
    """Send one token through the plain forward pass and measure it.

    cache: of the model, gets the token. Returns: (V,) float32 logits on the device, the statistics.
    Raises: UnsupportedError where layers differ in heads; ParameterError and ContextFullError as
        `forward`.
    """
    config = network.config
    layers = range(config.n_layer)
    heads = {(config.of_layer(i).n_head, config.of_layer(i).n_head_kv) for i in layers}
    if len(heads) > 1:
        raise UnsupportedError(
            "decode stats: the layers have other heads than each other; expected one number of "
            f"heads and KV heads in all, got {sorted(heads)}; use an ActivationTrace"
        )
    trace = ActivationTrace(["kq_soft_max-*", "l_out-*"])
    position = cache.n_past
    logits = forward(network, np.array([token_id]), cache, trace)[-1]
    probs = [trace[f"kq_soft_max-{i}"][:, -1] for i in layers]  # (H, S) each
    to_numpy = network.ops.to_numpy
    stats = DecodeStats(
        position,
        shares=np.stack(probs),
        entropy=np.stack([_entropy(p) for p in probs]),
        k_norm=np.stack([_norm(to_numpy(cache.k(i)[-1])) for i in layers]),
        v_norm=np.stack([_norm(to_numpy(cache.v(i)[-1])) for i in layers]),
        taps=np.stack([trace[f"l_out-{i}"][-1] for i in layers]),
    )
    return logits, stats


def _entropy(probs: np.ndarray) -> np.ndarray:
    """(H, S) shares -> (H,) float32 nats."""
    p = probs.astype(np.float64)
    terms = p * np.log(np.where(p > 0, p, 1))
    return -terms.sum(axis=1).astype(np.float32)


def _norm(x: np.ndarray) -> np.ndarray:
    """(K, D) -> (K,) float32."""
    return np.sqrt(np.square(x.astype(np.float64)).sum(axis=-1)).astype(np.float32)
