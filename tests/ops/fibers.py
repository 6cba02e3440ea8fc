"""Compiles the kernels' text for this CPU and runs launches on it, every thread a fiber.

    library = compile_for_cpu(kernels.SOURCES["repack"])
    launch(library, "pack_Q4_0", grid, threads, shared_bytes, raw, out, 77)

The shims (cpu_shim.hpp, fiber_shim.hpp, fiber_machine.hpp) take the place of the ptx*.cuh files.
"""

import ctypes
import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.ops import kernels

HERE = Path(__file__).parent
SHIMS = tuple(HERE / f"{name}.hpp" for name in ("cpu_shim", "fiber_shim", "fiber_machine"))
OPTIONS = "-O2 -std=c++17 -ffp-contract=off -fno-strict-aliasing -fPIC -w -U_FORTIFY_SOURCE".split()
GUARD = 64  # bytes before and behind an array that a kernel must leave alone

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="g++, which compiles the kernels for the CPU, is not here"
)


def compile_for_cpu(
    paths: Iterable[Path] | kernels.Source,
    defines: Mapping[str, object] | None = None,
    architecture: int = 900,
) -> ctypes.CDLL:
    """The kernels of some files of `workbench/ops/kernels` as a library for `launch`.

    paths: in order, the ptx*.cuh among them or not; or one of `kernels.SOURCES`, with its names.
    defines: names that stand for a value in all of the text; more than those of a source.
    architecture: what __CUDA_ARCH__ is; below 900 copies are those of older machines.
    """
    if isinstance(paths, kernels.Source):
        paths, defines = paths.paths, {**paths.defines, **(defines or {})}
    own = [Path(path) for path in paths if not Path(path).name.startswith("ptx")]
    defines = {**(defines or {}), "__CUDA_ARCH__": architecture}
    return _compile(kernels.join_sources([*SHIMS, *own], defines))


@functools.cache
def _compile(text: str) -> ctypes.CDLL:
    found = re.findall(
        r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^()]*\)\s*)?(\w+)',
        _run_compiler(text, "-E", "-P"),
    )
    entries = "".join(f"\nENTRY({name})" for name in found)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.so"
        _run_compiler(text + entries, "-D__global__=", "-shared", "-o", str(path))
        library = ctypes.CDLL(str(path))
    library.run_launch.restype = ctypes.c_char_p
    return library


def _run_compiler(text: str, *options: str) -> str:
    command = ["g++", *OPTIONS, "-x", "c++", "-", *options]
    done = subprocess.run(command, input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[:8000]
    return done.stdout


def launch(
    library: ctypes.CDLL,
    kernel: str,
    grid: int | tuple[int, ...],
    threads: int | tuple[int, ...],
    shared_bytes: int,
    *arguments: Any,
    order: int = 0,
) -> None:
    """Runs a kernel; arrays are written in place.

    arguments: as the kernel's: a NumPy array (C-contiguous) or None for a pointer, a NumPy or
        ctypes scalar or structure by value, an int for any integer.
    order: 0 runs the threads in turn; another number, in another order each round.
    Raises: AssertionError for a deadlock, misuse of an instruction, or a write beside an array.
    """
    arrays = {id(x): _Guarded(x) for x in arguments if isinstance(x, np.ndarray) and x.ndim}
    values = [arrays[id(x)].pointer if id(x) in arrays else _value(x) for x in arguments]
    expected = getattr(library, f"arguments_of_{kernel}")()
    assert len(values) == expected, f"{kernel} takes {expected} arguments, got {len(values)}"
    at = (ctypes.c_void_p * (len(values) + 1))(*[ctypes.addressof(x) for x in values])
    sizes = (ctypes.c_uint * 6)(*_three(grid), *_three(threads))
    call = getattr(library, f"call_{kernel}")
    shared = ctypes.c_size_t(shared_bytes)
    error = library.run_launch(call, at, sizes, shared, ctypes.c_uint(order)).decode()
    assert not error, f"{kernel}: {error}"
    for array in arrays.values():
        array.copy_back(kernel)


def _three(sizes: int | tuple[int, ...]) -> tuple[int, ...]:
    given = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    return (*given, 1, 1)[:3]


def _value(x: Any) -> Any:
    """The bytes of an argument given by value, in an object that ctypes can find."""
    if x is None:
        return ctypes.c_void_p(None)
    if isinstance(x, bool | int):
        return ctypes.c_longlong(x)  # little-endian: its first bytes are those of a shorter one
    if isinstance(x, np.generic | np.ndarray):
        return ctypes.create_string_buffer(x.tobytes() + bytes(8))
    assert isinstance(x, ctypes._SimpleCData | ctypes.Structure | ctypes.Array), type(x)
    return x


class _Guarded:
    """A copy of an array at an address like those of GPU memory, between bytes that are checked."""

    def __init__(self, array: np.ndarray) -> None:
        assert array.flags.c_contiguous, "a kernel's array must be C-contiguous"
        self.array = array
        self.memory = np.full(array.nbytes + 2 * GUARD + 256, 0xCD, np.uint8)
        self.start = GUARD + -(self.memory.ctypes.data + GUARD) % 256
        self.end = self.start + array.nbytes
        self.memory[self.start : self.end] = array.reshape(-1).view(np.uint8)
        self.pointer = ctypes.c_void_p(self.memory.ctypes.data + self.start)

    def copy_back(self, kernel: str) -> None:
        beside = np.concatenate([self.memory[: self.start], self.memory[self.end :]])
        shape = self.array.shape
        assert (beside == 0xCD).all(), f"{kernel} wrote beside an array of shape {shape}"
        if self.array.flags.writeable:
            written = self.memory[self.start : self.end].view(self.array.dtype)
            self.array[...] = written.reshape(shape)
