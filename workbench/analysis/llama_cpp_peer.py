"""llama.cpp's side of `model_speed`: a program of its own, for any Python with llama-cpp-python.

    python llama_cpp_peer.py MODEL THREADS N_CTX GPU_LAYERS

It writes "ready", then answers each line "TOKENS AT_ONCE DEPTH" with the seconds that so many
tokens took, in pieces of AT_ONCE, behind DEPTH others that do not count. It imports nothing of
this package, and ends at once if it shall use a GPU and its llama.cpp can not.

Source: llama.cpp include/llama.h. Left out: other settings, which stay at
llama.cpp's defaults.
"""

import ctypes
import sys
import time
from typing import Any

UBATCH = 512


def open_context(path: str, threads: int, n_ctx: int, gpu_layers: int) -> Any:
    """llama_cpp and a context; ends the program where there is none."""
    import llama_cpp  # absent where the package itself runs, as a rule

    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    if gpu_layers and not llama_cpp.llama_supports_gpu_offload():
        sys.exit(1)
    choices = llama_cpp.llama_model_default_params()
    choices.n_gpu_layers = gpu_layers
    model = llama_cpp.llama_model_load_from_file(path.encode(), choices)
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = max(n_ctx, UBATCH), UBATCH, UBATCH
    settings.n_threads = settings.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, settings) if model else None
    if not context:
        sys.exit(1)
    return llama_cpp, context, silent


def seconds_for(llama_cpp: Any, context: Any, n_tokens: int, at_once: int, depth: int = 0) -> float:
    """Seconds for tokens 1, 1, … behind `depth` others."""
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    decode(llama_cpp, context, depth, UBATCH)
    start = time.perf_counter()
    decode(llama_cpp, context, n_tokens, min(at_once, UBATCH))
    return time.perf_counter() - start


def decode(llama_cpp: Any, context: Any, n_tokens: int, at_once: int) -> None:
    """Send tokens through the model, as many as `at_once` in a call, and wait for the last."""
    for done in range(0, n_tokens, at_once):
        count = min(at_once, n_tokens - done)
        ids = (ctypes.c_int32 * count)(*[1] * count)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(ids, count)):
            sys.exit(1)
    llama_cpp.llama_synchronize(context)


if __name__ == "__main__":
    library, opened, _log = open_context(sys.argv[1], *map(int, sys.argv[2:5]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(f"{seconds_for(library, opened, *map(int, line.split()))}\n")
        sys.stdout.flush()
