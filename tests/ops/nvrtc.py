"""Compiles CUDA text with NVRTC, with no GPU and no CuPy, and reads what each kernel needs.

    python -m tests.ops.nvrtc dequantize_k                   a name in kernels.SOURCES
    python -m tests.ops.nvrtc a.cuh b.cu --arch 80,90        files after the machine's vocabulary
    python -m tests.ops.nvrtc b.cu --define HEAD_DIM=128

The library is that of the nvidia-cuda-nvrtc wheel (CuPy's [ctk] extra brings it too), or the
system's. Source: nvrtc.h.
"""

import argparse
import ctypes
import functools
import importlib.util
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.ops import kernels

ARCHITECTURES = ("80", "89", "90", "100", "120")
# CuPy always adds -ftz=true. What NVRTC takes from its cache, where there is a driver, has no log.
OPTIONS = ("-std=c++17", "-ftz=true", "--ptxas-options=-v", "--no-cache")


class CompileError(Exception):
    """The compiler's words about a text that it refused."""


@dataclass(frozen=True)
class Kernel:
    """What a compiled kernel takes, as ptxas tells it; sizes in bytes."""

    name: str
    registers: int
    spilled: int  # registers kept in local memory
    stack: int  # local memory, which holds arrays with an index known only at run time
    shared: int  # static shared memory


@functools.cache
def library() -> ctypes.CDLL | None:
    """NVRTC, or None where there is none."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    found = [path for folder in folders for path in sorted(folder.glob("**/libnvrtc.so.*"))]
    names = [str(path) for path in found if "builtins" not in path.name and "alt" not in path.name]
    for name in (*names, "libnvrtc.so"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


@functools.cache
def compile_text(text: str, architecture: str, name: str = "kernels") -> tuple[Kernel, ...]:
    """Compiles a whole text for sm_ARCHITECTURE.

    Returns: its kernels. Raises: CompileError with the compiler's log.
    """
    nvrtc, program = library(), ctypes.c_void_p()
    file = f"{name}.cu".encode()
    none = ctypes.c_int(0), None, None
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), file, *none))
    try:
        options = [option.encode() for option in (f"-arch=sm_{architecture}", *OPTIONS)]
        array = (ctypes.c_char_p * len(options))(*options)
        failed = nvrtc.nvrtcCompileProgram(program, ctypes.c_int(len(options)), array)
        log = _log(nvrtc, program)
        if failed:
            raise CompileError(log)
        return read_log(log)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _log(nvrtc: ctypes.CDLL, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    _check(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
    log = ctypes.create_string_buffer(size.value)
    _check(nvrtc.nvrtcGetProgramLog(program, log))
    return log.value.decode(errors="replace")


def _check(status: int) -> None:
    assert status == 0, f"NVRTC answers with status {status}"


def read_log(log: str) -> tuple[Kernel, ...]:
    """The kernels of what ptxas -v says."""
    parts = re.split(r"Compiling entry function '(\w+)'", log)[1:]
    return tuple(
        Kernel(
            name,
            _number(r"Used (\d+) registers", part),
            _number(r"(\d+) bytes spill stores", part) + _number(r"(\d+) bytes spill loads", part),
            _number(r"(\d+) bytes stack frame", part),
            _number(r"(\d+) bytes smem", part),
        )
        for name, part in zip(parts[::2], parts[1::2], strict=True)
    )


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


# --- the command -----------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Prints a line for each kernel and architecture. Returns: 1 if something is not as it must."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="+", help="names in kernels.SOURCES, or files of one text")
    parser.add_argument("--arch", default="90", help="such as 80,90, or all")
    parser.add_argument("--define", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args(arguments)
    if library() is None:
        sys.exit("NVRTC is not here: pip install nvidia-cuda-nvrtc")
    defines = dict(pair.partition("=")[::2] for pair in given.define)
    architectures = ARCHITECTURES if given.arch == "all" else given.arch.split(",")
    bad = 0
    for name, text in _texts(given.what, defines).items():
        for architecture in architectures:
            bad |= _print(name, text, architecture)
    return bad


def _texts(what: list[str], defines: Mapping[str, str]) -> dict[str, str]:
    files = [Path(name) for name in what if name not in kernels.SOURCES]
    files = [path if path.exists() else kernels.FOLDER / path for path in files]
    names = [name for name in what if name in kernels.SOURCES]
    texts = {}
    for name in names:
        source = kernels.SOURCES[name]
        texts[name] = kernels.join_sources(source.paths, {**source.defines, **defines})
    if files:
        paths = [*kernels.DECODE_SHARED, *files]
        texts[files[-1].stem] = kernels.join_sources(dict.fromkeys(paths), defines)
    return texts


def _print(name: str, text: str, architecture: str) -> int:
    try:
        compiled = compile_text(text, architecture, name)
    except CompileError as error:
        print(f"{name} sm_{architecture}: REFUSED\n{error}")
        return 1
    print(f"{name} sm_{architecture}: {len(compiled)} kernels")
    print(f"    {'kernel':44s} registers  spilled  stack  shared")
    for kernel in compiled:
        print(
            f"    {kernel.name:44s} {kernel.registers:9d} {kernel.spilled:8d} {kernel.stack:6d} "
            f"{kernel.shared:7d}{'   <-- local memory' * bool(kernel.spilled or kernel.stack)}"
        )
    return int(any(kernel.spilled or kernel.stack for kernel in compiled))


if __name__ == "__main__":
    sys.exit(main())
