"""Where the heads of one token looked: what the kernel leaves of it in one piece, and its twin.

    scores, ends  ──▶ kernels/decode_shares.cu ──▶ memory ──▶ SharesLayout.read ──▶ TokenShares
                  ──▶ token_shares (NumPy)                                      ──▶ TokenShares

    memory   norms (L, 2, K) | entropy (L, H) | first (L, R) | last (L, R) | shares (L, R, S)
             float32                                                       | float16 or float32

R rows of shares: one for each of the H heads, or their mean alone.
Source: our own. Left out: launching the kernel, which is `cuda_shares`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["MOST_SUMMED", "SIZES", "SharesLayout", "TokenShares", "token_shares"]

MOST_SUMMED = 32  # positions: a warp's
# The C struct `Sizes`.
SIZES = np.dtype(
    [(name, "<i4") for name in ("n_layer", "n_head", "n_head_kv", "n_rows", "n_seen")]
    + [(name, "<i4") for name in ("n_first", "n_last", "per_head")]
)


@dataclass(frozen=True, eq=False)
class TokenShares:
    """One token's attention: L layers, H heads, K KV heads, S positions with its own, R rows.

    shares: (L, R, S) float16 or float32, of each head or the mean of a layer's. first, last: (L, R)
    float32, their sums over the first and the last few positions. entropy: (L, H) float32 nats of
    each head's shares. k_norm, v_norm: (L, K) float32.
    """

    shares: np.ndarray
    first: np.ndarray
    last: np.ndarray
    entropy: np.ndarray
    k_norm: np.ndarray
    v_norm: np.ndarray


@dataclass(frozen=True)
class SharesLayout:
    """What lies where, and the rules by which it is made.

    windows: (L,) positions that each layer sees, 0 for all. n_first, n_last: how many positions
    `first` and `last` add up.
    """

    windows: tuple[int, ...]
    n_head: int
    n_head_kv: int
    n_first: int
    n_last: int

    def __post_init__(self) -> None:
        assert 0 < self.n_first <= MOST_SUMMED and 0 < self.n_last <= MOST_SUMMED

    @property
    def n_layer(self) -> int:
        """Layers of the model."""
        return len(self.windows)

    def nbytes(self, n_seen: int, per_head: bool, type: Any) -> int:
        """Bytes of all of it, for n_seen positions and shares of a type."""
        n_rows = self.n_layer * (self.n_head if per_head else 1)
        numbers = self.n_layer * (2 * self.n_head_kv + self.n_head) + 2 * n_rows
        return 4 * numbers + np.dtype(type).itemsize * n_rows * n_seen

    def read(self, memory: np.ndarray, n_seen: int, per_head: bool, type: Any) -> TokenShares:
        """memory: (nbytes,) uint8 and perhaps more. Returns: views of it."""
        n_layer, n_row = self.n_layer, self.n_head if per_head else 1
        sizes = (2 * self.n_head_kv, self.n_head, n_row, n_row)
        parts, start = [], 0
        for size in sizes:
            end = start + 4 * n_layer * size
            parts.append(memory[start:end].view(np.float32).reshape(n_layer, size))
            start = end
        end = self.nbytes(n_seen, per_head, type)
        shares = memory[start:end].view(type).reshape(n_layer, n_row, n_seen)
        norms, entropy, first, last = parts
        keys, values = norms[:, : self.n_head_kv], norms[:, self.n_head_kv :]
        return TokenShares(shares, first, last, entropy, keys, values)


def token_shares(
    layout: SharesLayout,
    buffers: Mapping[str, np.ndarray],
    n_seen: int,
    per_head: bool = True,
    type: Any = np.float32,
) -> TokenShares:
    """What a token saw; NumPy twin of the kernel.

    buffers: scores (L, H, positions) in units of log 2, ends (L, H, 2) with the largest of them and
    the sum of all powers relative to it, norms (L, 2, K); float32 of any shape. n_seen: positions,
    the token's own is the last. per_head: shares of each head, else the mean of a layer's. type: of
    the shares, float16 or float32.
    """
    rows = (layout.n_layer, layout.n_head)
    scores = buffers["scores"].reshape(*rows, -1)[:, :, :n_seen]
    ends = buffers["ends"].reshape(*rows, 2).astype(np.float64)
    starts = np.array([n_seen - (window or n_seen) for window in layout.windows])
    is_seen = (np.arange(n_seen) >= starts[:, None])[:, None]  # (L, 1, S)
    with np.errstate(over="ignore", invalid="ignore"):  # of what lies before a window
        shares = np.where(is_seen, np.exp2(scores - ends[:, :, :1]) / ends[:, :, 1:], 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropy = -(shares * logs).sum(axis=2).astype(np.float32)
    shares = shares.astype(np.float32)  # (L, H, S)
    if not per_head:
        shares = shares.mean(axis=1, keepdims=True)
    first, last = shares[..., : layout.n_first].sum(2), shares[..., -layout.n_last :].sum(2)
    norms = buffers["norms"].reshape(layout.n_layer, 2, -1)
    return TokenShares(shares.astype(type), first, last, entropy, norms[:, 0], norms[:, 1])
