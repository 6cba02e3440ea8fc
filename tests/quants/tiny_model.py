"""A made-up llama model with two experts whose matrices have whole blocks of 256 weights."""

import numpy as np

N_LAYER, ROWS, COLUMNS, N_EXPERT = 8, 16, 256, 2
NUMBERS = {
    "block_count": N_LAYER,
    "context_length": 64,
    "embedding_length": COLUMNS,
    "feed_forward_length": COLUMNS,
    "attention.head_count": 8,
    "attention.head_count_kv": 4,
    "rope.dimension_count": 32,
    "vocab_size": 320,
    "expert_count": N_EXPERT,
    "expert_used_count": 1,
}
_rng = np.random.default_rng(2024)
_ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")
_EXPERTS = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
_SHAPES = {
    "token_embd.weight": (ROWS, COLUMNS),
    "output.weight": (ROWS, COLUMNS),
    "output_norm.weight": (COLUMNS,),
    "blk.0.odd.weight": (ROWS, 160),
    "blk.0.odder.weight": (ROWS, 44),
    **{f"blk.{i}.{role}.weight": (ROWS, COLUMNS) for i in range(N_LAYER) for role in _ATTENTION},
    **{
        f"blk.{i}.{role}.weight": (N_EXPERT, ROWS, COLUMNS)
        for i in range(N_LAYER)
        for role in _EXPERTS
    },
}


def _heavy_tailed(shape: tuple[int, ...]) -> np.ndarray:
    return _rng.standard_t(4, shape).astype(np.float32) * np.float32(0.03)


def _importance(shape: tuple[int, ...]) -> np.ndarray:
    n_mat = shape[-3] if len(shape) > 2 else 1
    return (_rng.random(n_mat * shape[-1]) ** 4 + 1e-3).astype(np.float32)


WEIGHTS = {name: _heavy_tailed(shape) for name, shape in _SHAPES.items()}
# No entry for one tensor, so that weighted and plain ones stand in a file.
IMPORTANCES = {
    name: _importance(shape)
    for name, shape in _SHAPES.items()
    if len(shape) > 1 and name != "output.weight"
}
