"""The type tables against gguf-py and llama.cpp's own sizes."""

import json

import gguf
import pytest

from tests.conftest import REFERENCE, needs_reference
from workbench.errors import ParameterError
from workbench.gguf import ValueType
from workbench.gguf.types import GGML_TYPES, GGML_TYPES_BY_ID, align_up, element_of


def test_ids_and_sizes_equal_those_of_gguf_py():
    for type_ in gguf.GGMLQuantizationType:
        if type_.name == "Q8_1":  # gguf-py counts two float32 where ggml's struct has two float16
            continue
        ours = GGML_TYPES_BY_ID[int(type_)]
        assert ours.name == type_.name
        assert (ours.block_size, ours.type_size) == gguf.GGML_QUANT_SIZES[type_]


@needs_reference
def test_ids_and_sizes_equal_those_llama_cpp_reports():
    for row in json.loads((REFERENCE / "quants" / "index.json").read_text()):
        ours = GGML_TYPES[row["type"].upper()]
        assert (ours.id, ours.block_size, ours.type_size) == (
            row["id"],
            row["blck_size"],
            row["type_size"],
        )


def test_value_types_equal_those_of_gguf_py():
    assert {t.name: int(t) for t in ValueType} == {t.name: int(t) for t in gguf.GGUFValueType}


def test_q4_k_takes_four_and_a_half_bits_a_weight():
    assert GGML_TYPES["Q4_K"].bits_per_weight == 4.5
    assert GGML_TYPES["Q4_K"].row_bytes(512) == 288


def test_align_up_leaves_multiples_alone():
    assert [align_up(n, 32) for n in (0, 1, 32, 33)] == [0, 32, 32, 64]


def test_element_type_of_a_single_value_is_refused():
    assert element_of("ARRAY[ARRAY[INT32]]") == "ARRAY[INT32]"
    with pytest.raises(ParameterError, match="not an array type; expected a name such as"):
        element_of("INT32")
