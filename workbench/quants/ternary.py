"""Ternary types of BitNet and TriLM models: weights -d, 0 and d, in blocks of 256.

    TQ2_0  2 bits a code
    TQ1_0  5 codes a byte in base 3: the byte is ceil(256 v / 243) of the number v = t0 t1 t2 t3 t4,
           so that multiplying by 3 pushes the next digit out at the top, modulo 256

    TQ1_0  qs bytes 0..31   digit n of byte j = weight 32 n + j            (weights   0..159)
           qs bytes 32..47  digit n of byte j = weight 160 + 16 n + j      (weights 160..239)
           qh bytes 0..3    digit n of byte j = weight 240 + 4 n + j, n<4  (weights 240..255)

Sources: ggml-common.h (structs); ggml-quants.c, `quantize_row_tq*_ref`, `dequantize_row_tq*`.
"""

import numpy as np

from .block_math import (
    largest_magnitude,
    reciprocal,
    round_half_away,
    scale_codes,
    settle,
    spread,
)
from .codec import Codec
from .packing import RUNS, flatten, join_fields, split_fields

TQ1_0 = np.dtype([("qs", "u1", 48), ("qh", "u1", 4), ("d", "<f2")])
TQ2_0 = np.dtype([("qs", "u1", 64), ("d", "<f2")])

# (first byte of qs and qh together, first weight, bytes, digits in use)
TQ1_0_RUNS = ((0, 0, 32, 5), (32, 160, 16, 5), (48, 240, 4, 4))
TQ1_0_BYTE = ((np.arange(243) * 256 + 242) // 243).astype(np.uint8)


def digits(packed: np.ndarray, count: int) -> np.ndarray:
    """(B, n) uint8 -> (B, count * n) int8: the base-3 digits less 1, all first digits first."""
    flat, whole = flatten(packed), RUNS[packed.shape[1]]
    codes = np.empty((len(packed), count), dtype=whole)
    for k in range(count):
        rest = flat * np.uint8(3**k)  # modulo 256
        digit = (rest >= 86).view(np.int8) + (rest >= 171).view(np.int8)  # rest * 3 // 256
        digit -= 1
        codes[:, k] = digit.view(whole)
    return codes.view(np.int8)


def decode_tq1_0(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads TQ1_0."""
    packed = np.concatenate([blocks["qs"], blocks["qh"]], axis=1)
    codes = np.empty(out.shape, dtype=np.int8)
    for byte, weight, run, count in TQ1_0_RUNS:
        codes[:, weight : weight + run * count] = digits(packed[:, byte : byte + run], count)
    scale_codes(codes, blocks["d"].astype(np.float32), out)


def decode_tq2_0(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads TQ2_0."""
    codes = split_fields(blocks["qs"], 2, 32).view(np.int8)
    codes -= 1
    scale_codes(codes, blocks["d"].astype(np.float32), out)


def ternary_codes(x: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """(B, 256) -> uint8 codes 0, 1, 2; the largest magnitude of a block becomes its d."""
    d = largest_magnitude(x)
    inverse = reciprocal(d)
    scaled = x * spread(inverse, x.size).reshape(x.shape)
    codes = settle(round_half_away(scaled), inverse).astype(np.int8)
    codes += 1
    blocks["d"] = d
    return codes.view(np.uint8)


def encode_tq1_0(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes TQ1_0."""
    codes = ternary_codes(x, blocks)
    packed = np.zeros((len(x), 52), dtype=np.uint8)
    for byte, weight, run, count in TQ1_0_RUNS:
        numbers = packed[:, byte : byte + run]
        for k in range(count):
            numbers += codes[:, weight + k * run : weight + (k + 1) * run] * np.uint8(3 ** (4 - k))
    packed = TQ1_0_BYTE[packed]
    blocks["qs"], blocks["qh"] = packed[:, :48], packed[:, 48:]


def encode_tq2_0(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes TQ2_0."""
    blocks["qs"] = join_fields(ternary_codes(x, blocks), 2, 32)


CODECS = (
    Codec("TQ1_0", 256, TQ1_0, decode_tq1_0, encode_tq1_0),
    Codec("TQ2_0", 256, TQ2_0, decode_tq2_0, encode_tq2_0),
)
