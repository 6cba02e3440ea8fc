"""What `import workbench as wb` promises: the fixed names, sorted, and nothing heavy loaded."""

import inspect
import subprocess
import sys

import pytest

import workbench as wb

FIXED = (
    "open_gguf write_gguf quantize dequantize load_tokenizer load_model to_numpy ActivationTrace "
    "SamplingParams SamplerChain generate sampling analysis plots panels GGUFError UnsupportedError"
).split()
HEAVY = ("cupy", "matplotlib", "ipywidgets", "pandas", "IPython")


def test_all_is_sorted_and_every_name_is_there():
    assert wb.__all__ == sorted(wb.__all__)
    assert [name for name in wb.__all__ if not hasattr(wb, name)] == []


@pytest.mark.parametrize("room", ["gguf", "quants", "tokenizer", "ops", "model", "sampling",
                                  "analysis", "plots", "panels"])  # fmt: skip
def test_all_of_each_room_is_sorted_and_every_name_is_there(room):
    module = __import__(f"workbench.{room}", fromlist=["__all__"])
    assert module.__all__ == sorted(module.__all__)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_the_fixed_names_are_public():
    assert set(FIXED) <= set(wb.__all__)


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, workbench; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'open_ggfu'"):
        _ = wb.open_ggfu


def test_errors_are_value_errors_and_workbench_errors():
    for name in wb.__all__:
        error = getattr(wb, name)
        if inspect.isclass(error) and issubclass(error, Exception) and name != "WorkbenchError":
            assert issubclass(error, ValueError) and issubclass(error, wb.WorkbenchError)


@pytest.mark.parametrize("name", wb.__all__)
def test_every_public_object_has_a_docstring(name):
    assert inspect.getdoc(getattr(wb, name))
