"""Weights to quantize, from a seed: of any scale, with zeros of both signs and outliers."""

import numpy as np
from hypothesis import strategies as st


def weights(seed: int, exponent: int, sparsity: float, shape: tuple[int, ...]) -> np.ndarray:
    """float32 of a shape: normal numbers times 2**exponent, some of them zero, some hundredfold."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 2.0**exponent
    chance = rng.random(shape)
    x[chance < sparsity] *= 0
    x[chance > 0.995] *= 100
    return x.astype(np.float32)


def weights_of(*shape: int, exponents: tuple[int, int] = (-40, 40)) -> st.SearchStrategy:
    """A hypothesis strategy of such arrays."""
    return st.builds(
        weights,
        seed=st.integers(0, 2**32 - 1),
        exponent=st.integers(*exponents),
        sparsity=st.sampled_from((0.0, 0.5, 1.0)),
        shape=st.just(shape),
    )
