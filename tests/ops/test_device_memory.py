"""What does not fit into a GPU is refused in one sentence that says what would."""

import pytest

from workbench.errors import DeviceMemoryError, WorkbenchError
from workbench.ops.device_memory import (
    BITS_PER_WEIGHT,
    MemoryNeed,
    demand_memory,
    fitting_n_ctx,
    fitting_recipe,
)

GB = 10**9
# Llama 3 8B as Q8_0: 32 layers * 2 * 1024 float16 numbers a position.
NEED = MemoryNeed(
    weights=8_500_000_000,
    n_weights=8 * GB,
    workspace=GB // 2,
    kv_per_position=131072,
    n_ctx=8192,
)


def test_the_total_is_weights_workspace_and_cache():
    assert NEED.kv_cache == 8192 * 131072
    assert NEED.total == 9 * GB + 8192 * 131072


def test_what_fits_raises_nothing():
    demand_memory(NEED, NEED.total)


@pytest.mark.parametrize(
    ("free", "n_ctx"),
    [
        (20 * GB, 8192),
        (NEED.total, 8192),
        (NEED.total - 1, 7936),
        (9 * GB + 131072 * 600, 512),
        (9 * GB + 131072 * 500, 0),
        (4 * GB, 0),
    ],
)
def test_the_longest_context_that_fits_is_a_round_number(free, n_ctx):
    assert fitting_n_ctx(NEED, free) == n_ctx


@pytest.mark.parametrize(("free", "recipe"), [(9 * GB, "Q6_K"), (7 * GB, "Q4_K_M"), (2 * GB, None)])
def test_the_largest_recipe_that_fits_is_found(free, recipe):
    assert fitting_recipe(NEED, free) == recipe


def test_recipes_are_named_from_large_to_small():
    assert list(BITS_PER_WEIGHT.values()) == sorted(BITS_PER_WEIGHT.values(), reverse=True)


def test_the_message_says_what_for_how_much_and_what_fits():
    message = (
        r"cuda:1: too little memory; expected 10.07 GB free \(weights 8.50 GB, KV cache of 8192 "
        r"positions 1.07 GB, workspace 0.50 GB\), got 9.50 GB; pass n_ctx=3584 or take the model "
        r"as Q6_K or compute with device='cpu'"
    )
    with pytest.raises(DeviceMemoryError, match=message) as caught:
        demand_memory(NEED, 9_500_000_000, "cuda:1")
    assert isinstance(caught.value, MemoryError) and isinstance(caught.value, WorkbenchError)


def test_where_nothing_fits_the_cpu_remains():
    with pytest.raises(DeviceMemoryError, match=r"got 0.10 GB; compute with device='cpu'$"):
        demand_memory(NEED, GB // 10)


def test_a_cache_alone_is_refused_without_a_word_about_weights():
    need = MemoryNeed(0, 0, kv_per_position=131072, n_ctx=8192)
    with pytest.raises(
        DeviceMemoryError, match=r"1.07 GB free \(KV cache of 8192 .*pass n_ctx=3584"
    ):
        demand_memory(need, GB // 2 - GB // 40)
