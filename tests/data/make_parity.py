"""Makes parity.npz: llama.cpp's answers to the tiny random models of tests/model/parity_recipes.py.

Run: python -m tests.data.make_parity [RECIPE ...]   (needs llama-cpp-python; made with 0.3.36,
which is llama.cpp commit 0c1e570). Recipes that are named are made anew, the others kept.
With --taps RECIPE it prints instead how far each of our activations is from llama.cpp's node of
that name: where the two part, the first large number tells.

    numbers of a recipe ─► llama_model_init_from_user ─► every tensor it could have, with its shape
    those kept, random  ─► a GGUF file ─► llama_decode ─► logits, greedy tokens

F32 cache, flash attention off, one thread. The seed is the first whose greedy choices and last
logits are clear of ties. Each model runs in a process of its own, as llama.cpp aborts on bad ones.
"""

import ctypes
import json
import multiprocessing
import queue
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import llama_cpp
import numpy as np

import workbench as wb
from tests.model.parity_recipes import RECIPES
from tests.model.random_model import kept_shapes, metadata_of, prompt_of, write_model

GOLDEN = Path(__file__).with_name("parity.npz")
POSITIONS = (30, 99)  # of the prompt, whose logits are kept
N_GREEDY = 16
N_CTX = 512
LEAST_MARGIN = 0.02  # between the two best logits of a greedy choice
SEEDS = 40
SPREAD_OF_LOGITS = 2.0

_LIBS = Path(llama_cpp.__file__).parent / "lib"
_GGML = ctypes.CDLL(str(_LIBS / "libggml-base.so"))
_LLAMA = ctypes.CDLL(str(_LIBS / "libllama.so"))
_SetData = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


class _Tensor(ctypes.Structure):
    """The first fields of ggml_tensor."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
    )


class _GGUFParams(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


_GGML.ggml_get_name.restype = ctypes.c_char_p
_GGML.ggml_get_name.argtypes = [ctypes.c_void_p]
_GGML.gguf_init_from_file.restype = ctypes.c_void_p
_GGML.gguf_init_from_file.argtypes = [ctypes.c_char_p, _GGUFParams]
_GGML.ggml_nbytes.restype = ctypes.c_size_t
_GGML.ggml_nbytes.argtypes = [ctypes.c_void_p]
_GGML.ggml_backend_tensor_get.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_size_t] * 2
_LLAMA.llama_model_init_from_user.restype = ctypes.c_void_p
_LLAMA.llama_model_init_from_user.argtypes = [
    *(ctypes.c_void_p, _SetData, ctypes.c_void_p, llama_cpp.llama_model_params)
]


@llama_cpp.llama_log_callback
def _log(level, text, _):
    if level == 4:  # errors
        sys.stderr.write(text.decode(errors="replace"))


def possible_shapes(metadata_file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes, in NumPy order, of all tensors that llama.cpp asks for, given the metadata."""
    shapes = {}

    def visit(tensor, _):
        dims = list(ctypes.cast(tensor, ctypes.POINTER(_Tensor)).contents.ne)
        while len(dims) > 1 and dims[-1] == 1:
            dims.pop()
        shapes[_GGML.ggml_get_name(tensor).decode()] = tuple(reversed(dims))

    metadata = _GGML.gguf_init_from_file(str(metadata_file).encode(), _GGUFParams(True, None))
    params = llama_cpp.llama_model_default_params()
    if not _LLAMA.llama_model_init_from_user(metadata, _SetData(visit), None, params):
        raise RuntimeError(f"{metadata_file}: refused by llama.cpp")
    return shapes


class Oracle:
    """A file in llama.cpp; taps: name -> arrays, filled with every node of the graph if given."""

    def __init__(self, path: Path, taps: dict[str, list[np.ndarray]] | None = None):
        params = llama_cpp.llama_model_default_params()
        params.use_extra_bufts = False
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise RuntimeError(f"{path}: refused by llama.cpp")
        context = llama_cpp.llama_context_default_params()
        context.n_ctx = context.n_batch = context.n_ubatch = N_CTX
        context.type_k = context.type_v = 0  # F32
        context.flash_attn_type = 0
        context.n_threads = context.n_threads_batch = 1
        if taps is not None:
            self._callback = llama_cpp.ggml_backend_sched_eval_callback(_tap_into(taps))
            context.cb_eval = self._callback
        self.context = llama_cpp.llama_init_from_model(self.model, context)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def decode(self, ids: np.ndarray, position: int) -> np.ndarray:
        """(T, n_vocab) float32 logits of tokens at position, position + 1, …"""
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        for i, token_id in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = int(token_id), position + i, 1
            batch.seq_id[i][0], batch.logits[i] = 0, 1
        batch.n_tokens = len(ids)
        if llama_cpp.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        rows = (llama_cpp.llama_get_logits_ith(self.context, i) for i in range(len(ids)))
        logits = np.stack([np.ctypeslib.as_array(row, (self.n_vocab,)).copy() for row in rows])
        llama_cpp.llama_batch_free(batch)
        return logits

    def close(self) -> None:
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


def _tap_into(taps: dict[str, list[np.ndarray]]):
    """A cb_eval that keeps F32 and I32 nodes by name, in NumPy's order of axes."""

    def visit(tensor, ask, _):
        if not ask:
            head = ctypes.cast(tensor, ctypes.POINTER(_Tensor)).contents
            if head.type in (0, 26):
                raw = np.empty(_GGML.ggml_nbytes(tensor), np.uint8)
                _GGML.ggml_backend_tensor_get(tensor, raw.ctypes.data, 0, raw.size)
                values = raw.view(np.float32 if head.type == 0 else np.int32)
                shape, strides = (tuple(reversed(list(x))) for x in (head.ne, head.nb))
                view = np.lib.stride_tricks.as_strided(values, shape, strides)
                taps.setdefault(_GGML.ggml_get_name(tensor).decode(), []).append(view.copy())
        return True

    return visit


