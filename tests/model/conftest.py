"""Models of these tests compute on the CPU, whose arrays are NumPy's, also where there is a GPU."""

import pytest

from workbench.model import load


@pytest.fixture(autouse=True, scope="package")
def auto_is_the_cpu():
    """device="auto" means the CPU; other names keep their meaning."""
    choose = load.choose_device
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "choose_device", lambda device: choose(_given(device)))
        yield


def _given(device):
    return "cpu" if device == "auto" else device
