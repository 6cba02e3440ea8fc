"""The fiber shim does what the machine does: each instruction's layout, each wait, each error."""

import functools
from pathlib import Path

import numpy as np
import pytest

from tests.ops import machine_cases
from tests.ops.fibers import compile_for_cpu, launch, needs_compiler

MACHINE = Path(__file__).with_name("machine.cu")
MISTAKES = Path(__file__).with_name("machine_mistakes.cu")

pytestmark = needs_compiler


@pytest.mark.parametrize("architecture", [800, 900])
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("case", machine_cases.CASES, ids=lambda case: case.__name__)
def test_instructions_answer_as_numpy(case, order, architecture):
    library = compile_for_cpu([MACHINE], architecture=architecture)
    case(functools.partial(launch, library, order=order))


@pytest.mark.parametrize(
    ("kernel", "threads", "message"),
    [
        ("wait_for_nobody", 64, r"(?s)deadlock.*warp 1, lane 0: barrier_wait at machine_mistakes"),
        ("leave_the_warp", 32, r"deadlock.*\n.*shuffle_xor"),
        ("spin_for_ever", 32, r"deadlock.*\n.*load_acquire"),
        ("forget_some_threads", 64, r"deadlock.*\n.*__syncthreads"),
        ("mix_instructions", 32, "a lane is at ballot, another at shuffle"),
        ("copy_to_an_odd_address", 32, "copy_bulk: an address is no multiple of 16"),
        ("arrive_too_often", 32, "more arrivals than its count"),
        ("write_behind_shared_memory", 1, "shared memory was written behind its end"),
        ("write_behind_the_array", 1, "wrote beside an array"),
    ],
)
def test_mistakes_are_told(kernel, threads, message):
    numbers = np.zeros(64, np.uint32)
    with pytest.raises(AssertionError, match=message):
        launch(compile_for_cpu([MISTAKES]), kernel, 1, threads, 1024, numbers)


def test_who_reads_before_a_copy_has_arrived_reads_garbage():
    numbers = np.zeros(64, np.uint32)
    launch(compile_for_cpu([MISTAKES]), "read_too_early", 1, 32, 1024, numbers)
    np.testing.assert_array_equal(numbers[:32], np.full(32, 0xCDCDCDCD, np.uint32))


def test_a_ring_whose_slots_change_their_readers_is_found_out():
    library, wrong = compile_for_cpu([MISTAKES]), 0
    for order in range(30):
        numbers = np.arange(80, dtype=np.uint32)
        try:
            launch(library, "take_turns", 1, 128, 1024, numbers, order=order)
        except AssertionError:
            wrong += 1
            continue
        wrong += not np.array_equal(numbers, 2 * np.arange(80))
        assert order or not wrong  # in turn all is well, which proves nothing
    assert wrong


def test_every_thread_block_has_its_own_shared_memory():
    numbers = np.zeros(3 * 32, np.uint32)
    launch(compile_for_cpu([MISTAKES]), "keep_the_index", (1, 3), 32, 128, numbers)
    np.testing.assert_array_equal(numbers.reshape(3, 32), np.repeat([[0], [2], [4]], 32, axis=1))


def test_arguments_are_counted():
    with pytest.raises(AssertionError, match="keep_the_index takes 1 arguments, got 2"):
        launch(compile_for_cpu([MISTAKES]), "keep_the_index", 1, 32, 128, None, 3)
