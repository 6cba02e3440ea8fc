"""Makes tests/data/kv_types.npz: llama.cpp's logits and stored keys with caches of every type.

Run with a Python that has llama-cpp-python 0.3.36 (llama.cpp commit 0c1e570), on the CPU:
    PYTHONPATH=. python tests/data/make_kv_types.py
The models are those of tests/model/kv_models.py. Flash attention (quantized values need it), one
thread; the rotation of heads is llama.cpp's own choice.

    PAIR_DIM_logits   of the prompt's last token and of the tokens after it, one at a time
    PAIR_DIM_k        bytes of layer 0's keys: (positions, bytes)
    PAIR_DIM_v        of its first values
    made_with         the version of llama-cpp-python
"""

import ctypes
import struct
import tempfile
from pathlib import Path

import llama_cpp as ll
import numpy as np

from tests.model.kv_models import (
    HEAD_DIMS,
    N_CONTINUED,
    N_HEAD_KV,
    N_LAYER,
    PAIRS,
    prompt,
    write_kv_model,
)
from workbench.gguf.types import GGML_TYPES

HERE = Path(__file__).parent
N_VALUES = 30


def context(model, type_k: str, type_v: str):
    params = ll.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 256
    params.n_threads = params.n_threads_batch = 1
    params.type_k, params.type_v = (GGML_TYPES[name.upper()].id for name in (type_k, type_v))
    params.flash_attn_type = 1
    return ll.llama_init_from_model(model, params)


def decode(ctx, ids: np.ndarray, position: int, n_vocab: int) -> np.ndarray:
    """Logits of the last token."""
    batch = ll.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.logits[i] = int(token), position + i, 1
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
    assert ll.llama_decode(ctx, batch) == 0
    row = ll.llama_get_logits_ith(ctx, len(ids) - 1)
    return np.ctypeslib.as_array(row, (n_vocab,)).copy()


def stored(ctx, names: tuple[str, str], n: int, head_dim: int) -> list[np.ndarray]:
    """Keys and values of layer 0, (n, bytes) each, out of llama.cpp's dump of the sequence.

    The dump has the keys of all layers, then the values: type, bytes of a row, rows.
    """
    size = ll.llama_state_seq_get_size(ctx, 0)
    memory = (ctypes.c_uint8 * size)()
    assert ll.llama_state_seq_get_data(ctx, memory, size, 0) == size
    dump, found, at = bytes(memory), [], 0
    for type in (GGML_TYPES[name.upper()] for name in names):
        n_bytes = type.row_bytes(N_HEAD_KV * head_dim)
        mark = struct.pack("<iQ", type.id, n_bytes)
        at = dump.index(mark, at) + len(mark)
        found.append(np.frombuffer(dump, np.uint8, n * n_bytes, at).reshape(n, n_bytes))
        for _ in range(1, N_LAYER):
            at = dump.index(mark, at + n * n_bytes) + len(mark)
        at += n * n_bytes
    return found


def main() -> None:
    ll.llama_backend_init()
    made, ids = {"made_with": np.array(ll.__version__)}, prompt()
    with tempfile.TemporaryDirectory() as folder:
        for head_dim in HEAD_DIMS:
            path = write_kv_model(Path(folder) / f"{head_dim}.gguf", head_dim)
            params = ll.llama_model_default_params()
            params.use_extra_bufts = False
            model = ll.llama_model_load_from_file(str(path).encode(), params)
            n_vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
            for type_k, type_v in PAIRS:
                ctx, name = context(model, type_k, type_v), f"{type_k}-{type_v}_{head_dim}"
                n = len(ids) - N_CONTINUED
                steps = [ids[:n], *([token] for token in ids[n:])]
                starts = [0, *range(n, len(ids))]
                logits = [decode(ctx, *step, n_vocab) for step in zip(steps, starts, strict=True)]
                made[f"{name}_logits"] = np.array(logits)
                keys, values = stored(ctx, (type_k, type_v), len(ids), head_dim)
                if type_k != "f32":  # whose last bits follow the order of sums
                    made |= {f"{name}_k": keys, f"{name}_v": values[:N_VALUES]}
                ll.llama_free(ctx)
    np.savez_compressed(HERE / "kv_types.npz", **made)
    print({name: x.shape for name, x in made.items()})


if __name__ == "__main__":
    main()
