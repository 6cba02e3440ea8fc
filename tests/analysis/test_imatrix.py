"""Importances collected from our forward pass are those of llama.cpp's; their statistics."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from tests.conftest import BUILTIN_MODEL, REFERENCE, ROOT, needs_reference
from tests.model.parity_recipes import RECIPES
from tests.model.random_model import prompt_of, write_model
from tests.model.test_more_architectures import GOLDENS
from workbench.analysis.imatrix import collect_imatrix, imatrix_statistics
from workbench.quants.imatrix import Imatrix, ImatrixEntry

GOLDEN = np.load(ROOT / "tests" / "data" / "imatrix.npz")
IDS = GOLDEN["ids"].tolist()
SUM_ORDER = 1e-5  # relative: llama.cpp adds float32 products in another order
TIED = ROOT / "tests" / "data" / "llama-tied.gguf"


def assert_golden(title, imatrix):
    names = {key.split("/")[1] for key in GOLDEN if key.startswith(title) and "#" not in key}
    assert set(imatrix.entries) == names
    for name, entry in imatrix.entries.items():
        golden = GOLDEN[f"{title}/{name}"]
        np.testing.assert_allclose(
            entry.sums, golden, rtol=SUM_ORDER, atol=SUM_ORDER * golden.max(), err_msg=name
        )
        np.testing.assert_array_equal(entry.counts, GOLDEN[f"{title}/{name}#counts"])


def test_sums_of_squared_inputs_are_those_of_llama_cpp():
    with wb.load_model(TIED) as model:
        imatrix = collect_imatrix(model, IDS, 64)
    assert_golden("llama-tied", imatrix)
    assert (imatrix.chunk_count, imatrix.chunk_size) == (2, 64)


@needs_reference
def test_each_expert_has_the_sums_of_the_tokens_that_went_to_it():
    with wb.load_model(REFERENCE / "logits" / "mixtral.gguf") as model:
        assert_golden("mixtral", collect_imatrix(model, IDS, 64))


@pytest.mark.parametrize(
    "name", ["phi3", "phi2-fused", "gpt-oss", "qwen2moe", "deepseek2-fused", "arctic", "gemma3"]
)
def test_every_matrix_of_every_kind_of_layer_is_given_its_tokens(name, tmp_path):
    golden = GOLDENS[name]
    path = tmp_path / "model.gguf"
    write_model(path, RECIPES[name], golden["seed"], golden["shapes"], golden["head_scale"])
    with wb.load_model(path) as model:
        model.tokenizer = SimpleNamespace(add_bos=False, bos_id=None)  # the file has none
        entries = collect_imatrix(model, list(prompt_of(name)[:64]), 64).entries
        used = {n: 64 * model.config.n_expert_used for n in entries if "_exps." in n}
        shapes = {name: info.shape for name, info in model.gguf.tensors.items()}
    matrices = {n for n, shape in shapes.items() if n.startswith("blk.") and len(shape) > 1}
    assert set(entries) == {n for n in matrices if n.endswith(".weight") and "_norm." not in n}
    for name, entry in entries.items():
        assert entry.counts.sum() == used.get(name, 64 * len(entry.counts)), name
        assert entry.sums.shape[-1] == shapes[name][-1] and (entry.sums > 0).any(), name


def test_a_text_is_encoded_and_cut_into_chunks_that_begin_with_bos():
    text = "Once upon a time there was a little girl who had a red ball. " * 12
    with wb.load_model(BUILTIN_MODEL) as model:
        ids = model.tokenizer.encode(text)
        done = []
        by_text = collect_imatrix(
            model, text, 64, dataset="a.txt", progress=lambda i, n: done.append((i, n))
        )
        ids[64] = 99  # the first of a chunk does not count: BOS stands there
        by_ids = collect_imatrix(model, ids[: 64 * by_text.chunk_count], 64)
    n = by_text.chunk_count
    assert n == len(ids) // 64 >= 2 and by_text.datasets == ("a.txt",)
    assert done == [(i, n) for i in range(1, n + 1)]
    for name, entry in by_text.entries.items():
        np.testing.assert_array_equal(entry.sums, by_ids.entries[name].sums)
        assert entry.counts.tolist() == [64 * n]


def test_the_output_matrix_is_included_on_request():
    with wb.load_model(REFERENCE / "logits" / "mixtral.gguf" if REFERENCE.is_dir() else TIED) as m:
        has_output = "output.weight" in m.gguf.tensors
        assert ("output.weight" in collect_imatrix(m, IDS, 64, output=True).entries) == has_output
        assert "output.weight" not in collect_imatrix(m, IDS, 64).entries


@pytest.mark.parametrize(
    ("text", "n_ctx", "message"),
    [
        ("Too short.", 64, "text: too short; expected at least one chunk of 64 tokens, got"),
        (IDS, 0, "n_ctx: no chunk length"),
        (IDS, 10**6, "n_ctx: no chunk length; expected an integer from 1 to"),
        (IDS, 6.4, "n_ctx: no chunk length"),
    ],
)
def test_a_text_or_chunk_of_wrong_length_is_refused(text, n_ctx, message):
    with wb.load_model(TIED) as model, pytest.raises(wb.ParameterError, match=message):
        collect_imatrix(model, text, n_ctx)


def hand_made():
    first = np.array([[4, 4, 4, 4, 4, 4, 4, 4]], np.float32)
    second = np.array([[0, 0, 0, 0, 0, 0, 0, 32]], np.float32)
    return Imatrix(
        {
            "blk.0.attn_q.weight": ImatrixEntry(first, np.array([4])),
            "blk.1.attn_q.weight": ImatrixEntry(second, np.array([4])),
            "output.weight": ImatrixEntry(first, np.array([2])),
            "blk.0.unused.weight": ImatrixEntry(first, np.array([0])),
        }
    )


def test_statistics_of_an_even_and_of_a_peaked_tensor_are_those_seen_by_eye():
    rows = {(row.tensor, row.layer): row for row in imatrix_statistics(hand_made()).tensors}
    assert set(rows) == {("attn_q", 0), ("attn_q", 1), ("output", None)}
    even, peaked = rows["attn_q", 0], rows["attn_q", 1]
    assert (even.total, even.mean, even.std, even.active, even.n) == (8, 1, 0, 1, 8)
    assert (even.entropy, even.entropy_norm, even.zd, even.cos_sim) == (3, 1, 0, 0)
    assert (peaked.total, peaked.max, peaked.min, peaked.active) == (8, 8, 0, 1 / 8)
    assert (peaked.entropy, peaked.zd) == (0, 1 / 8)
    assert peaked.std == pytest.approx(math.sqrt(7))
    assert peaked.cos_sim == pytest.approx(1 / math.sqrt(8))


def test_tables_sort_by_role_and_falling_total_and_weigh_layers_by_columns():
    imatrix = hand_made()
    entry = ImatrixEntry(np.full((1, 24), 16, np.float32), np.array([4]))
    more = Imatrix({**imatrix.entries, "blk.1.ffn_up.weight": entry})
    statistics = imatrix_statistics(more)
    frame = statistics.to_frame()
    assert frame["tensor"].tolist() == ["attn_q", "attn_q", "ffn_up", "output"]
    assert frame["layer"].isna().tolist() == [False, False, False, True]
    layers = statistics.layers()
    assert isinstance(layers, pd.DataFrame) and layers["layer"].tolist() == [0, 1]
    assert layers["total"].tolist() == [8, (8 * 8 + 24 * 96) / 32]


def test_experts_without_tokens_are_left_out_of_the_statistics():
    sums = np.array([[1, 1], [0, 0], [4, 4]], np.float32)
    entry = ImatrixEntry(sums, np.array([1, 0, 2]))
    (row,) = imatrix_statistics(Imatrix({"blk.0.ffn_up_exps.weight": entry})).tensors
    assert (row.n, row.total, row.min, row.max) == (4, 6, 1, 2)
