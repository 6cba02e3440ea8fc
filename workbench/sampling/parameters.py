"""What every number of the sampling settings means, its bounds, and the value that is off.

A field of `SamplingParams` is declared by `number(...)`; `parameters_of` reads the declarations
back as a table for panels and command lines. Source: the comments of struct common_params_sampling,
common/common.h in llama.cpp; the bounds are ours. Leaves out: settings that are no numbers.
"""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from ..errors import ParameterError

LARGEST_INT = 2**31 - 1  # what llama.cpp's int32_t holds


@dataclass(frozen=True)
class Parameter:
    """One number of the sampling settings.

    name, default: of the field. low, high: the smallest and largest value allowed, high may be
    infinite (then every finite number is allowed). off: the value that turns its sampler off, None
    where there is none. meaning: one sentence. A whole number has a default of type int.
    """

    name: str
    default: float
    low: float
    high: float
    off: float | None
    meaning: str

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are allowed."""
        return isinstance(self.default, int)


def number(
    default: float, low: float, high: float, off: float | None, meaning: str, hint: str = ""
) -> Any:
    """Declare a dataclass field that holds a number; arguments as in `Parameter`.

    hint: what to do, at the end of the message for a value outside; by default how to turn it off.
    """
    hint = hint or (f"{off:g} turns it off" if off is not None else f"{default:g} is the default")
    limits = {"low": low, "high": high, "off": off, "meaning": meaning, "hint": hint}
    return field(default=default, metadata=limits)


def parameters_of(settings: type) -> Mapping[str, Parameter]:
    """Name -> Parameter for every field of a dataclass that `number` declared, in its order."""
    table = {}
    for f in fields(settings):
        if "meaning" in f.metadata:
            limits = {k: v for k, v in f.metadata.items() if k != "hint"}
            table[f.name] = Parameter(f.name, f.default, **limits)
    return MappingProxyType(table)


def check_number(place: str, value: object, parameter: Parameter, hint: str) -> None:
    """Refuse a value outside its bounds; place: what the message begins with."""
    kind = numbers.Integral if parameter.is_whole else numbers.Real
    good = isinstance(value, kind) and not isinstance(value, bool)
    if good and math.isfinite(value) and parameter.low <= value <= parameter.high:
        return
    raise ParameterError(
        f"{place}: out of range; expected {_wanted(parameter)}, got {value!r:.80}; {hint}"
    )


def _wanted(parameter: Parameter) -> str:
    low, high = parameter.low, parameter.high
    if parameter.is_whole:
        return f"a whole number from {low} to {high}"
    if high == math.inf:
        return f"a finite number from {low:g} up"
    return f"a number from {low:g} to {high:g}"
