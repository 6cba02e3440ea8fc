"""The attention of the decode kernel by itself, on fibers, against float64 NumPy."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.ops.fibers import compile_for_cpu, launch, needs_compiler
from workbench.model.decode_memory import MOST_WARPS, _desk_bytes
from workbench.model.decode_records import LAYER, WORK
from workbench.model.decode_tables import UNWRITTEN
from workbench.ops import kernels

CLOSE = 2e-5  # of a unit: q and p in 22 bits, sums in float32
EPS = 1e-6
SHARED = 228 << 10  # bytes that a thread block of an H200 can have
FILES = (
    *("activations.cuh", "decode_records.cuh", "decode_stream.cuh", "decode_exchange.cuh"),
    *("decode_vector.cuh", "decode_heads.cuh", "decode_attention.cuh"),
)


@dataclass(frozen=True)
class Shape:
    """What the kernel is compiled for."""

    n_head: int
    n_head_kv: int
    head_dim: int
    n_rot: int
    neox: bool = False
    softcap: float = 0
    n_warps: int = MOST_WARPS


LLAMA, LONG = Shape(8, 2, 128, 128), Shape(6, 2, 256, 256, neox=True, softcap=30.0)
UNEVEN, MANY, BARE = Shape(27, 3, 80, 20, neox=True), Shape(16, 1, 96, 96), Shape(3, 1, 24, 0)
FEW_WARPS = Shape(9, 1, 128, 64, n_warps=4)


@dataclass(frozen=True)
class Case:
    """A token in its place; largest: what queries are multiplied with."""

    shape: Shape
    n_positions: int
    n_blocks: int
    norms: bool = False
    window: int = 0
    largest: float = 1
    order: int = 0
    architecture: int = 900


CASES = {
    "first_token": Case(LLAMA, 1, 4),
    "one_split": Case(LLAMA, 177, 3),
    "splits_in_any_order": Case(LLAMA, 1000, 7, norms=True, order=5),
    "many_splits": Case(LLAMA, 5800, 33, order=3),
    "window": Case(LLAMA, 1500, 9, window=700),
    "window_of_one": Case(LLAMA, 40, 2, window=1),
    "huge_scores": Case(LLAMA, 200, 2, largest=3000),
    "tiny_queries": Case(LLAMA, 90, 2, largest=1e-12),
    "long_heads": Case(LONG, 300, 5, norms=True),
    "nine_heads_share_keys": Case(UNEVEN, 400, 5),
    "sixteen_heads_share_keys": Case(MANY, 390, 3, norms=True, order=2),
    "short_heads_without_angles": Case(BARE, 60, 1),
    "few_warps": Case(FEW_WARPS, 300, 7, norms=True, order=3),
    "without_bulk_copies": Case(LLAMA, 500, 5, window=333, order=4, architecture=800),
}


def given(case):
    """q (H, D), k and v (S, K, D) before norms and angles, norm weights, angles (S, n_rot / 2)."""
    rng = np.random.default_rng(case.n_positions)
    shape = (case.n_positions, case.shape.n_head_kv, case.shape.head_dim)
    q = rng.normal(size=(case.shape.n_head, case.shape.head_dim)) * case.largest
    k, v = rng.normal(size=shape), rng.normal(size=shape)
    weights = rng.uniform(0.5, 2, (2, case.shape.head_dim)) if case.norms else None
    angles = rng.uniform(0, 6, (case.n_positions, case.shape.n_rot // 2))
    return SimpleNamespace(
        q=q.astype("f4"),
        k=k.astype("f4"),
        v=v.astype("f4"),
        weights=None if weights is None else weights.astype("f4"),
        turns=np.stack([np.cos(angles), np.sin(angles)], -1).astype("f4"),
    )


def placed(case, x, weight, turn):
    """(heads, D) after norm and angles."""
    x = x.astype("f8")
    if weight is not None:
        x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + EPS) * weight
    half = case.shape.n_rot // 2
    first = np.arange(half) if case.shape.neox else 2 * np.arange(half)
    second = first + (half if case.shape.neox else 1)
    out = x.copy()
    out[:, first] = x[:, first] * turn[:, 0] - x[:, second] * turn[:, 1]
    out[:, second] = x[:, first] * turn[:, 1] + x[:, second] * turn[:, 0]
    return out


def expected(case, data):
    """Mixed values (H, D), scores (H, S) in units of log 2, the newest key and value as cached."""
    weights = (None, None) if data.weights is None else data.weights
    q = placed(case, data.q, weights[0], data.turns[-1])
    new_k = placed(case, data.k[-1], weights[1], data.turns[-1]).astype("f2")
    k, v = data.k.astype("f2"), data.v.astype("f2")
    k[-1] = new_k
    group = case.shape.n_head // case.shape.n_head_kv
    keys, values = (np.repeat(x.astype("f8"), group, axis=1) for x in (k, v))
    scores = np.einsum("hd,shd->hs", q, keys) / np.sqrt(case.shape.head_dim)
    if case.shape.softcap:
        scores = case.shape.softcap * np.tanh(scores / case.shape.softcap)
    start = max(0, case.n_positions - case.window) if case.window else 0
    shares = np.exp(scores - scores[:, start:].max(-1, keepdims=True))
    shares[:, :start] = 0
    shares /= shares.sum(-1, keepdims=True)
    return np.einsum("hs,shd->hd", shares, values), scores * np.log2(np.e), shares, k[-1], v[-1]


def desk_bytes(shape):
    return _desk_bytes(shape, shape.n_warps)


def macros(shape):
    """What the loader gives, for a thread block that does nothing but attend."""
    softcap = {"ATTENTION_SOFTCAP": f"{shape.softcap}f"} if shape.softcap else {}
    return softcap | {
        **{"N_WARPS": shape.n_warps, "N_SLOTS": shape.n_warps, "SLOT_BYTES": 4096, "STATS": 1},
        **{"PLANE_BYTES": -(-desk_bytes(shape) // 128) * 128, "PACKET_TYPES(CASE)": ""},
        **{"N_HEAD": shape.n_head, "N_HEAD_KV": shape.n_head_kv, "HEAD_DIM": shape.head_dim},
        **{"N_ROT": shape.n_rot, "ROPE_NEOX": int(shape.neox), "NORM_EPS": f"{EPS}f"},
        **{"ATTENTION_SCALE": f"{shape.head_dim**-0.5}f", "N_LAYER": 1},
        **kernels.EXCHANGE,
    }


def library(shape, architecture=900):
    """The kernels of attend_once.cu."""
    paths = [*kernels.DECODE_SHARED, *(kernels.FOLDER / name for name in FILES)]
    paths.append(Path(__file__).parent / "attend_once.cu")
    return compile_for_cpu(paths, macros(shape), architecture)


def address(array):
    return 0 if array is None else array.ctypes.data


def run(case, data):
    """What the kernel makes of it: by the names of WORK, and the cache (K, n_rows, D)."""
    n_rows = case.n_positions + 3
    cache = np.full((2, case.shape.n_head_kv, n_rows, case.shape.head_dim), np.nan, np.float16)
    for slots, x in zip(cache, (data.k, data.v), strict=True):
        slots[:, : case.n_positions - 1] = x[:-1].astype("f2").transpose(1, 0, 2)
    heads = case.shape.n_head * case.shape.head_dim
    n_splits = case.n_blocks * case.shape.n_head
    found = {
        "qkv": np.concatenate([x.reshape(-1) for x in (data.q, data.k[-1], data.v[-1])]),
        "mixed": np.full(heads, np.nan, np.float32),
        "splits": np.full(n_splits * (case.shape.head_dim + 4), UNWRITTEN, np.float32),
        "scores": np.full((case.shape.n_head, n_rows), np.nan, np.float32),
        "ends": np.full((case.shape.n_head, 2), np.nan, np.float32),
        "norms": np.full((2, case.shape.n_head_kv), np.nan, np.float32),
    }
    work, layer = np.zeros(1, WORK), np.zeros(1, LAYER)
    for name, array in found.items():
        work[name] = address(array)
    work["n_rows"] = n_rows
    layer["k"], layer["v"] = (address(slots) for slots in cache)
    layer["rotation"] = address(data.turns) if case.shape.n_rot else 0
    layer["window"] = case.window
    if data.weights is not None:
        layer["q_norm"], layer["k_norm"] = (address(row) for row in data.weights)
    sizes = (case.n_blocks, 32 * case.shape.n_warps + 32, SHARED)
    arguments = (layer, work, case.n_positions)
    compiled = library(case.shape, case.architecture)
    launch(compiled, "attend_once", *sizes, *arguments, order=case.order)
    return found, cache


@needs_compiler
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_attention_is_that_of_float64(case):
    data = given(case)
    mixed, scores, shares, key, value = expected(case, data)
    found, cache = run(case, data)
    got = found["mixed"].reshape(mixed.shape)
    np.testing.assert_allclose(got, mixed, rtol=0, atol=CLOSE * max(1, np.abs(scores).max() / 30))
    newest = case.n_positions - 1
    np.testing.assert_allclose(cache[0][:, newest].astype("f4"), key.astype("f4"), rtol=1e-3)
    np.testing.assert_array_equal(cache[1][:, newest], value)
    assert np.isnan(cache[:, :, case.n_positions :]).all()
    ends = found["ends"].astype("f8")
    kept = np.exp2(found["scores"][:, : case.n_positions] - ends[:, :1]) / ends[:, 1:]
    seen = np.arange(case.n_positions) > newest - (case.window or case.n_positions)
    np.testing.assert_allclose(kept[:, seen], shares[:, seen], atol=1e-4)
    norms = np.linalg.norm(np.stack([key, value]).astype("f8"), axis=-1)
    np.testing.assert_allclose(found["norms"], norms, rtol=2e-3)


@needs_compiler
@pytest.mark.parametrize("shape", [LLAMA, LONG, UNEVEN, MANY, BARE, FEW_WARPS], ids=str)
def test_the_desk_has_the_bytes_that_the_plan_gives_it(shape):
    found = np.zeros(1, np.uint32)
    launch(library(shape), "measure_desk", 1, 32, SHARED, found)
    assert desk_bytes(shape) - 16 < found[0] <= desk_bytes(shape)