def answers(path: Path, prompt: np.ndarray, n_greedy: int) -> tuple[np.ndarray, ...]:
    """Logits of every prompt position, greedy tokens, the logits they were picked from."""
    oracle = Oracle(path)
    logits = oracle.decode(prompt, 0)
    rows = [logits[-1]]
    while len(rows) < n_greedy:
        rows.append(oracle.decode([rows[-1].argmax()], len(prompt) + len(rows) - 1)[0])
    oracle.close()
    return logits, np.argmax(rows, axis=1).astype(np.int32), np.array(rows)


def make(name: str, folder: Path) -> dict:
    """The golden of one recipe; its last model stays in the folder."""
    recipe, prompt = RECIPES[name], prompt_of(name)
    plain = replace(recipe, n_nextn=0)  # whose tensors llama.cpp can only read, not list
    wb.write_gguf(folder / "metadata.gguf", metadata_of(plain), {})
    shapes = kept_shapes(recipe, possible_shapes(folder / "metadata.gguf"))
    best = None
    for number in range(SEEDS):
        seed, scale = f"{name} {number}", 1.0
        for _ in range(3):  # more than once where a soft cap bends the logits
            write_model(folder / f"{name}.gguf", recipe, seed, shapes, scale)
            logits, greedy, rows = answers(folder / f"{name}.gguf", prompt, 1)
            scale = float(np.float32(scale * SPREAD_OF_LOGITS / logits.std()))
        write_model(folder / f"{name}.gguf", recipe, seed, shapes, scale)
        logits, greedy, rows = answers(folder / f"{name}.gguf", prompt, N_GREEDY)
        ranked = np.sort(rows, axis=1)
        margin = float((ranked[:, -1] - ranked[:, -2]).min())
        if best is None or margin > best["margin"]:
            best = {"seed": seed, "head_scale": scale, "margin": margin, "greedy": greedy}
            best |= {"logits": logits[list(POSITIONS)], "shapes": shapes}
        if margin >= LEAST_MARGIN:
            break
    return best


def _make_in_process(name: str, results) -> None:
    llama_cpp.llama_log_set(_log, None)
    llama_cpp.llama_backend_init()
    with tempfile.TemporaryDirectory() as folder:
        results.put(make(name, Path(folder)))


def made(name: str) -> dict | None:
    """The golden of one recipe, or None where llama.cpp refuses or aborts."""
    results = multiprocessing.Queue()
    process = multiprocessing.Process(target=_make_in_process, args=(name, results))
    process.start()
    while process.is_alive():
        try:
            return results.get(timeout=0.2)
        except queue.Empty:
            continue
    return None


def load() -> dict[str, dict]:
    """The goldens in the file."""
    if not GOLDEN.exists():
        return {}
    with np.load(GOLDEN) as arrays:
        entries = json.loads(bytes(arrays["entries"]).decode())
        for i, name in enumerate(entries):
            entries[name] |= {"logits": arrays["logits"][i], "greedy": arrays["greedy"][i]}
    return entries


def save(goldens: dict[str, dict]) -> None:
    goldens = {name: goldens[name] for name in RECIPES if name in goldens}
    keys = ("seed", "head_scale", "margin", "shapes")
    text = json.dumps({name: {k: golden[k] for k in keys} for name, golden in goldens.items()})
    np.savez_compressed(
        GOLDEN,
        entries=np.frombuffer(text.encode(), np.uint8),
        positions=np.array(POSITIONS, np.int32),
        logits=np.stack([golden["logits"] for golden in goldens.values()]).astype(np.float32),
        greedy=np.stack([golden["greedy"] for golden in goldens.values()]).astype(np.uint8),
        made_with=np.array(f"llama-cpp-python {llama_cpp.__version__}, llama.cpp 0c1e570"),
    )


def print_tap_differences(name: str) -> None:
    """Our activations beside the nodes of llama.cpp's graph, in the order of the graph."""
    golden, nodes = load()[name], {}
    with tempfile.TemporaryDirectory() as folder:
        path, seed = Path(folder) / "model.gguf", golden["seed"]
        write_model(path, RECIPES[name], seed, golden["shapes"], golden["head_scale"])
        oracle = Oracle(path, nodes)
        oracle.decode(prompt_of(name), 0)
        oracle.close()
        trace = wb.ActivationTrace(["*"])
        with wb.load_model(path) as model:
            model.forward(prompt_of(name), model.new_cache(N_CTX, "f32", "f32"), trace=trace)
    for tap in trace.names:
        ours, found = trace[tap], nodes.get(tap, ())
        alike = [node.reshape(ours.shape) for node in found if node.size == ours.size]
        error = min((np.abs(node - ours).max() for node in alike), default=None)
        print(f"{tap:28} {'no node of this size' if error is None else f'{error:.1e}'}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--taps"]:
        print_tap_differences(sys.argv[2])
        sys.exit()
    goldens = load()
    for name in sys.argv[1:] or [name for name in RECIPES if name not in goldens]:
        golden = made(name)
        if golden is None:
            print(f"{name:20} refused")
            continue
        goldens[name] = golden
        print(f"{name:20} {golden['seed']:24} margin {golden['margin']:.3f}")
        save(goldens)
