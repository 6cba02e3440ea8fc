"""The records that the decode kernel reads, field by field the structs of its text.

    MATRIX   a matrix as packets         LAYER   a layer: its matrices, vectors, slots of the cache
    WORK     where buffers are

Source: kernels/decode_records.cuh. Left out: filling them, which is `decode_tables`.
"""

import numpy as np

__all__ = ["LAYER", "MATRIX", "WORK"]

MATRIX = np.dtype(
    [("tiles", "<u8")]
    + [(name, "<u4") for name in ("n_tiles", "n_rows", "tile_bytes", "n_columns", "type", "unused")]
)
LAYER = np.dtype(
    [("attn", MATRIX, 3), ("output", MATRIX), ("gate_up", MATRIX), ("down", MATRIX)]
    + [(name, "<u8") for name in ("attn_norm", "ffn_norm", "attn_post_norm", "ffn_post_norm")]
    + [(name, "<u8") for name in ("q_norm", "k_norm", "biases", "output_bias")]
    + [(name, "<u8") for name in ("rotation", "k", "v")]
    + [("window", "<u4"), ("unused", "<u4")]
)
WORK = np.dtype(
    [(name, "<u8") for name in ("states", "qkv", "splits", "mixed", "hidden")]
    + [(name, "<u8") for name in ("branch", "logits", "meetings", "state")]
    + [(name, "<u8") for name in ("scores", "ends", "taps", "norms", "marks")]
    + [("n_rows", "<u4"), ("unused", "<u4")]
)
