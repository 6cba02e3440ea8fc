"""Attention without its matrix of scores gives what plain attention gives, under every rule."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from tests.ops import nvrtc
from tests.ops.attention_cases import CASES, HEAD_DIMS, Case, made, normwise
from tests.ops.fibers import compile_for_cpu, launch, needs_compiler
from tests.ops.test_cuda_compile import needs_nvrtc
from tests.ops.test_cuda_kernels import needs_gpu
from workbench.ops import cpu, kernels

ROUNDED = 1.5e-3  # normwise: queries and shares are float16, by 2**-12 of each number
LENGTHS = (64, 80, 96, 128, 256)  # that the kernel is compiled for
WARPS = 4
VARIANTS = [(n, False, 1 if n > 128 else 2) for n in LENGTHS] + [(n, True, 1) for n in LENGTHS]
SIZES = np.dtype(
    [(name, "<u4") for name in ("k_row", "k_head", "v_row", "v_head")]
    + [(name, "<i4") for name in ("n_tokens", "n_seen", "n_head_kv", "group")]
    + [(name, "<i4") for name in ("head_dim", "head_dim_v", "window", "chunked", "before")]
    + [(name, "<f4") for name in ("scale", "softcap")],
    align=True,
)
FEW = (Case(7, 7, 8, 2), Case(40, 150, 6, 2, window=20, sinks=True))


def source(head_dim: int, has_rules: bool, row_tiles: int) -> kernels.Source:
    sizes = {"HEAD_DIM": head_dim, "RULES": int(has_rules), "ROW_TILES": row_tiles}
    return replace(kernels.SOURCES["flash_attention"], defines=sizes)


@functools.cache
def library(head_dim: int, has_rules: bool, row_tiles: int):
    return compile_for_cpu(source(head_dim, has_rules, row_tiles))


def on_fibers(q, k, v, rules, first):
    """The kernel on this CPU; out is what no number is where it does not write."""
    (n_tokens, n_head, head_dim), (n_seen, n_head_kv, head_dim_v) = q.shape, v.shape
    has_rules = bool(rules.softcap) or rules.slopes is not None
    padded = next(length for length in LENGTHS if length >= max(head_dim, head_dim_v))
    row_tiles = 1 if padded > 128 or has_rules else 2
    strides = [step // 2 for x in (k, v) for step in x.strides[:2]]
    group, before = n_head // n_head_kv, first + n_tokens - n_seen
    lengths = (n_tokens, n_seen, n_head_kv, group, head_dim, head_dim_v)
    rest = (rules.window, rules.chunked, before, rules.scale, rules.softcap)
    out = np.full((n_tokens, n_head * head_dim_v), np.nan, np.float32)
    half = np.full(out.shape, np.nan, np.float16)
    n_rows = WARPS * row_tiles * 16
    n_bytes = (n_rows + 4 * (32 if padded > 128 else 64)) * (padded + 8) * 2
    launch(
        *(library(padded, has_rules, row_tiles), "flash_attention"),
        *(n_head_kv * -(-n_tokens * group // n_rows), 32 * WARPS, n_bytes),
        *(q, from_first(k), from_first(v), rules.sinks, rules.slopes, out, half),
        np.array((*strides, *lengths, *rest), SIZES),
    )
    return out, half


def from_first(view: np.ndarray) -> np.ndarray:
    """The memory from the view's first number on."""
    whole = view.base
    start = (view.ctypes.data - whole.ctypes.data) // view.itemsize
    return whole.reshape(-1)[start:]


def check(got, want):
    out, half = got
    assert normwise(out, want) < ROUNDED
    np.testing.assert_array_equal(half, out.astype(np.float16))


@needs_compiler
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_kernel_gives_the_attention_of_numpy_under_every_rule(case):
    arguments = made(case, 64, np.asarray)
    check(on_fibers(*arguments), cpu.attention(*arguments))


@needs_compiler
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_the_kernel_takes_heads_of_every_length(head_dim):
    for case in FEW:
        arguments = made(case, head_dim, np.asarray)
        check(on_fibers(*arguments), cpu.attention(*arguments))


@needs_compiler
def test_queries_beyond_float16_give_shares_not_infinities():
    q, k, v, rules, first = made(Case(5, 9), 64, np.asarray)
    q[...] = 0
    q[..., 3] = 1e30  # one number decides, so that its size does not
    check(on_fibers(q, k, v, rules, first), cpu.attention(q, k, v, rules, first))


@needs_nvrtc
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_stays_in_registers(variant):
    for kernel in nvrtc.compile_text(source(*variant).text(), "90", "flash_attention"):
        assert kernel.spilled == 0 and kernel.stack == 0, kernel


# --- on a GPU --------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_the_gpu_gives_the_attention_of_numpy_under_every_rule(head_dim):
    import cupy as cp

    from workbench.ops import cuda, cuda_flash

    for case in CASES:
        arguments = made(case, head_dim, cp.asarray)
        assert cuda_flash.can_flash(*arguments[:4])
        got = [cuda.to_numpy(x) for x in cuda_flash.flash_attention(*arguments)]
        check(got, cpu.attention(*made(case, head_dim, np.asarray)))


@needs_gpu
def test_what_the_kernel_cannot_read_is_refused():
    import cupy as cp

    from workbench.ops import cuda_flash

    q, k, v, rules, _ = made(Case(7, 7), 64, cp.asarray)
    assert not cuda_flash.can_flash(q, k.astype(np.float32), v, rules)
    assert not cuda_flash.can_flash(q[..., :60], k[..., :60], v, rules)
    assert not cuda_flash.can_flash(q, k, cp.asfortranarray(v), rules)
    assert not cuda_flash.can_flash(cp.zeros((7, 4, 264), np.float32), k, v, rules)
