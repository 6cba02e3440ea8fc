"""Where a model computes: names of devices, and the operations that each of them has.

    "cpu"     "cuda" or "cuda:0", "cuda:1" …     "auto": the first GPU if there is one, else the CPU

Source: our own. Left out: the operations themselves, which are in `workbench.ops`.
"""

import re
from importlib import import_module
from typing import Any

from ..errors import ParameterError, UnsupportedError

__all__ = ["PRECISIONS", "choose_device", "operations"]

PRECISIONS = {  # kind of device -> precision -> module of workbench.ops
    "cpu": {"exact": "cpu", "fast": "cpu_fast"},
    "cuda": {"exact": "cuda", "fast": "cuda_fast"},
}
DEVICE_NAME = re.compile(r"cuda(?::(\d{1,4}))?")


def choose_device(device: Any) -> str:
    """The device that a name means: "cpu", or "cuda:N" of a GPU that is there.

    device: "auto", "cpu", "cuda" or "cuda:N".
    Raises: ParameterError for another name, UnsupportedError for a GPU that cannot be used.
    """
    if device == "cpu":
        return "cpu"
    if device == "auto":
        n_devices, _ = _gpus()
        return "cuda:0" if n_devices else "cpu"
    match = DEVICE_NAME.fullmatch(device) if isinstance(device, str) else None
    if match is None:
        raise ParameterError(
            f"device: no such device; expected 'auto', 'cpu', 'cuda' or 'cuda:N', got {device!r}"
        )
    number = int(match[1] or 0)
    n_devices, reason = _gpus()
    if number >= n_devices:
        raise UnsupportedError(
            f"device: {reason or _how_many(n_devices)}; expected a GPU for {device!r}, got none; "
            f"{_advice(reason, n_devices)}"
        )
    return f"cuda:{number}"


def operations(device: str, precision: Any) -> Any:
    """The module of `workbench.ops` for a device and a precision, "exact" or "fast".

    device: as `choose_device` gives it. Raises: ParameterError for another precision.
    """
    modules = PRECISIONS[device.partition(":")[0]]
    if precision not in modules:
        raise ParameterError(
            f"precision: no such precision; expected one of {', '.join(modules)}, got {precision!r}"
        )
    return import_module(f"..ops.{modules[precision]}", __package__)  # cupy: only for a GPU


def _gpus() -> tuple[int, str]:
    """How many GPUs can be used, and what keeps them all from it."""
    try:
        devices = import_module("..ops.cuda_devices", __package__)  # imports cupy
    except ImportError as error:
        missing = "CuPy is not installed" if error.name == "cupy" else f"CuPy fails: {error}"
        return 0, missing
    n_devices, reason = devices.count_devices()
    return n_devices, f"the CUDA driver says: {reason}" if reason else ""


def _how_many(n_devices: int) -> str:
    if n_devices > 1:
        return f"there are {n_devices} GPUs, numbered from 0"
    return "there is one GPU, number 0" if n_devices else "there is no GPU"


def _advice(reason: str, n_devices: int) -> str:
    if n_devices:
        return f"pass 'cuda:{n_devices - 1}' or a smaller number"
    if reason.startswith("CuPy"):
        return "install the extra 'cuda13' or 'cuda12', for the driver's CUDA, or pass device='cpu'"
    return "install NVIDIA's driver, or pass device='cpu'"
