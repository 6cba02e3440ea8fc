"""Rotary position embedding: the angle of every pair of numbers at every position.

    angle of pair i at position p = p · base^(-2i/n_rot)

and its scalings: "linear" divides all angles by the factor; "yarn" divides only those of slow pairs
and makes the result longer; divisors for each pair (Llama 3, "longrope") come from a tensor of the
file.

    yarn       fast pairs ◄──── ramp ────► slow pairs
    angle      unchanged    a mix of both   divided by the factor

Sources: ggml/src/ggml-cpu/ops.cpp (`ggml_rope_cache_init`, `rope_yarn`), ggml/src/ggml.c
(`ggml_rope_yarn_corr_dims`), llama.cpp src/llama-context.cpp (the attention factor of yarn);
Su et al., arXiv:2104.09864; Peng et al., arXiv:2309.00071.
Left out: which divisors count (weights.py); turning the vectors themselves, which is `ops.rope`.
"""

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["SCALING_TYPES", "RopeConfig", "rope_rotations"]

SCALING_TYPES = ("none", "linear", "yarn", "longrope")


@dataclass(frozen=True)
class RopeConfig:
    """How a model's positions become angles.

    base: of the powers; scaling: one of SCALING_TYPES; factor: how much longer the context became
    n_ctx_orig: positions before it was scaled; attn_factor: multiplies the rotated vectors
    beta_fast, beta_slow: turns within n_ctx_orig that bound yarn's ramp
    damping: takes back some of yarn's lengthening (1: all); log_mul: latent attention's own
    """

    base: float = 10000.0
    scaling: str = "linear"
    factor: float = 1.0
    n_ctx_orig: int = 0
    attn_factor: float = 1.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    damping: float = 0.0
    log_mul: float = 0.0

    @property
    def vector_length(self) -> float:
        """What rotated vectors are multiplied by.

        yarn's 1 + 0.1 ln(factor) holds for factors above 1; a smaller one leaves the length alone,
        since llama.cpp divides by the very term that ggml multiplies with.
        """
        if self.scaling != "yarn" or self.factor <= 1:
            return self.attn_factor
        return self.attn_factor * self._growth(1.0) / self._growth(self.damping)

    @property
    def latent_growth(self) -> float:
        """What queries and keys of latent attention are multiplied by, in their scale.

        Source: llama.cpp src/models/deepseek2.cpp, `mscale`.
        """
        length = self.vector_length
        if self.scaling != "yarn":
            length *= self._growth(1.0)
        return length * self._growth(self.log_mul)

    def _growth(self, weight: float) -> float:
        return 1.0 if self.scaling == "none" else 1 + 0.1 * weight * math.log(self.factor)


def rope_rotations(
    rope: RopeConfig, n_rot: int, positions: np.ndarray, divisors: np.ndarray | None = None
) -> np.ndarray:
    """The rotation of each pair at each position, as a complex number.

    positions: (T,) integers; divisors: (n_rot/2,) float32, the file's `rope_freqs.weight`.
    Returns: (T, n_rot/2) complex64, length · (cos angle + i sin angle).

    The angles are float32 products in llama.cpp's order, one pair after the other: at position
    30000 a more exact angle would differ from llama.cpp's by several thousandths.
    """
    angles = _plain_angles(rope.base, n_rot, positions)  # (T, n_rot/2)
    if divisors is not None:
        angles = angles / divisors
    scale = np.float32(1.0 if rope.scaling == "none" else 1.0 / rope.factor)
    scaled = angles * scale
    if rope.scaling == "yarn":
        keep = _yarn_ramp(rope, n_rot)
        # One rounding for product and sum: compilers make a fused multiply-add of this in ggml.
        scaled = scaled.astype(np.float64) * (np.float32(1) - keep) + angles * keep
    exact = scaled.astype(np.float32).astype(np.float64)
    rotations = np.empty(exact.shape, np.complex64)
    rotations.real, rotations.imag = np.cos(exact), np.sin(exact)
    rotations *= np.float32(rope.vector_length)
    return rotations


def _plain_angles(base: float, n_rot: int, positions: np.ndarray) -> np.ndarray:
    """(T, n_rot/2) float32: p, p·s, p·s·s, … with s = base^(-2/n_rot), rounded at each step."""
    step = np.float32(float(np.float32(base)) ** float(np.float32(-2.0) / np.float32(n_rot)))
    angles = np.full((len(positions), n_rot // 2), step, np.float32)
    angles[:, 0] = positions
    return np.multiply.accumulate(angles, axis=1)


def _yarn_ramp(rope: RopeConfig, n_rot: int) -> np.ndarray:
    """(n_rot/2,) float32: 1 where a pair turns fast enough to keep its angle, 0 where too slow."""

    def pair_turning(turns: float) -> float:
        return n_rot * math.log(rope.n_ctx_orig / (turns * 2 * math.pi)) / (2 * math.log(rope.base))

    low = max(0.0, math.floor(pair_turning(rope.beta_fast)))
    high = min(n_rot - 1.0, math.ceil(pair_turning(rope.beta_slow)))
    ramp = (np.arange(n_rot // 2, dtype=np.float32) - np.float32(low)) / np.float32(
        max(0.001, high - low)
    )
    return np.float32(1) - np.clip(ramp, np.float32(0), np.float32(1))
