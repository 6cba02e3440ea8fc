"""The type of each tensor is the one llama-quantize chooses (mixes.json, made by make_mixes.py)."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import ROOT
from workbench.errors import GGUFError, ParameterError
from workbench.quants.mixes import FILE_TYPES, choose_types, find_file_type

MODELS = json.loads((ROOT / "tests" / "data" / "mixes.json").read_text())


def metadata_of(architecture, numbers):
    prefixed = {f"{architecture}.{key}": value for key, value in numbers.items()}
    return {"general.architecture": architecture} | prefixed


def tensors_of(shapes):
    return {name: SimpleNamespace(shape=tuple(s), type="F32") for name, s in shapes.items()}


def dense(n_layer=8, n=256, **more):
    roles = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {f"blk.{i}.{role}.weight": (n, n) for i in range(n_layer) for role in roles}
    shapes |= {"token_embd.weight": (32, n), "output.weight": (32, n), "output_norm.weight": (n,)}
    return tensors_of(shapes | more)


LLAMA = {"block_count": 8, "attention.head_count": 8, "attention.head_count_kv": 8}
LLAMA = metadata_of("llama", LLAMA)


def types(name, tensors=None, metadata=LLAMA, **options):
    choices = choose_types(tensors or dense(), metadata, find_file_type(name), **options)
    return {choice.name: choice.type for choice in choices}


def expanded(runs):
    parts = (run.partition("*") for run in runs.split())
    return [type_ for type_, _, n in parts for _ in range(int(n or 1))]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["title"])
@pytest.mark.parametrize("name", FILE_TYPES)
def test_types_are_those_of_llama_quantize(model, name):
    order = [name for _, names in model["tensors"] for name in names]
    tensors = tensors_of({name: shape for shape, names in model["tensors"] for name in names})
    metadata = metadata_of(model["architecture"], model["numbers"])
    for case in ("", " imatrix", " pure"):
        golden = model["choices"].get(name + case, model["choices"][name])
        options = {"pure": case == " pure", "has_imatrix": case == " imatrix"}
        if golden == "refused":
            with pytest.raises(ParameterError, match="no replacement"):
                types(name, tensors, metadata, **options)
            continue
        ours = types(name, tensors, metadata, **options)
        want = [
            t if t != "-" else tensors[n].type for n, t in zip(order, expanded(golden), strict=True)
        ]
        assert [ours[name] for name in order] == want, case


def test_tensors_come_in_the_order_in_which_llama_quantize_writes_them():
    names = ["blk.10.b.weight", "blk.2.z", "token_embd.weight", "blk.2.a", "output_norm.weight"]
    tensors = tensors_of({name: (4,) for name in names})
    assert list(types("Q4_0", tensors)) == [
        "output_norm.weight", "token_embd.weight", "blk.2.a", "blk.2.z", "blk.10.b.weight",
    ]  # fmt: skip


def test_q4_k_m_spares_the_first_and_last_eighth_and_every_third_layer_between():
    spared = types("Q4_K_M")
    down = [spared[f"blk.{i}.ffn_down.weight"] for i in range(8)]
    assert down == ["Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q6_K"]
    assert {spared[f"blk.{i}.attn_q.weight"] for i in range(8)} == {"Q4_K"}
    assert spared["output.weight"] == "Q6_K" and spared["token_embd.weight"] == "Q4_K"
    assert spared["output_norm.weight"] == "F32"


def test_a_tied_embedding_gets_the_type_of_the_output():
    tensors = dense()
    del tensors["output.weight"]
    assert types("Q4_K_M", tensors)["token_embd.weight"] == "Q6_K"


def test_the_first_expression_found_in_a_name_decides_and_leaves_the_counts_of_the_others():
    chosen = types("Q4_K_M", tensor_types=[(r"blk\.0\..*v", "Q8_0"), ("attn_v|ffn_up", "q5_0")])
    assert chosen["blk.0.attn_v.weight"] == "Q8_0"
    assert chosen["blk.1.attn_v.weight"] == chosen["blk.7.ffn_up.weight"] == "Q5_0"
    by_count = types("Q4_K_S", tensor_types=[(r"blk\.[01]\.attn_v", "Q8_0")])
    assert [by_count[f"blk.{i}.attn_v.weight"] for i in range(7)] == (
        ["Q8_0"] * 2 + ["Q5_K"] * 4 + ["Q4_K"]
    ), "llama.cpp counts only those it chooses for"


def test_output_and_embedding_can_be_named():
    chosen = types("Q4_0", output_type="f16", token_embd_type="Q8_0", pure=True)
    assert (chosen["output.weight"], chosen["token_embd.weight"]) == ("F16", "Q8_0")


def test_a_choice_says_why():
    tensors = dense(**{"blk.0.odd.weight": (4, 96)})
    choices = choose_types(
        tensors, LLAMA, find_file_type("Q4_K_M"), tensor_types=[("attn_k", "Q8_0")]
    )
    why = {choice.name: (choice.why, choice.wanted) for choice in choices}
    assert why["output_norm.weight"] == ("kept", "F32")
    assert why["blk.0.attn_q.weight"] == ("default", "Q4_K")
    assert why["blk.0.attn_v.weight"] == ("mix", "Q6_K")
    assert why["blk.0.attn_k.weight"] == ("asked", "Q8_0")
    assert why["blk.0.odd.weight"] == ("fallback", "Q4_K")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("IQ2_XS", True), ("IQ3_XXS", True), ("Q2_K_S", True), ("Q2_K", False), ("IQ3_S", False)],
)
def test_types_that_are_garbage_without_importances_are_marked(name, expected):
    choices = {c.name: c for c in choose_types(dense(), LLAMA, find_file_type(name))}
    assert choices["blk.3.ffn_up.weight"].needs_imatrix == expected
    assert not choices["token_embd.weight"].needs_imatrix


def test_per_layer_head_counts_give_the_first():
    metadata = LLAMA | {"llama.attention.head_count_kv": np.array([2, 8, 8, 8, 8, 8, 8, 8])}
    assert types("Q2_K", metadata=metadata)["blk.3.attn_v.weight"] == "Q4_K"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find_file_type("Q4_K_X"), r"expected one of F32, .*did you mean Q4_K_"),
        (lambda: find_file_type(None), "no such name"),
        (lambda: types("Q4_0", tensor_types=[("ffn_dwn", "Q8_0")]), "'ffn_dwn': matches no tensor"),
        (lambda: types("Q4_0", tensor_types=[("(", "Q8_0")]), "no regular expression"),
        (lambda: types("Q4_0", tensor_types=["ffn_up=Q8_0"]), "no pair; expected"),
        (lambda: types("Q4_0", tensor_types=[("output_norm", "Q8_0")]), "never quantized"),
        (lambda: types("Q4_0", tensor_types=[("ffn_up", "Q9")]), "no ggml type has this name"),
        (lambda: types("F16", tensor_types=[("ffn_up", "Q8_0")]), "ignores them for F16"),
        (lambda: types("Q4_0", output_type="Q9"), "no ggml type has this name"),
        (lambda: types("Q1_0", dense(n=192)), "rows of 192 weights cannot be Q1_0"),
    ],
)
def test_a_bad_wish_is_refused_by_name(call, message):
    with pytest.raises(ParameterError, match=message):
        call()


def test_metadata_without_the_numbers_of_the_mixes_is_refused_by_key():
    with pytest.raises(GGUFError, match=r"general\.architecture: no architecture"):
        types("Q4_0", metadata={})
    with pytest.raises(GGUFError, match=r"llama\.block_count: no number"):
        types("Q4_0", metadata={"general.architecture": "llama"})
    experts = LLAMA | {"llama.expert_count": 8}
    with pytest.raises(GGUFError, match="its layer is not to be seen"):
        types("Q4_0", tensors_of({"mtp.ffn_down.weight": (2, 256)}), experts)
