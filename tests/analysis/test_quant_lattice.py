import numpy as np
import pandas as pd
import pytest

from tests.conftest import BUILTIN_MODEL, REFERENCE, needs_reference
from workbench.analysis import find_lattice, lattice_table
from workbench.errors import ParameterError
from workbench.gguf import write_gguf
from workbench.quants import dequantize, open_gguf, quantize

EXPECTED = {
    "Q1_0": "Q1_0",
    "TQ1_0": "TQ1_0",
    "TQ2_0": "TQ1_0",
    "Q2_0": "Q2_0",
    "MXFP4": "MXFP4",
    "NVFP4": "NVFP4",
    "Q4_0": "Q4_0",
    "Q4_1": "Q4_1 or Q4_K",
    "Q5_0": "Q5_0",
    "Q5_1": "Q5_1 or Q5_K",
    "Q2_K": "Q2_K",
    "Q3_K": "Q3_K",
    "Q4_K": "Q4_1 or Q4_K",
    "Q5_K": "Q5_1 or Q5_K",
    "Q6_K": "Q6_K",
    "IQ1_M": "IQ1_M",
    "IQ2_S": "IQ2_XS or IQ2_S",
    "IQ3_XXS": "IQ3_XXS",
    "IQ3_S": "IQ3_S",
    "IQ4_NL": "IQ4_NL or IQ4_XS",
    "IQ4_XS": "IQ4_NL or IQ4_XS",
}


@pytest.fixture(scope="module")
def x():
    with open_gguf(BUILTIN_MODEL) as gguf:
        return gguf.dequantize("blk.3.attn_q.weight")[:128]


def stored(x: np.ndarray, *types: str) -> np.ndarray:
    for type in types:
        x = dequantize(quantize(x, type), type)
    return x


@pytest.mark.parametrize("now", ["F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("before", EXPECTED)
def test_weights_quantized_before_are_found_in_a_finer_type(x, before, now):
    found = find_lattice(stored(x, before, now), now)
    assert found.types == EXPECTED[before]
    assert found.share >= 0.9 and found.distance < 0.07


def test_weights_never_quantized_are_on_no_lattice(x):
    found = find_lattice(x, "F16")
    assert found.types is None and found.share < 0.05
    noise = np.random.default_rng(1).standard_normal((64, 256), dtype=np.float32)
    assert find_lattice(noise).types is None


@pytest.mark.parametrize("now", ["Q8_0", "Q5_1", "Q4_0"])
def test_a_type_s_own_lattice_is_no_evidence(x, now):
    assert find_lattice(stored(x, now), now).types is None


def test_q8_0_is_found_in_f16_and_lost_in_bf16(x):
    assert find_lattice(stored(x, "Q8_0", "F16"), "F16").types == "Q8_0"
    assert find_lattice(stored(x, "Q8_0", "BF16"), "BF16").types is None


@needs_reference
@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("q2_K", "Q2_K"),
        ("q3_K", "Q3_K"),
        ("q4_K", "Q4_1 or Q4_K"),
        ("q5_K", "Q5_1 or Q5_K"),
        ("q6_K", "Q6_K"),
        ("iq4_xs", "IQ4_NL or IQ4_XS"),
    ],
)
def test_what_llama_cpp_quantized_is_found(name, types):
    golden = np.load(REFERENCE / "quants" / f"{name}.npz")
    ordinary = [i for i, row in enumerate(golden["row_name"]) if "gauss" in str(row)]
    assert find_lattice(stored(golden["q_f32"][ordinary], "F16"), "F16").types == types


@pytest.mark.parametrize("rows", [np.zeros((4, 256)), np.ones((4, 256)), np.eye(256)[:4]])
def test_zeros_constants_and_lone_spikes_say_nothing(rows):
    found = find_lattice(rows.astype(np.float32))
    assert found.types in (None, "Q1_0")  # equal magnitudes are what Q1_0 leaves
    assert find_lattice(np.zeros((0, 256), np.float32)).n_groups == 0


def test_a_file_quantized_twice_shows_in_its_table(x, tmp_path):
    twice = {"blk.0.attn_q.weight": stored(x, "Q4_0"), "blk.0.attn_k.weight": x}
    tensors = {name: (quantize(w, "Q8_0"), "Q8_0", w.shape) for name, w in twice.items()}
    write_gguf(tmp_path / "twice.gguf", {}, tensors)
    with open_gguf(tmp_path / "twice.gguf") as gguf:
        table = lattice_table(gguf).set_index("name")
    assert list(table["type"]) == ["Q8_0", "Q8_0"]
    assert table.loc["blk.0.attn_q.weight", "found"] == "Q4_0"
    assert pd.isna(table.loc["blk.0.attn_k.weight", "found"])
    assert table.loc["blk.0.attn_q.weight", "share"] == 1


def test_wrong_arguments_are_refused(x):
    with pytest.raises(ParameterError, match="stored: no ggml type has this name"):
        find_lattice(x, "Q9")
    with pytest.raises(ParameterError, match=r"max_groups: no number of groups; .* got 0"):
        find_lattice(x, max_groups=0)
    with pytest.raises(ParameterError, match="x: no array of weights"):
        find_lattice([1, 2])
