"""A stand-in for CuPy on a machine without a GPU: arrays of NumPy, kernels run by fibers.

    PYTHONPATH=tests/gpu/by_fibers:. python tests/gpu/check_forward.py --recipes llama

It shows that the plain pass asks CuPy only for what is here, hands no array of the host to the
device or back but by asarray, asnumpy and get, and gives kernels contiguous arrays and numbers of a
known size. As with CuPy, NumPy's functions hand its arrays on. What a real GPU does is not shown.
Left out: all that the plain pass does not need; streams and events, which do nothing here.
"""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

HANDED_ON = (  # functions of NumPy that CuPy has under the same name
    *("argsort", "clip", "concatenate", "isfinite", "matmul", "sort", "stack"),
    *("take_along_axis", "where", "zeros_like"),
)
uint8, float16, float32 = np.uint8, np.float16, np.float32


class ndarray(NDArrayOperatorsMixin):
    """An array of the device, which is not turned into one of the host by accident."""

    def __init__(self, array: np.ndarray):
        self.array = array

    def __array__(self, *arguments: Any, **named: Any) -> np.ndarray:
        raise TypeError("implicit conversion to a NumPy array")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> Any:
        assert method == "__call__"
        demand_device(inputs)
        outs = named.pop("out", ())
        made = ufunc(*inside(inputs), **named, **({"out": inside(outs)} if outs else {}))
        return outs[0] if outs else wrapped(made)

    def __array_function__(self, function: Any, types: Any, inputs: Any, named: Any) -> Any:
        assert function.__name__ in HANDED_ON, f"numpy.{function.__name__} of a device's array"
        demand_device(inputs)
        return wrapped(function(*inside(inputs), **named))

    def __getitem__(self, index: Any) -> Any:
        return wrapped(self.array[inside(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        demand_device([value])
        self.array[inside(index)] = inside(value)

    def __len__(self) -> int:
        return len(self.array)

    def __int__(self) -> int:
        return int(self.array)

    def __bool__(self) -> bool:
        return bool(self.array)

    def get(
        self, stream: Any = None, out: np.ndarray | None = None, blocking: bool = True
    ) -> np.ndarray:
        if out is None:
            return self.array.copy()
        assert (out.dtype, out.shape) == (self.array.dtype, self.array.shape)
        out[...] = self.array
        return out

    @property
    def data(self) -> SimpleNamespace:
        return SimpleNamespace(ptr=self.array.ctypes.data)

    @property
    def T(self) -> "ndarray":
        return ndarray(self.array.T)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self.array, name)
        if not callable(value):
            return value
        return lambda *inputs, **named: wrapped(value(*inside(inputs), **named))


def demand_device(values: Any) -> None:
    """Raises: TypeError for arrays of the host; single numbers may come from there."""
    for value in values:
        if isinstance(value, list | tuple):
            demand_device(value)
        elif isinstance(value, np.ndarray):
            raise TypeError("an array of the host among those of the device")


def inside(value: Any) -> Any:
    """The same with NumPy's arrays for the device's."""
    if isinstance(value, list | tuple):
        return type(value)(map(inside, value))
    return value.array if isinstance(value, ndarray) else value


def wrapped(value: Any) -> Any:
    return ndarray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def asarray(x: Any) -> ndarray:
    return x if isinstance(x, ndarray) else ndarray(np.array(x))


def asnumpy(x: Any) -> np.ndarray:
    return x.get() if isinstance(x, ndarray) else np.asarray(x)


def array(x: ndarray, dtype: Any = None, order: str = "K") -> ndarray:
    return ndarray(np.array(x.array, dtype, order=order))


def empty(shape: Any, dtype: Any) -> ndarray:
    return ndarray(np.full(shape, 77, dtype))


def zeros(shape: Any, dtype: Any) -> ndarray:
    return ndarray(np.zeros(shape, dtype))


def ascontiguousarray(x: ndarray) -> ndarray:
    return ndarray(np.ascontiguousarray(x.array))


def broadcast_to(x: ndarray, shape: Any) -> ndarray:
    return ndarray(np.broadcast_to(x.array, shape))


def concatenate(pieces: list[ndarray]) -> ndarray:
    return ndarray(np.concatenate(inside(pieces)))


def matmul(x: ndarray, y: ndarray) -> ndarray:
    return ndarray(np.matmul(x.array, y.array))


class RawModule:
    """Kernels' text, compiled for this CPU."""

    def __init__(self, code: str, options: tuple[str, ...]):
        from tests.ops.fibers import compile_for_cpu
        from workbench.ops.kernels import FOLDER

        files = re.findall(r'^#line 1 "(.+)"$', code, re.MULTILINE)
        names = dict(re.findall(r"^#define (\w+) (\w+)$", code.split("#line")[0], re.MULTILINE))
        self.library = compile_for_cpu([FOLDER / file for file in files], names)

    def get_function(self, name: str) -> "RawKernel":
        return RawKernel(self.library, name)


class RawKernel:
    """One of them."""

    def __init__(self, library: Any, name: str):
        self.library, self.name = library, name

    def __call__(self, grid: Any, block: Any, arguments: Any, shared_mem: int = 0) -> None:
        from tests.ops.fibers import launch

        values = [x if _is_by_value(x) else x.array for x in arguments]
        launch(self.library, self.name, grid, block, shared_mem, *values)


def _is_by_value(x: Any) -> bool:
    return x is None or isinstance(x, np.generic) or (isinstance(x, np.ndarray) and not x.ndim)


class _Stream:
    def __init__(self, non_blocking: bool = False):
        pass

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


class _Device:
    id = 0

    def __init__(self, number: int = 0):
        assert number == 0

    def __enter__(self) -> "_Device":
        return self

    def __exit__(self, *error: Any) -> None:
        pass


_stream = _Stream()
cuda = SimpleNamespace(
    Device=_Device,
    Stream=_Stream,
    alloc_pinned_memory=bytearray,
    Event=None,
    get_current_stream=lambda: _stream,
    runtime=SimpleNamespace(
        getDeviceCount=lambda: 1, memGetInfo=lambda: (1 << 30, 1 << 30), CUDARuntimeError=OSError
    ),
)


def get_default_memory_pool() -> SimpleNamespace:
    return SimpleNamespace(free_bytes=lambda: 0)
