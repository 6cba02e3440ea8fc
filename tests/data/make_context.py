"""Makes tests/data/context.npz: llama.cpp's activations and its logits after a context shift.

Run with a Python that has llama-cpp-python 0.3.36 (llama.cpp commit 0c1e570), on the CPU:
    python tests/data/make_context.py
The model is tests/data/llama-tied.gguf, a random one made for this project; its prompt is in
llama-tied.npz. K and V cache F32, no flash attention, one thread.

    tap_NAME      the tensor of that name in llama.cpp's graph for the first N_TAPPED tokens
    shift_logits  of the tokens NEXT, one at a time, after the prompt and
                  llama_memory_seq_rm(5, 16) and llama_memory_seq_add(16, end, -11)
"""

import ctypes
from pathlib import Path

import llama_cpp as ll
import numpy as np

HERE = Path(__file__).parent
N_TAPPED, N_KEEP, N_DISCARD = 6, 5, 11
NEXT = (3, 9, 27, 4)
SCORES = ("kq", "kq_soft_max")
NAMES = ("attn_norm", "Qcur", "Kcur", "Vcur", *SCORES, "kqv_out", "ffn_inp", "ffn_norm")
NAMES += ("ffn_gate", "ffn_up", "ffn_swiglu", "ffn_out", "l_out")
made_with: list = []  # callbacks, which must outlive their context
TAPS = {"result_norm", *(f"{name}-1" for name in NAMES)}


class Tensor(ctypes.Structure):
    """The beginning of ggml_tensor (ggml.h)."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
    ]


def read(tensor: Tensor) -> np.ndarray:
    """A float32 tensor as an array in NumPy order."""
    assert tensor.type == 0
    shape, strides = tensor.ne[::-1], tensor.nb[::-1]
    n_bytes = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 4
    raw = (ctypes.c_char * n_bytes).from_address(tensor.data)
    return np.ndarray(tuple(shape), np.float32, raw, 0, tuple(strides)).copy().squeeze()


def context(model, found: dict):
    """A llama_context; `found` gets the tensors of TAPS at each evaluation."""

    def see(pointer, ask, _):
        tensor = ctypes.cast(pointer, ctypes.POINTER(Tensor)).contents
        name = tensor.name.decode()
        if name in TAPS and not ask:
            found[name] = read(tensor)
        return name in TAPS or not ask

    params = ll.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = params.flash_attn_type = 0
    callback = ll.ggml_backend_sched_eval_callback(see)
    params.cb_eval = callback
    made = ll.llama_init_from_model(model, params)
    made_with.append(callback)
    return made


def decode(ctx, tokens, position: int, n_vocab: int) -> np.ndarray:
    """Logits of the last token."""
    batch = ll.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.logits[i] = int(token), position + i, 1
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
    assert ll.llama_decode(ctx, batch) == 0
    row = ll.llama_get_logits_ith(ctx, len(tokens) - 1)
    return np.ctypeslib.as_array(row, (n_vocab,)).copy()


def main() -> None:
    ll.llama_backend_init()
    params = ll.llama_model_default_params()
    params.use_extra_bufts = False
    model = ll.llama_model_load_from_file(str(HERE / "llama-tied.gguf").encode(), params)
    n_vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
    prompt, taps = np.load(HERE / "llama-tied.npz")["tokens"], {}
    decode(context(model, taps), prompt[:N_TAPPED], 0, n_vocab)
    for name in (f"{stem}-1" for stem in SCORES):
        taps[name] = taps[name][..., :N_TAPPED]  # llama.cpp has a column for each slot
    taps = {f"tap_{name}": x for name, x in taps.items()}
    ctx = context(model, {})
    decode(ctx, prompt, 0, n_vocab)
    memory, start = ll.llama_get_memory(ctx), N_KEEP + N_DISCARD
    assert ll.llama_memory_seq_rm(memory, 0, N_KEEP, start)
    ll.llama_memory_seq_add(memory, 0, start, -1, -N_DISCARD)
    first = len(prompt) - N_DISCARD
    logits = [decode(ctx, [token], first + i, n_vocab) for i, token in enumerate(NEXT)]
    made = {"next_tokens": np.array(NEXT), "shift_logits": np.array(logits), **taps}
    made["n_keep"], made["n_discard"] = N_KEEP, N_DISCARD
    np.savez_compressed(HERE / "context.npz", **made)
    print({name: np.shape(x) for name, x in made.items()})


if __name__ == "__main__":
    main()
