"""Packed rows of the KV cache as float32: the numbers that `dequantize` gives."""

import numpy as np
import pytest

from workbench.model.kv_types import CACHE_TYPES, CacheType
from workbench.ops import cpu
from workbench.ops.cpu_wide_rows import wide_rows
from workbench.quants import dequantize

PACKED = [name.upper() for name in CACHE_TYPES if CacheType(name).is_packed]
LAST_PLACE = 2**-23  # of the largest number: a minimum is taken off without rounding twice


def packed(type, shape, seed=0):
    """A room for rows, filled with random numbers."""
    room = np.zeros((*shape[:2], CacheType(type.lower()).stored_length(shape[2])), np.uint8)
    rows = cpu.packed_rows(room, type, shape[2])
    rows[:] = np.random.default_rng(seed).normal(0, 5, shape).astype(np.float32)
    return rows


@pytest.mark.parametrize("type", PACKED)
@pytest.mark.parametrize("shape", [(1, 1, 32), (3, 1, 32), (50, 4, 96), (7, 3, 128)])
def test_numbers_are_those_of_dequantize(type, shape):
    rows = packed(type, shape)
    want = dequantize(rows.raw, type)
    got = wide_rows(rows)
    assert (got.shape, got.dtype) == (shape, np.float32)
    np.testing.assert_allclose(got, want, 0, LAST_PLACE * np.abs(want).max())


@pytest.mark.parametrize("type", PACKED)
def test_some_positions_and_some_heads(type):
    rows = packed(type, (40, 4, 64))
    for part in (np.s_[5:37], np.s_[:, 1:3], np.s_[9:10, 3:4], np.s_[0:0]):
        want = dequantize(np.ascontiguousarray(rows.raw[part]), type)
        np.testing.assert_allclose(wide_rows(rows[part]), want, 0, LAST_PLACE * 30)
