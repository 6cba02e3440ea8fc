"""The kernels of machine.cu against NumPy, whatever runs them.

Each case takes `launch(name, grid, threads, shared_bytes, *arguments)`, which runs a kernel on
NumPy arrays (written in place) and integers.
"""

from collections.abc import Callable

import numpy as np

Launch = Callable[..., None]


def products_of_bytes_are_exact(launch: Launch) -> None:
    for name, k in (("multiply_bytes", 32), ("multiply_few_bytes", 16)):
        rng = np.random.default_rng(k)
        a, b = (rng.integers(-128, 128, (n, k)).astype(np.int8) for n in (16, 8))
        c = rng.integers(-1000, 1000, (16, 8)).astype(np.int32)
        want = c + a.astype(np.int32) @ b.astype(np.int32).T
        launch(name, 1, 32, 0, a, b, c)
        np.testing.assert_array_equal(c, want)


def products_of_halves_and_brains_of_small_integers_are_exact(launch: Launch) -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(-99, 100, (n, 16)).astype(np.float32) for n in (16, 8))
    start = rng.integers(-1000, 1000, (16, 8)).astype(np.float32)
    brains = [(x.view(np.uint32) >> 16).astype(np.uint16) for x in (a, b)]
    halves = [x.astype(np.float16) for x in (a, b)]
    for name, (x, y) in (("multiply_brains", brains), ("multiply_halves", halves)):
        c = start.copy()
        launch(name, 1, 32, 0, x, y, c)
        np.testing.assert_array_equal(c, start + a @ b.T)


def matrices_are_spread_over_the_lanes(launch: Launch) -> None:
    rows = np.arange(1000, 1256, dtype=np.uint16).reshape(32, 8)
    out = np.zeros((2, 4, 32), np.uint32)
    launch("spread_matrices", 1, 32, 512, rows, out)
    four = rows.reshape(4, 8, 8)
    for got, matrices in zip(out, (four, four.swapaxes(1, 2)), strict=True):
        want = np.ascontiguousarray(matrices).view(np.uint32).reshape(4, 32)
        np.testing.assert_array_equal(got, want)


def lanes_hear_each_other(launch: Launch) -> None:
    x = np.random.default_rng(4).integers(-50, 50, 32).astype(np.float32)
    out, signs = np.zeros((3, 32), np.float32), np.zeros(32, np.uint32)
    launch("talk", 1, 32, 0, x, out, signs)
    np.testing.assert_array_equal(out, [np.roll(x, -3), np.roll(x, 16), np.full(32, x.sum())])
    bits = np.packbits(x < 0, bitorder="little").view(np.uint32)
    np.testing.assert_array_equal(signs, np.repeat(bits, 32))


FAST = 2e-6  # of the fast functions: their documented error is below 2**-21


def functions_of_a_number_are_right(launch: Launch) -> None:
    x = np.random.default_rng(5).uniform(0.01, 60, 333).astype(np.float32)
    x[:4] = 0.5, 1.5, 2.5, 1.0
    out, words = np.zeros((7, 333), np.float32), np.zeros((2, 333), np.uint32)
    launch("compute", 3, 128, 0, x, out, words, 333)
    for got, want in zip(out[:4], (np.exp2(x), np.log2(x), 1 / x, x**-0.5), strict=True):
        np.testing.assert_allclose(got, want, rtol=FAST, atol=FAST)
    exact = x.astype(np.float64)
    np.testing.assert_array_equal(out[4], (exact * exact - 1).astype(np.float32))
    word = x.view(np.uint32)
    brain = (word + 0x7FFF + (word >> 16 & 1)) & np.uint32(0xFFFF0000)
    np.testing.assert_array_equal(out[5].view(np.uint32), brain)
    np.testing.assert_array_equal(out[6], np.rint(x))
    np.testing.assert_array_equal(words[0], word)
    products = x.view(np.int8).reshape(-1, 4).astype(np.int32) @ np.array([-1, -128, 127, 1])
    np.testing.assert_array_equal(words[1].view(np.int32), products - 5)


def packets_go_through_a_ring(launch: Launch) -> None:
    for n_packets, n_words, n_slots in ((1, 4, 1), (23, 36, 3), (64, 1200, 4)):
        rng = np.random.default_rng(n_packets)
        data = rng.integers(0, 2**32, (n_packets, n_words), np.uint32)
        out = np.zeros((3, n_packets), np.uint32)
        shared = 1024 + n_slots * n_words * 4
        launch("add_packets", 1, 128, shared, data, out, n_packets, n_words, n_slots)
        np.testing.assert_array_equal(out, np.tile(data.sum(1, dtype=np.uint32), (3, 1)))


def thread_blocks_wait_for_each_other(launch: Launch, grid: int = 3, n_rounds: int = 7) -> None:
    two = np.zeros((2, grid, 64), np.float32)
    two[0] = np.random.default_rng(6).integers(0, 1000, (grid, 64))
    want = np.roll(two[0], -n_rounds, axis=0) + n_rounds
    launch("pass_on", grid, 64, 0, two, np.zeros(1, np.uint32), n_rounds)
    np.testing.assert_array_equal(two[n_rounds % 2], want)


def groups_of_warps_turn_apart(launch: Launch) -> None:
    start = np.arange(128, dtype=np.uint32).reshape(2, 64)
    out = start.copy()
    launch("turn_groups", 1, 128, 512, out, 5)
    np.testing.assert_array_equal(out, [np.roll(start[0], -5), np.roll(start[1], -6)])


CASES = (
    products_of_bytes_are_exact,
    products_of_halves_and_brains_of_small_integers_are_exact,
    matrices_are_spread_over_the_lanes,
    lanes_hear_each_other,
    functions_of_a_number_are_right,
    packets_go_through_a_ring,
    thread_blocks_wait_for_each_other,
    groups_of_warps_turn_apart,
)
