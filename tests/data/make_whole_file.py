"""Makes whole_file.json: sha256 of files that llama-quantize writes, for every file type.

Of the built-in model and of a made-up one with experts (`tests.quants.tiny_model` draws its weights
and importances). Made with llama-cpp-python 0.3.36 (llama.cpp commit 0c1e570).
Run from the repository root: PYTHONPATH=. python tests/data/make_whole_file.py
"""

import ctypes
import hashlib
import json
import tempfile
from pathlib import Path

import gguf
from llama_cpp import llama_cpp as lib

from tests.quants.tiny_model import IMPORTANCES, NUMBERS, WEIGHTS

HERE = Path(__file__).resolve().parent
BUILTIN = HERE.parents[1] / "data" / "stories-7m-f16.gguf"
PREFIXES = ("LLAMA_FTYPE_MOSTLY_", "LLAMA_FTYPE_ALL_")
FILE_TYPES = {
    name.removeprefix(prefix): value
    for name, value in vars(lib).items()
    for prefix in PREFIXES
    if name.startswith(prefix) and name != "LLAMA_FTYPE_MOSTLY_NVFP4"  # llama-quantize refuses it
}
OF_BUILTIN = ("F32", "Q8_0", "Q4_0", "Q5_1", "Q2_K", "Q3_K_L", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_XS")
OVERRIDES = {  # what the command llama-quantize adds when it is given an imatrix
    b"quantize.imatrix.file": b"an.imatrix",
    b"quantize.imatrix.dataset": b"a text",
    b"quantize.imatrix.entries_count": len(IMPORTANCES),
    b"quantize.imatrix.chunks_count": 3,
}
INT, STRING = 0, 3  # tags of llama_model_kv_override


def write_tiny_model(path: str) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in NUMBERS.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, weights in WEIGHTS.items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(path: str, out: str, file_type: int, has_imatrix: bool) -> bool:
    params = lib.llama_model_quantize_default_params()
    params.nthread, params.ftype = 2, file_type
    entries = (lib.llama_model_imatrix_data * (len(IMPORTANCES) + 1))()
    for entry, (name, values) in zip(entries, IMPORTANCES.items(), strict=False):
        pointer = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entry.name, entry.data, entry.size = name.encode(), pointer, values.size
    overrides = (lib.llama_model_kv_override * (len(OVERRIDES) + 1))()
    for override, (key, value) in zip(overrides, OVERRIDES.items(), strict=False):
        override.key, override.tag = key, INT if isinstance(value, int) else STRING
        if isinstance(value, int):
            override.value.val_i64 = value
        else:
            override.value.val_str = value
    if has_imatrix:
        params.imatrix, params.kv_overrides = entries, overrides
    return lib.llama_model_quantize(path.encode(), out.encode(), ctypes.byref(params)) == 0


def of_file(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@lib.llama_log_callback
def no_log(level: int, text: bytes, user_data: object) -> None:
    pass


def main() -> None:
    lib.llama_log_set(no_log, ctypes.c_void_p(0))
    goldens: dict[str, dict[str, str]] = {"built-in": {}, "tiny": {}, "tiny imatrix": {}}
    with tempfile.TemporaryDirectory() as folder:
        path, out = f"{folder}/tiny.gguf", f"{folder}/out.gguf"
        write_tiny_model(path)
        for name, value in FILE_TYPES.items():
            for title, source, has_imatrix in (
                ("built-in", str(BUILTIN), False),
                ("tiny", path, False),
                ("tiny imatrix", path, True),
            ):
                if title != "built-in" or name in OF_BUILTIN:
                    written = quantize(source, out, value, has_imatrix)
                    goldens[title][name] = of_file(out) if written else "refused"
    (HERE / "whole_file.json").write_text(json.dumps(goldens, indent=0) + "\n")


if __name__ == "__main__":
    main()
