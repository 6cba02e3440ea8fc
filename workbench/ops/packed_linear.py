"""Products with packed weights that read their blocks where they lie, by compiled kernels.

    one token      packed rows ──▶ codes, 256 at a time ──▶ sums       nothing is expanded
    many tokens    packed rows ──▶ float32 tile in the cache ──▶ sums of 4 rows x 4 tokens

In the exact mode activations stay float32. In the fast mode they are first rounded as llama.cpp
rounds them for the weight's type, so that the numbers are close to llama.cpp's own.

Source: ggml-cpu/ggml-cpu.c, `ggml_compute_forward_mul_mat` and its `vec_dot_type`.
Left out: types over grids and ternary ones, and big-endian files: `cpu` expands those by tiles.
"""

from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ..quants import codec_of, dequantize, quantize
from .packed import PackedTensor
from .packed_threads import Job, n_threads, run_job

__all__ = ["compile_kernels", "has_kernel", "n_threads", "packed_linear"]

HALVES = ("F16", "BF16")
INT8_FORMS = {  # weight type -> how llama.cpp rounds the activations
    **dict.fromkeys(("Q8_0", "Q4_0", "Q5_0", "IQ4_NL", "MXFP4"), "Q8_0"),
    **dict.fromkeys(("Q4_1", "Q5_1"), "Q8_1"),
    **dict.fromkeys(("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"), "Q8_K"),
}
FEW_TOKENS = 2  # up to this many, decoding a row again for each costs less than a float32 tile
TILE_ROWS = 64  # a tile of 512 KiB
ROWS_AT_ONCE = 16  # rows a thread takes from the counter


def has_kernel(weight: PackedTensor) -> bool:
    """Whether `packed_linear` takes this weight."""
    known = weight.type in INT8_FORMS or weight.type in HALVES
    return known and weight.byte_order == "little" and len(weight.shape) == 2


def packed_linear(x: np.ndarray, weight: PackedTensor, fast: bool = False) -> np.ndarray:
    """x times the transposed weight, as `cpu.linear`.

    x: (T, n) float32; weight: (m, n), one that `has_kernel`; fast: round x as llama.cpp does.
    Returns: (T, m) float32.
    """
    assert weight.raw.shape == (weight.shape[0], _row_bytes(weight.type, x.shape[1]))
    x = np.ascontiguousarray(x, np.float32)
    n_tokens, n = x.shape
    plan = _plan(weight.type, n_tokens > FEW_TOKENS, fast)
    address, memory = plan.lay_out(x)
    raw = weight.raw if weight.raw.strides[1] == 1 else np.ascontiguousarray(weight.raw)
    out = (np.zeros if plan.adds else np.empty)((n_tokens, len(raw)), np.float32)
    run_job(Job(memory, plan.kernel, raw, n, address, n_tokens, out, plan.step))
    return out


def compile_kernels(types: Iterable[str], fast: bool, progress: Callable = iter) -> None:
    """Compile the kernels of some types, or load them from numba's cache, before they are needed.

    progress: goes through a list of them, as tqdm does, to show how far it is.
    """
    known = [type for type in types if type in HALVES or type in INT8_FORMS]
    for type, many in progress([(type, many) for type in known for many in (False, True)]):
        size = codec_of(type).block_size
        x = np.zeros((FEW_TOKENS + many, size), np.float32)
        packed_linear(x, PackedTensor(quantize(x, type), type, x.shape), fast)


class Plan(NamedTuple):
    """How a product is done: a compiled kernel's address, and what lays activations out for it.

    lay_out: x -> address, memory that holds it; adds: whether out must be zeros before; step: rows
    that a thread takes at once.
    """

    kernel: int
    lay_out: Callable
    adds: bool
    step: int


@cache
def _plan(type: str, many: bool, fast: bool) -> Plan:
    """The plan for a type of weight; compiles its kernel, or loads what was compiled."""
    if many:
        kind = INT8_FORMS.get(type, type) if fast else None
        if kind != "Q8_1":  # whose rounded sums are no sums of rounded numbers
            return Plan(_kernel("tile_products", type), _floats("natural", kind), True, TILE_ROWS)
    order = type if type in _activations().ORDERS else "natural"
    if fast and type in INT8_FORMS:
        kernel, lay_out = _kernel("int_products", type), _records(order, INT8_FORMS[type])
    else:
        kernel, lay_out = _kernel("float_products", type), _floats(order, type if fast else None)
    return Plan(kernel, lay_out, False, ROWS_AT_ONCE)


def _kernel(family: str, type: str) -> int:
    """The address of a compiled kernel, which takes the address of a job."""
    module = import_module(f".cpu_kernels.{family}", __package__)  # numba: imported at first use
    entry = import_module(".cpu_kernels.entry", __package__)
    return entry.compiled(getattr(module, type.lower())).address


@cache
def _row_bytes(type: str, n: int) -> int:
    codec = codec_of(type)
    return n // codec.block_size * codec.type_size


# --- activations -----------------------------------------------------------------------------


@cache
def _activations() -> Any:
    return import_module(".cpu_kernels.activations", __package__)  # numba: imported at first use


@cache
def _floats(order: str, kind: str | None) -> Callable:
    """What lays x out as float32 in the order of a kernel, rounded first as `kind` says."""
    activations = _activations()
    number = activations.ORDERS[order]

    def lay_out(x: np.ndarray) -> tuple[int, np.ndarray]:
        if kind is not None:
            x = _rounded(x, kind)
        chunks = -(-x.shape[1] // activations.CHUNK)
        memory = np.empty((len(x) * chunks + 1) * activations.FLOATS_OF_CHUNK, np.float32)
        return activations.lay_out_floats(number, x, memory), memory

    return lay_out


@cache
def _records(order: str, kind: str) -> Callable:
    """What lays x out as int8 codes with all that the kernel needs about them."""
    activations = _activations()
    numbers = activations.KINDS[kind], activations.ORDERS[order]

    def lay_out(x: np.ndarray) -> tuple[int, np.ndarray]:
        chunks = -(-x.shape[1] // activations.CHUNK)
        memory = np.empty((len(x) * chunks + 1) * activations.RECORD.itemsize, np.uint8)
        return activations.lay_out_codes(*numbers, x, memory), memory

    return lay_out


def _rounded(x: np.ndarray, kind: str) -> np.ndarray:
    """The numbers that x's codes stand for: int8, or the weight's own 16 bits."""
    if kind in HALVES:
        return dequantize(quantize(x, kind), kind)
    activations = _activations()
    out = np.empty_like(x)
    activations.round_floats(activations.KINDS[kind], x, out)
    return out
