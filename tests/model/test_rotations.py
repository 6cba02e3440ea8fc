"""Rotations are made for blocks of positions and are the numbers of `rope_rotations`."""

import numpy as np
import pytest

from workbench.model.rope import RopeConfig, rope_rotations
from workbench.model.rotations import BLOCK, Rotations

ROPE = RopeConfig()


class Maker:
    """Makes rotations of 8 numbers and counts how often."""

    def __init__(self):
        self.calls = 0

    def __call__(self, positions):
        self.calls += 1
        return rope_rotations(ROPE, 8, positions)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (7, 300), (BLOCK - 1, BLOCK + 1), (3 * BLOCK, 5 * BLOCK)]
)
def test_rows_are_those_of_their_positions(start, stop):
    got = Rotations().rows(ROPE, 4096, start, stop, Maker())
    np.testing.assert_array_equal(got, rope_rotations(ROPE, 8, np.arange(start, stop)))


def test_a_block_is_made_once_and_again_for_other_positions_or_a_cache_of_other_length():
    rotations, make = Rotations(), Maker()
    for position in range(20):
        rotations.rows(ROPE, 4096, position, position + 1, make)
    assert make.calls == 1
    rotations.rows(ROPE, 4096, BLOCK, BLOCK + 1, make)
    assert make.calls == 2
    rotations.rows(ROPE, 8192, BLOCK, BLOCK + 1, make)
    assert make.calls == 3
    got = rotations.rows(ROPE, 8192, 5, 9, make)
    np.testing.assert_array_equal(got, rope_rotations(ROPE, 8, np.arange(5, 9)))
