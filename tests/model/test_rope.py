"""Angles of positions: by hand, and yarn at its two ends."""

import numpy as np

from workbench.model import RopeConfig
from workbench.model.rope import rope_rotations


def angles(rope, n_rot, positions, divisors=None):
    return np.angle(rope_rotations(rope, n_rot, np.array(positions), divisors))


def test_position_zero_turns_nothing():
    rotations = rope_rotations(RopeConfig(), 8, np.array([0]))
    np.testing.assert_array_equal(rotations, np.ones((1, 4)))


def test_pairs_turn_by_falling_powers_of_the_base():
    np.testing.assert_allclose(
        angles(RopeConfig(base=100.0), 4, [1, 3]), [[1, 0.1], [3, 0.3]], 1e-6
    )


def test_linear_scaling_divides_positions():
    plain, scaled = RopeConfig(), RopeConfig(factor=4.0)
    np.testing.assert_array_equal(angles(scaled, 8, [4, 8]), angles(plain, 8, [1, 2]))


def test_scaling_none_ignores_the_factor():
    unscaled = RopeConfig(scaling="none", factor=4.0)
    np.testing.assert_array_equal(angles(unscaled, 8, [5]), angles(RopeConfig(), 8, [5]))


def test_divisors_slow_each_pair_down():
    divisors = np.array([1, 2, 4, 8], np.float32)
    plain, slowed = angles(RopeConfig(), 8, [1]), angles(RopeConfig(), 8, [1], divisors)
    np.testing.assert_allclose(slowed, plain / divisors, rtol=1e-6)


def test_yarn_keeps_fast_pairs_divides_slow_ones_and_lengthens_all():
    yarn = RopeConfig(scaling="yarn", factor=4.0, n_ctx_orig=4096)
    plain = angles(RopeConfig(), 64, [1])[0]
    rotations = rope_rotations(yarn, 64, np.array([1]))[0]
    np.testing.assert_allclose(np.angle(rotations)[:5], plain[:5], rtol=1e-6)
    np.testing.assert_allclose(np.angle(rotations)[-5:], plain[-5:] / 4, rtol=1e-6)
    np.testing.assert_allclose(np.abs(rotations), 1 + 0.1 * np.log(4), rtol=1e-6)


def test_attention_factor_multiplies_the_length():
    rotations = rope_rotations(RopeConfig(attn_factor=1.5), 8, np.array([7]))
    np.testing.assert_allclose(np.abs(rotations), 1.5, rtol=1e-6)


def test_yarn_with_damping_takes_its_lengthening_back():
    yarn = RopeConfig(scaling="yarn", factor=4.0, n_ctx_orig=4096, damping=1.0, attn_factor=1.1)
    np.testing.assert_allclose(np.abs(rope_rotations(yarn, 8, np.array([3]))), 1.1, rtol=1e-6)


def test_latent_attention_grows_by_its_own_factor():
    assert RopeConfig(scaling="none", factor=4.0, log_mul=1.0).latent_growth == 1
    yarn = RopeConfig(scaling="yarn", factor=4.0, damping=1.0, log_mul=0.5)
    assert yarn.latent_growth == 1 + 0.05 * np.log(4)
