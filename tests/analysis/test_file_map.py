"""Tables, sums and treemap of a small file made by hand, and of real ones."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.conftest import REFERENCE, needs_reference
from workbench.analysis.file_map import (
    memory_by_part,
    metadata_table,
    part_of,
    role_of,
    size_by,
    squarify,
    tensor_table,
    treemap,
)
from workbench.errors import ParameterError
from workbench.gguf import open_gguf, write_gguf

METADATA = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.embedding_length": 8,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": [f"t{i}" for i in range(100)],
    "tokenizer.chat_template": "a\nb" * 100,
    "odd": [],
    "float": 1e-5,
}


@pytest.fixture
def open_made(tmp_path):
    """Writes and opens a file of two layers, with changes to its metadata."""

    def make(**changes):
        metadata = {**METADATA, **changes}
        metadata = {key: value for key, value in metadata.items() if value is not None}
        layer = {
            "attn_norm.weight": (8,),
            "attn_q.weight": (8, 8),
            "attn_q.bias": (8,),
            "ffn_up.weight": (16, 8),
        }
        shapes = {"token_embd.weight": (100, 8), "output_norm.weight": (8,), "rope_freqs": (4,)}
        for i in (10, 2):
            shapes |= {f"blk.{i}.{name}": shape for name, shape in layer.items()}
        tensors = {name: np.zeros(shape, "f4") for name, shape in shapes.items()}
        tensors["blk.2.ffn_up.weight"] = (np.zeros(4 * 18, np.uint8), "Q4_0", (4, 32))
        path = tmp_path / "made.gguf"
        write_gguf(path, metadata, tensors, types={"odd": "ARRAY[INT8]"})
        return open_gguf(path)

    return make


@pytest.mark.parametrize(
    ("name", "layer", "role", "part"),
    [
        ("blk.3.attn_q.weight", 3, "attn_q", "attention"),
        ("blk.12.attn_q_norm.weight", 12, "attn_q_norm", "norms"),
        ("blk.0.post_attention_norm.weight", 0, "post_attention_norm", "norms"),
        ("blk.0.attn_sinks.weight", 0, "attn_sinks", "attention"),
        ("blk.0.ffn_down_exps.bias", 0, "ffn_down_exps", "feed-forward"),
        ("blk.0.ffn_gate_inp.weight", 0, "ffn_gate_inp", "feed-forward"),
        ("blk.0.ssm_in.weight", 0, "ssm_in", "other"),
        ("enc.blk.1.attn_k.weight", 1, "enc.attn_k", "attention"),
        ("token_embd.weight", None, "token_embd", "embedding"),
        ("token_embd_norm.weight", None, "token_embd_norm", "norms"),
        ("position_embd.weight", None, "position_embd", "embedding"),
        ("output.weight", None, "output", "output"),
        ("output_norm.weight", None, "output_norm", "norms"),
        ("rope_freqs.weight", None, "rope_freqs", "other"),
        ("", None, "", "other"),
    ],
)
def test_layer_role_and_part_follow_from_the_name(name, layer, role, part):
    assert role_of(name) == (layer, role) and part_of(role) == part


def test_the_metadata_table_shortens_arrays_and_texts(open_made):
    table = metadata_table(open_made()).set_index("key")
    assert list(table.columns) == ["type", "value"] and len(table) == len(METADATA)
    assert table.loc["tokenizer.ggml.tokens", "type"] == "ARRAY[STRING]"
    assert table.loc["tokenizer.ggml.tokens", "value"] == "100 items: t0, t1, t2, t3, t4, …"
    assert table.loc["tokenizer.chat_template", "value"].startswith("a\\nba\\nb")
    assert table["value"].str.len().max() == 60
    assert table.loc["odd", "value"] == "0 items" and table.loc["float", "value"] == "1e-05"


def test_the_tensor_table_has_one_row_a_tensor_in_file_order(open_made):
    gguf = open_made()
    table = tensor_table(gguf)
    assert table["name"].tolist() == list(gguf.tensors)
    assert table["layer"].isna().tolist() == [True] * 3 + [False] * 8
    row = table[table["name"] == "blk.2.ffn_up.weight"].iloc[0]
    assert (row["layer"], row["role"], row["type"], row["shape"]) == (2, "ffn_up", "Q4_0", (4, 32))
    assert (row["n_elements"], row["nbytes"], row["bits_per_weight"]) == (128, 72, 4.5)


def test_sizes_by_role_are_summed_and_sorted(open_made):
    sizes = size_by(open_made(), "role")
    assert [(s.name, s.nbytes, s.n_tensors) for s in sizes.sizes] == [
        ("token_embd", 3200, 1),
        ("ffn_up", 512 + 72, 2),
        ("attn_q", 2 * (256 + 32), 4),
        ("attn_norm", 64, 2),
        ("output_norm", 32, 1),
        ("rope_freqs", 16, 1),
    ]
    frame = sizes.to_frame()
    assert frame["nbytes"].sum() == sizes.nbytes == 4472
    np.testing.assert_allclose(frame["share"].sum(), 1)


def test_sizes_by_layer_come_in_order_with_the_rest_last(open_made):
    assert [s.name for s in size_by(open_made(), "layer").sizes] == ["2", "10", "none"]


def test_sizes_by_type_have_their_bits_per_weight(open_made):
    sizes = size_by(open_made(), "type").sizes
    assert [(s.name, s.bits_per_weight) for s in sizes] == [("F32", 32), ("Q4_0", 4.5)]


def test_sizes_by_another_word_are_refused(open_made):
    with pytest.raises(ParameterError, match="expected 'role', 'layer' or 'type', got 'name'"):
        size_by(open_made(), "name")


def test_memory_sums_to_the_size_of_the_file(open_made):
    gguf = open_made()
    memory = memory_by_part(gguf, 100)
    assert sum(memory.parts.values()) == gguf.size
    assert memory.parts["embedding"] == 3200 and memory.parts["attention"] == 576
    assert memory.parts["metadata"] >= gguf.data_offset
    # 2 layers x 100 positions x 2 KV heads x (2 + 2) numbers of a key and a value x 2 bytes
    assert memory.kv_cache == 2 * 100 * 2 * 4 * 2
    assert memory.total == gguf.size + memory.kv_cache
    assert memory.to_frame()["nbytes"].sum() == memory.total


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"llama.attention.head_count_kv": None}, 2 * 4 * 4 * 2),
        ({"llama.attention.head_count_kv": np.array([1, 2], "i4")}, 3 * 4 * 2),
        ({"llama.attention.key_length": 6, "llama.attention.value_length": 4}, 2 * 2 * 10 * 2),
        ({"llama.block_count": None}, None),
        ({"llama.attention.head_count": None}, None),
        ({"llama.attention.head_count": 0}, None),
        ({"llama.embedding_length": "eight"}, None),
        ({"llama.attention.head_count_kv": "two"}, None),
        ({"llama.attention.head_count_kv": np.array([1], "i4")}, None),
        ({"llama.attention.causal": False}, None),
        ({"general.architecture": None}, None),
    ],
)
def test_the_kv_cache_follows_the_metadata_or_is_absent(open_made, changes, expected):
    memory = memory_by_part(open_made(**changes), 1)
    assert memory.kv_cache == expected
    assert len(memory.to_frame()) == 7 + (expected is not None)


@pytest.mark.parametrize("n_ctx", [0, -1, 1.5, "512", True, None])
def test_a_context_of_no_positions_is_refused(open_made, n_ctx):
    with pytest.raises(ParameterError, match="n_ctx: no context length"):
        memory_by_part(open_made(), n_ctx)


@given(
    st.lists(st.integers(1, 10**12), min_size=1, max_size=60),
    st.floats(0.1, 100),
    st.floats(0.1, 100),
)
@example([40_285_301_024, 1], 0.5, 0.75)  # what is left is 1e-11 wide
def test_squares_tile_their_rectangle_in_proportion(sizes, width, height):
    sizes.sort(reverse=True)
    boxes = np.array(squarify(sizes, 2, 3, width, height))
    areas, whole = boxes[:, 2] * boxes[:, 3], width * height
    np.testing.assert_allclose(areas, whole * np.array(sizes) / sum(sizes), rtol=1e-9)
    assert (boxes[:, 0] >= 2 - 1e-9).all() and (boxes[:, 1] >= 3 - 1e-9).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 2 + width + 1e-9).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 3 + height + 1e-9).all()


def test_the_paper_example_is_laid_out_as_in_the_paper():
    boxes = squarify([6, 6, 4, 3, 2, 2, 1], 0, 0, 6, 4)
    np.testing.assert_allclose(boxes[0], (0, 0, 3, 2))
    np.testing.assert_allclose(boxes[1], (0, 2, 3, 2))
    np.testing.assert_allclose(boxes[2], (3, 0, 12 / 7, 7 / 3))
    np.testing.assert_allclose(boxes[3], (3 + 12 / 7, 0, 9 / 7, 7 / 3))


def test_roles_tile_their_group_and_groups_the_map(open_made):
    tiles = treemap(open_made(), 6, 4)
    assert [g.name for g in tiles.groups] == [
        "token_embd", "layer 10", "layer 2", "output_norm", "rope_freqs",
    ]  # fmt: skip
    assert tiles.nbytes == sum(role.nbytes for role in tiles.roles) == 4472
    for rect in (*tiles.groups, *tiles.roles):
        np.testing.assert_allclose(rect.width * rect.height / 24, rect.nbytes / 4472)
    inside = [r for r in tiles.roles if r.name == "attn_q"]
    assert [(r.part, r.nbytes) for r in inside] == [("attention", 288)] * 2


def test_a_treemap_without_area_is_refused(open_made):
    with pytest.raises(ParameterError, match="treemap: no area"):
        treemap(open_made(), 0, 4)
    with pytest.raises(ParameterError, match="treemap: no area"):
        treemap(open_made(), float("nan"), 4)


@needs_reference
@pytest.mark.parametrize("name", ["vocab/ggml-vocab-bert-bge", "vocab/ggml-vocab-gpt-2"])
def test_a_file_without_tensors_has_empty_maps(name):
    with open_gguf(REFERENCE / f"{name}.gguf") as gguf:
        assert len(tensor_table(gguf)) == 0 and size_by(gguf, "layer").sizes == ()
        assert treemap(gguf).roles == () and len(size_by(gguf, "type").to_frame()) == 0
        assert memory_by_part(gguf, 1).parts["metadata"] == gguf.size
        assert len(metadata_table(gguf)) == len(gguf.metadata)


@needs_reference
def test_every_reference_model_is_mapped_without_a_rest():
    for path in sorted((REFERENCE / "logits").glob("*.gguf")):
        with open_gguf(path) as gguf:
            memory = memory_by_part(gguf, 512)
            assert sum(memory.parts.values()) == gguf.size and memory.kv_cache
            rope = sum(t.nbytes for name, t in gguf.tensors.items() if name.startswith("rope"))
            assert memory.parts["other"] == rope, path.name
