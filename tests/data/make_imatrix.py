"""Makes imatrix.npz: squared inputs of matrices, summed while llama.cpp evaluates random ids.

A callback (`cb_eval`) sees every product of a weight matrix, as in llama-imatrix. KV cache in F32,
no flash attention, one thread. Made with llama-cpp-python 0.3.36 (llama.cpp commit 0c1e570).
Run from the repository root: python tests/data/make_imatrix.py
"""

import ctypes
from pathlib import Path

import llama_cpp
import numpy as np
from llama_cpp import llama_cpp as lib

HERE = Path(__file__).resolve().parent
REFERENCE = HERE.parents[2] / "shared" / "reference" / "logits"
MODELS = {"llama-tied": HERE / "llama-tied.gguf", "mixtral": REFERENCE / "mixtral.gguf"}
N_IDS, N_CTX, BOS = 150, 64, 1  # two chunks; the first id of each becomes BOS
BASE = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
BASE.ggml_op_desc.restype, BASE.ggml_op_desc.argtypes = ctypes.c_char_p, [ctypes.c_void_p]


class Tensor(ctypes.Structure):
    """ggml_tensor of ggml/include/ggml.h."""


Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
]
SUMS: dict[str, np.ndarray] = {}
COUNTS: dict[str, np.ndarray] = {}


def values(tensor: Tensor, dtype: type) -> np.ndarray:
    """A host tensor as a copy, NumPy order."""
    ne, nb = list(tensor.ne), list(tensor.nb)
    size = sum((n - 1) * b for n, b in zip(ne, nb, strict=True)) + np.dtype(dtype).itemsize
    buffer = (ctypes.c_char * size).from_address(tensor.data)
    return np.ndarray(ne[::-1], dtype, buffer, 0, nb[::-1]).copy()


@ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)
def see(address: int, ask: bool, user_data: int) -> bool:
    tensor = Tensor.from_address(address)
    op = BASE.ggml_op_desc(address)
    wanted = op in (b"MUL_MAT", b"MUL_MAT_ID")
    name = tensor.src[0].contents.name.decode() if wanted else ""
    if ask or not name.startswith("blk."):
        return name.startswith("blk.") or not ask
    squares = values(tensor.src[1].contents, np.float32)[0].astype(np.float64) ** 2
    n_mat = tensor.src[0].contents.ne[2]
    sums = SUMS.setdefault(name, np.zeros((n_mat, squares.shape[-1])))
    counts = COUNTS.setdefault(name, np.zeros(n_mat, np.int64))
    if op == b"MUL_MAT":
        sums += squares.reshape(-1, squares.shape[-1]).sum(0)
        counts += squares.shape[-2]
        return True
    for row, experts in zip(squares, values(tensor.src[2].contents, np.int32)[0, 0], strict=True):
        for i, expert in enumerate(experts):
            sums[expert] += row[i % len(row)]
            counts[expert] += 1
    return True


def collect(path: Path, ids: list[int]) -> None:
    model = lib.llama_load_model_from_file(str(path).encode(), lib.llama_model_default_params())
    params = lib.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = N_CTX
    params.n_threads, params.type_k, params.type_v, params.flash_attn_type = 1, 0, 0, 0
    params.cb_eval = ctypes.cast(see, type(params.cb_eval))
    context = lib.llama_init_from_model(model, params)
    batch = lib.llama_batch_init(N_CTX, 0, 1)
    batch.n_tokens = N_CTX
    for start in range(0, len(ids) - N_CTX + 1, N_CTX):
        lib.llama_memory_clear(lib.llama_get_memory(context), True)
        for i, token in enumerate([BOS, *ids[start + 1 : start + N_CTX]]):
            batch.token[i], batch.pos[i], batch.logits[i] = token, i, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        assert lib.llama_decode(context, batch) == 0


def main() -> None:
    arrays = {"ids": np.random.default_rng(5).integers(3, 300, N_IDS)}
    for title, path in MODELS.items():
        SUMS.clear(), COUNTS.clear()
        collect(path, arrays["ids"].tolist())
        for name in SUMS:
            arrays[f"{title}/{name}"] = SUMS[name]
            arrays[f"{title}/{name}#counts"] = COUNTS[name]
    np.savez_compressed(HERE / "imatrix.npz", **arrays)


if __name__ == "__main__":
    main()
