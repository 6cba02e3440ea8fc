"""Sliders and number fields that say what they cannot be, where ipywidgets would cut the value.

    panel.temperature.value = -1     ipywidgets: silently 0      here: stays, and a sentence
    panel.temperature.value = 5      ipywidgets: silently 2      here: the slider grows to 5

Bounds and meanings are those of `workbench.sampling.PARAMETERS`; a slider shows the usual part of
them. Leaves out: settings that are no numbers.
"""

import math
from collections.abc import Callable

import ipywidgets as widgets
from traitlets import HasTraits, validate

from ..errors import ParameterError
from ..sampling import PARAMETERS

Refused = Callable[[Exception], None]


class Strict(HasTraits):
    """A bounded control that keeps its value, and tells `refused`, when it is set out of bounds.

    low, high: the bounds of the setting; a value between them but outside the control's own range
    widens that.
    """

    low = high = None
    refused: Refused | None = None

    @validate("value")
    def _validate_value(self, proposal: dict) -> float:
        value = proposal["value"]
        if self.refused is None:  # while it is being made
            return value
        if not (self.low <= value <= self.high and math.isfinite(value)):  # NaN too
            self.refused(_out_of_range(self, value))
            return self.value
        if value > self.max:
            self.max = value
        return value


class FloatControl(Strict, widgets.FloatSlider):
    """A slider of a setting with fractions."""


class IntControl(Strict, widgets.IntSlider):
    """A slider of a whole number."""


class NumberField(Strict, widgets.BoundedIntText):
    """A field for a whole number with a wide range."""


def slider(name: str, value: float, top: float, style: dict, refused: Refused) -> Strict:
    """A slider of a sampling setting from its lowest value to `top`, or higher where value is."""
    parameter = PARAMETERS[name]
    low = max(parameter.low, 0)
    bounds = {"min": low, "max": max(top, value), "description": name, "style": style}
    bounds["tooltip"] = parameter.meaning
    if parameter.is_whole:
        control = IntControl(value, **bounds)
    else:
        control = FloatControl(value, step=0.01, readout_format=".2f", **bounds)
    return _strict(control, parameter.low, parameter.high, refused)


def number_field(
    name: str, value: int, low: int, high: int, style: dict, refused: Refused, tooltip: str = ""
) -> NumberField:
    """A field for a whole number from low to high."""
    control = NumberField(value, min=low, max=high, description=name, style=style, tooltip=tooltip)
    return _strict(control, low, high, refused)


def _strict(control: Strict, low: float, high: float, refused: Refused) -> Strict:
    control.low, control.high, control.refused = low, high, refused
    return control


def _out_of_range(control: Strict, value: float) -> ParameterError:
    number = "a whole number" if isinstance(control.value, int) else "a number"
    high = f"to {control.high:,.12g}" if control.high < math.inf else "up"
    return ParameterError(
        f"{control.description}: out of range; expected {number} from {control.low:g} {high}, "
        f"got {value:g}; it stays at {control.value:g}"
    )
