"""The 6-bit scales of the sub-blocks of Q3_K, Q4_K and Q5_K, packed into 12 bytes of a block.

Source: ggml-quants.c, `get_scale_min_k4`, and the scales in `dequantize_row_q3_K` and
`quantize_row_q*_K_ref`.
"""

import numpy as np

from .packing import join_fields


def q3_k_scales(packed: np.ndarray) -> np.ndarray:
    """(B, 12) uint8 -> (B, 16) int8: Q3_K's sub-block scales, less 32.

        bytes 0..3    7..4 low bits of sc[8..11]     3..0 low bits of sc[0..3]
        bytes 4..7    7..4 low bits of sc[12..15]    3..0 low bits of sc[4..7]
        bytes 8..11   7,6 high bits of sc[12..15]    5,4 of sc[8..11]
                      3,2 of sc[4..7]                1,0 of sc[0..3]

    Four bytes are handled at once as a uint32.
    """
    words = np.ascontiguousarray(packed).view(np.uint32)  # (B, 3)
    first, second, high = words[:, 0], words[:, 1], words[:, 2]
    scales = np.empty((len(packed), 4), dtype=np.uint32)
    for k, low in enumerate((first, second, first >> 4, second >> 4)):
        scales[:, k] = (low & 0x0F0F0F0F) | ((high >> (2 * k) & 0x03030303) << 4)
    signed = scales.view(np.int8)
    signed -= 32
    return signed


def pack_q3_k_scales(sc: np.ndarray, packed: np.ndarray) -> None:
    """Fills packed (B, 12) uint8 with Q3_K's sc (B, 16) uint8, 0..63: the scales plus 32."""
    packed[:, :8] = sc[:, :8] & 15 | sc[:, 8:] << 4
    packed[:, 8:] = join_fields(sc >> 4, 2, 4)


def scales_and_mins(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, 12) uint8 -> two (B, 8) uint8: the 6-bit sc and m of Q4_K and Q5_K.

        bytes 0..3    7,6 high bits of sc[4..7]    5..0 sc[0..3]
        bytes 4..7    7,6 high bits of m[4..7]     5..0 m[0..3]
        bytes 8..11   7..4 low bits of m[4..7]     3..0 low bits of sc[4..7]

    Four bytes are handled at once as a uint32.
    """
    words = np.ascontiguousarray(packed).view(np.uint32)  # (B, 3)
    sc, m = np.empty((2, len(packed), 2), dtype=np.uint32)
    for k, part in enumerate((sc, m)):
        part[:, 0] = words[:, k] & 0x3F3F3F3F
        low = words[:, 2] >> (4 * k) & 0x0F0F0F0F
        part[:, 1] = low | (words[:, k] >> 2 & 0x30303030)
    return sc.view(np.uint8), m.view(np.uint8)


def pack_scales_and_mins(sc: np.ndarray, m: np.ndarray, packed: np.ndarray) -> None:
    """Fills packed (B, 12) uint8 with the sc and m (B, 8) uint8 of Q4_K and Q5_K."""
    for k, part in enumerate((sc, m)):
        packed[:, 4 * k : 4 * k + 4] = part[:, :4] | part[:, 4:] >> 4 << 6
    packed[:, 8:] = sc[:, 4:] & 15 | m[:, 4:] << 4
