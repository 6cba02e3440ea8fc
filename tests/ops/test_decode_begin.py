"""What a token begins with: its row of the embeddings, and places that are UNWRITTEN."""

import numpy as np
import pytest

from tests.ops.fibers import compile_for_cpu, launch, needs_compiler
from workbench.ops import kernels
from workbench.quants import dequantize, quantize

N_EMBD, N_NUMBERS = 512, 3000


def begin(type, family, rows, token_id, state=(0, 0, 0)):
    """What is exchanged, as bits, and the counters after decode_begin."""
    names = {"EMBEDDING": type, "EMBEDDING_IS_NUMBERS": int(family == "floats")}
    names |= {"EMBEDDING_SCALE": "1.0f", **kernels.DEQUANTIZE_SIZES, **kernels.EXCHANGE}
    files = (f"dequantize_{family}.cu", "decode_begin.cu")
    source = kernels.Source((*kernels.SHARED, *(kernels.FOLDER / name for name in files)), names)
    exchanged, meetings = np.zeros(N_NUMBERS, np.float32), np.full(2, 9, np.uint32)
    row_bytes = np.uint64(rows.strides[0])
    given = (rows.view(np.uint8), None, row_bytes, np.uint32(N_EMBD))
    state = np.array([token_id, *state], np.uint32)
    n_blocks = -(-N_NUMBERS // (8 * kernels.THREADS))
    more = (state, exchanged, np.uint32(N_NUMBERS), meetings)
    launch(compile_for_cpu(source), "decode_begin", n_blocks, kernels.THREADS, 0, *given, *more)
    return exchanged.view(np.uint32), meetings


@needs_compiler
@pytest.mark.parametrize(("type", "family"), [("F32", "floats"), ("Q4_0", "legacy")])
def test_a_row_then_unwritten_places_and_counters_of_zero(type, family):
    table = np.random.default_rng(2).normal(size=(3, N_EMBD)).astype(np.float32)
    rows = table if type == "F32" else quantize(table, type)
    exchanged, meetings = begin(type, family, rows, 2)
    want = table[2] if type == "F32" else dequantize(rows, type)[2]
    np.testing.assert_array_equal(exchanged[:N_EMBD], want.view(np.uint32))
    assert (exchanged[N_EMBD:] == kernels.UNWRITTEN).all() and not meetings.any()


@needs_compiler
def test_a_file_with_the_number_that_means_unwritten_lets_nobody_wait():
    table = np.zeros((1, N_EMBD), np.uint32)
    table[0, [0, 100]] = kernels.UNWRITTEN
    exchanged, _ = begin("F32", "floats", table.view(np.float32), 0)
    assert (exchanged[:N_EMBD] != kernels.UNWRITTEN).all()
    assert np.isnan(exchanged[:N_EMBD].view(np.float32)).sum() == 2


@needs_compiler
def test_nothing_begins_after_a_stop():
    exchanged, meetings = begin("F32", "floats", np.ones((1, N_EMBD), np.float32), 0, (0, 0, 1))
    assert not exchanged.any() and (meetings == 9).all()
