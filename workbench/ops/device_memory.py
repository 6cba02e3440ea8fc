"""Whether a model fits into a GPU's memory, and if not, what would.

    free  |■■■■■■■■ weights ■■■■■■■■|■ workspace ■|■■ KV cache: n_ctx * bytes a position ■■|

Asked before anything is sent, so that the answer is one sentence and not a crash halfway.
Source: our own; bits per weight of the mixes as llama-quantize prints them for Llama 3 8B.
Left out: asking the GPU, which is `cuda_upload.free_memory`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import DeviceMemoryError

__all__ = ["BITS_PER_WEIGHT", "MemoryNeed", "demand_memory", "fitting_n_ctx", "fitting_recipe"]

# Of a whole file, from large to small.
BITS_PER_WEIGHT: Mapping[str, float] = MappingProxyType(
    {"F16": 16.0, "Q8_0": 8.5, "Q6_K": 6.56, "Q5_K_M": 5.68, "Q4_K_M": 4.84, "Q3_K_M": 3.99}
    | {"Q2_K": 3.16, "IQ2_XXS": 2.38, "IQ1_S": 2.0}
)
CONTEXT_STEP = 256  # a suggested n_ctx is a multiple of this
LEAST_CONTEXT = 512  # and at least this: with less one can hardly work


@dataclass(frozen=True)
class MemoryNeed:
    """The bytes that a model takes on a GPU.

    weights: as they lie there; n_weights: their number; workspace: activations, logits, slabs;
    kv_per_position: keys and values of one position in all layers; n_ctx: positions, 0 while no
    cache is asked for.
    """

    weights: int
    n_weights: int
    workspace: int = 0
    kv_per_position: int = 0
    n_ctx: int = 0

    @property
    def kv_cache(self) -> int:
        """Bytes of the KV cache."""
        return self.kv_per_position * self.n_ctx

    @property
    def total(self) -> int:
        """Bytes of all."""
        return self.weights + self.workspace + self.kv_cache


def fitting_n_ctx(need: MemoryNeed, free: int) -> int:
    """The largest round n_ctx, not above need.n_ctx, that fits beside the weights; 0 if none does.

    free: bytes.
    """
    if need.total <= free:
        return need.n_ctx
    left = free - need.weights - need.workspace
    if not need.kv_per_position or left < need.kv_per_position * LEAST_CONTEXT:
        return 0
    return min(left // need.kv_per_position, need.n_ctx) // CONTEXT_STEP * CONTEXT_STEP


def fitting_recipe(need: MemoryNeed, free: int) -> str | None:
    """The largest file type whose weights would fit with the same workspace and n_ctx, or None."""
    left = free - need.workspace - need.kv_cache
    limit = min(left, need.weights - 1)  # one that is smaller than what was asked for
    fits = (name for name, bits in BITS_PER_WEIGHT.items() if need.n_weights * bits / 8 <= limit)
    return next(fits, None)


def demand_memory(need: MemoryNeed, free: int, place: str = "cuda:0") -> None:
    """Nothing if the model fits into the `free` bytes of the GPU called `place`.

    Raises: DeviceMemoryError that names what is needed, for what, what is free, and what fits.
    Example: demand_memory(MemoryNeed(weights=8 << 30, n_weights=8 << 30), free=6 << 30).
    """
    if need.total <= free:
        return
    parts = [f"weights {_gb(need.weights)}"] if need.weights else []
    if need.kv_cache:
        parts.append(f"KV cache of {need.n_ctx} positions {_gb(need.kv_cache)}")
    if need.workspace:
        parts.append(f"workspace {_gb(need.workspace)}")
    raise DeviceMemoryError(
        f"{place}: too little memory; expected {_gb(need.total)} free ({', '.join(parts)}), got "
        f"{_gb(free)}; {_advice(need, free)}"
    )


def _advice(need: MemoryNeed, free: int) -> str:
    n_ctx, recipe = fitting_n_ctx(need, free), fitting_recipe(need, free)
    options = [f"pass n_ctx={n_ctx}"] if n_ctx else []
    options += [f"take the model as {recipe}"] if recipe else []
    return " or ".join([*options, "compute with device='cpu'"])


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB"
