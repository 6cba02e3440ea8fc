"""Which layers see only the latest positions, and how positions become angles there.

Source: llama.cpp src/llama-model.cpp (`load_swa_pattern`, `get_rope_freq_base`),
src/llama-hparams.cpp (`set_swa_pattern`), src/llama-context.cpp (yarn).
"""

import math
from dataclasses import replace

import numpy as np

from ..errors import UnsupportedError
from .architectures import Architecture, Window
from .config_keys import Reader
from .rope import SCALING_TYPES, RopeConfig

__all__ = ["layer_ropes", "layer_windows", "rope_of"]

DEFAULT_BASE = 10000.0
MOST_STRETCH = 1e12  # of the base; float32 powers of it stay finite


def layer_windows(read: Reader, architecture: Architecture, n_layer: int) -> tuple[int, ...]:
    """The window of each layer in positions, 0 where it sees everything."""
    window = architecture.window
    if window is None:
        return (0,) * n_layer
    size = read.count("n_swa", 0 if window.only_if_given else window.size, least=0)
    size = window.size if size and window.fixed else size
    pattern = read.metadata.get(read.key("swa_pattern"))
    if isinstance(pattern, np.ndarray | list):
        if len(pattern) < n_layer:
            read.fail("swa_pattern", f"an entry for each of {n_layer} layers", list(pattern))
        return tuple(size * bool(windowed) for windowed in pattern[:n_layer])
    period = read.count("swa_pattern", window.period, least=0)
    return tuple(size * _is_windowed(layer, period, window) for layer in range(n_layer))


def _is_windowed(layer: int, period: int, window: Window) -> bool:
    if period == 0:
        return True
    return layer % period != 0 if window.dense_first else layer % period < period - 1


def layer_ropes(
    read: Reader,
    architecture: Architecture,
    rope: RopeConfig | None,
    windows: tuple[int, ...],
) -> list[RopeConfig | None]:
    """How each layer's positions become angles, None where they do not."""
    if rope is None or (architecture.rope_if_finetuned and not read.flag("rope.finetuned", True)):
        return [None] * len(windows)
    period, fixed = architecture.no_rope_period, architecture.window and architecture.window.fixed
    period = 0 if fixed and not any(windows) else period
    phase = 0 if architecture.no_rope_first else period - 1
    ropes: list[RopeConfig | None] = []
    for layer, window in enumerate(windows):
        unrotated = period and layer % period == phase
        if unrotated or (architecture.rope_only_windowed and any(windows) and not window):
            ropes.append(None)
        elif window and architecture.window:
            ropes.append(_window_rope(read, rope, architecture.window))
        else:
            ropes.append(rope)
    return ropes


def _window_rope(read: Reader, rope: RopeConfig, window: Window) -> RopeConfig:
    """How positions become angles in layers with a window."""
    default = DEFAULT_BASE if window.rope == "own" else rope.base
    if window.rope == "same":
        return rope
    if window.rope == "plain":
        return RopeConfig(base=rope.base, n_ctx_orig=rope.n_ctx_orig)
    base = read.number("rope.base (window)", default)
    if window.rope == "file":  # llama.cpp forgets there that "none" means unscaled
        return replace(
            rope, base=base, scaling="linear" if rope.scaling == "none" else rope.scaling
        )
    return RopeConfig(base=base, n_ctx_orig=rope.n_ctx_orig, attn_factor=rope.attn_factor)


def rope_of(
    read: Reader, architecture: Architecture, n_ctx_train: int, head_dim: int
) -> RopeConfig:
    """How positions become angles."""
    scaling = read.text("rope.scaling", "linear")
    if scaling not in SCALING_TYPES:
        raise UnsupportedError(
            f"{read.key('rope.scaling')}: no code for {scaling!r}; expected one of "
            f"{', '.join(SCALING_TYPES)}, got {scaling!r}"
        )
    old_factor = read.number("rope.factor (old)", 1.0, zero_is_sound=True)
    factor = read.number("rope.factor", old_factor, zero_is_sound=True)
    base = read.number("rope.base", DEFAULT_BASE)
    if scaling == "yarn" and base <= 1:
        read.fail("rope.base", "a number above 1 for yarn", base)
    alpha = read.number("rope.alpha", 0.0, zero_is_sound=True) if architecture.rope_alpha else 0
    if alpha:
        base *= _stretch(read, alpha, head_dim)
    return RopeConfig(
        base=base,
        scaling=scaling,
        factor=factor or 1.0,  # llama.cpp takes 0 as "not scaled"
        n_ctx_orig=read.count("rope.n_ctx_orig", n_ctx_train, least=0) or n_ctx_train,
        attn_factor=read.number("rope.attn_factor", 1.0) * _yarn_attn_factor(read, architecture),
        **_yarn_numbers(read, architecture),
    )


def _stretch(read: Reader, alpha: float, head_dim: int) -> float:
    """What `rope.scaling.alpha` multiplies the base by."""
    power = head_dim / max(head_dim - 2, 1)
    if abs(math.log(alpha) * power) > math.log(MOST_STRETCH):
        read.fail("rope.alpha", f"a number that stretches less than {MOST_STRETCH:.0e}-fold", alpha)
    return alpha**power


def _yarn_attn_factor(read: Reader, architecture: Architecture) -> float:
    """One more factor that a file may have; yarn itself overrules it."""
    if "yarn_attn_factor" not in architecture.yarn_keys or read.text("rope.scaling", "") == "yarn":
        return 1.0
    return read.number("rope.yarn_attn_factor", 1.0)


def _yarn_numbers(read: Reader, architecture: Architecture) -> dict[str, float]:
    """What an architecture lets a file say about yarn."""
    numbers = {}
    for name in ("beta_fast", "beta_slow"):
        default = architecture.defaults.get(f"rope.{name}", getattr(RopeConfig, name))
        if name in architecture.yarn_keys:
            numbers[name] = read.number(f"rope.{name}", default)
    if "log_mul" in architecture.yarn_keys:
        numbers["damping"] = read.number("rope.log_mul", 0.0, zero_is_sound=True)
    if "latent_log_mul" in architecture.yarn_keys:  # there llama.cpp's number is ten times the key
        numbers["log_mul"] = 10 * read.number("rope.log_mul", 0.0, zero_is_sound=True)
        numbers["damping"] = float(numbers["log_mul"] > 0)
    return numbers
