import json

import pytest

from tests.conftest import REFERENCE, needs_reference
from workbench.errors import ParameterError
from workbench.sampling import SamplingParams


@needs_reference
def test_defaults_are_llama_cpps_but_for_the_seed():
    declared = json.loads((REFERENCE / "samplers" / "defaults.json").read_text())["parameters"]
    params = SamplingParams()
    assert params.temperature == float(declared["temp"]["default"])
    for name in ("top_k", "top_p", "min_p", "min_keep"):
        assert getattr(params, name) == float(declared[name]["default"])
    assert params.seed == 0


@pytest.mark.parametrize("name", ["temperature", "top_p", "min_p", "top_k", "min_keep", "seed"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", None, True, 2**40 + 0.5j])
def test_nonsense_is_refused_by_name(name, value):
    with pytest.raises(ParameterError, match=f"^{name}: out of range; expected .*, got "):
        SamplingParams(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", -1, "expected a finite number from 0 up, got -1; 0 is greedy"),
        ("top_p", 2, "expected a number from 0 to 1, got 2; 1 turns it off"),
        ("top_p", -0.1, "expected a number from 0 to 1, got -0.1"),
        ("min_p", 1.01, "got 1.01; 0 turns it off"),
        ("top_k", -1, "got -1; 0 keeps the whole vocabulary"),
        ("top_k", 1.5, "expected a whole number from 0 to 2147483647, got 1.5"),
        ("seed", 2**32, "expected a whole number from 0 to 4294967295"),
    ],
)
def test_the_message_says_what_to_do(name, value, message):
    with pytest.raises(ParameterError, match=message):
        SamplingParams(**{name: value})


def test_edges_of_the_ranges_are_allowed():
    SamplingParams(temperature=0, top_k=0, top_p=0, min_p=0, min_keep=0, seed=0)
    SamplingParams(temperature=100, top_k=2**31 - 1, top_p=1, min_p=1, seed=2**32 - 1)
