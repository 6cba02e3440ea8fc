"""Activations as the tensor cores take them: planes of int8 digits, float16 or bfloat16 numbers.

The pictures, and the order of the bytes, are in kernels/activations.cuh, whose NumPy twin this is.

    digits    x = v 2**(e - 30), v = rint(x 2**(30 - e)) = d0 2**24 + d1 2**16 + d2 2**8 + d3
    halves    x = (h0 + h1 / 2048) 2**(e - 14)
    brains    x = b0 + b1 + b2

Source: our own; error-free splitting is Ootomo and Yokota, "Recovering single precision accuracy
from Tensor Cores" (2022). Left out: NaN and infinities, which have no digits.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Planes", "brain_planes", "digit_planes", "exponent_of", "half_planes"]

Array = np.ndarray


@dataclass(frozen=True)
class Planes:
    """A vector of K numbers, x = scale times what the planes stand for.

    numbers: (n, K') int8, float16 or uint16 (the bits of bfloat16), plane 0 the highest; K' is K
        rounded up to 128
    sums16: (K' / 16,) float32, the sums of 16 columns / scale; of digits only, else empty
    scale: float
    image: (bytes,) uint8, as in shared memory (bytes that no column has are zeros)
    """

    numbers: Array
    sums16: Array
    scale: float
    image: Array


def exponent_of(largest: float) -> int:
    """The e with largest < 2**e, at least -96. largest: finite float32, not negative."""
    return max(int(np.float32(largest).view(np.uint32) >> 23) - 126, -96)


def digit_planes(x: Array) -> Planes:
    """x (K,) float32 -> its four planes of int8 digits."""
    x = _whole(x)
    e = exponent_of(np.abs(x).max())
    v = np.rint(x * np.float32(2.0 ** (30 - e))).astype(np.int32)
    digits = ((v + 0x00808080) ^ 0x00808080).view(np.int8).reshape(-1, 4)
    numbers = np.ascontiguousarray(digits[:, ::-1].T)
    four = x.reshape(-1, 4, 4)
    quarters = (four[..., 0] + four[..., 1]) + (four[..., 2] + four[..., 3])
    sums = (quarters[:, 0] + quarters[:, 1]) + (quarters[:, 2] + quarters[:, 3])
    sums16 = sums * np.float32(2.0 ** (14 - e))
    return Planes(numbers, sums16, 2.0 ** (e - 14), _digit_image(numbers, sums16))


def half_planes(x: Array) -> Planes:
    """x (K,) float32 -> its two planes of float16."""
    x = _whole(x)
    e = exponent_of(np.abs(x).max())
    scaled = x * np.float32(2.0 ** (14 - e))
    high = scaled.astype(np.float16)
    low = ((scaled - high.astype(np.float32)) * np.float32(2048)).astype(np.float16)
    numbers = np.stack([high, low])
    return Planes(numbers, np.empty(0, np.float32), 2.0 ** (e - 14), _pair_image(numbers))


def brain_planes(x: Array) -> Planes:
    """x (K,) float32 -> its three planes of bfloat16, each cut off after 8 bits."""
    rest, planes = _whole(x), []
    for _ in range(3):
        bits = rest.view(np.uint32) & 0xFFFF0000
        planes.append((bits >> 16).astype(np.uint16))
        rest = rest - bits.view(np.float32)
    numbers = np.stack(planes)
    return Planes(numbers, np.empty(0, np.float32), 1.0, _pair_image(numbers))


def _whole(x: Array) -> Array:
    """x with zeros behind it up to a whole number of 128."""
    return np.pad(np.asarray(x, np.float32), (0, -len(x) % 128))


def _digit_image(numbers: Array, sums16: Array) -> Array:
    n, K = numbers.shape
    image = np.zeros((n, K + 64), np.uint8)
    axes = numbers.view(np.uint8).reshape(n, -1, 2, 2, 2, 4, 4)  # plane, 128 columns, s, b, h, t, i
    image[:, :K] = axes.transpose(0, 1, 3, 5, 2, 4, 6).reshape(n, K)
    chunks = np.zeros(-(-K // 256) * 16, np.float32)
    chunks[: len(sums16)] = sums16
    slots = chunks.reshape(-1, 4, 2, 2).transpose(0, 2, 1, 3)  # 256 columns, b, s, h
    return np.concatenate(
        [image.reshape(-1), np.ascontiguousarray(slots).view(np.uint8).reshape(-1)]
    )


def _pair_image(numbers: Array) -> Array:
    n, K = numbers.shape
    image = np.zeros((n, 2 * K + 64), np.uint8)
    axes = numbers.reshape(n, -1, 2, 4, 4)  # plane, 32 columns, h, t, i
    image[:, : 2 * K] = (
        np.ascontiguousarray(axes.transpose(0, 1, 3, 2, 4)).view(np.uint8).reshape(n, -1)
    )
    return image.reshape(-1)
