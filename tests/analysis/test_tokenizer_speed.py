"""Speed of tokenizers: the table, the text, and what is missing."""

import pytest

import workbench as wb
from tests.tokenizer.vocabularies import ladder_spm, pairs_bpe
from workbench.analysis import sample_text, tokenizer_speed
from workbench.errors import ParameterError

TEXT = "aA 's saS 11 1!s\n" * 9000


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabularies")
    paths = [folder / "bpe.gguf", folder / "spm.gguf"]
    for path, file in zip(paths, (pairs_bpe("gpt-2"), ladder_spm()), strict=True):
        wb.write_gguf(path, file, {})
    return paths


def test_the_table_has_our_speed_and_compares_ids(files):
    table = tokenizer_speed(files, TEXT, progress=False)
    assert list(table["file"]) == ["bpe.gguf", "spm.gguf"]
    assert (table[["load_s", "mb_per_s", "again_mb_per_s"]] > 0).all(axis=None)
    assert table["hf_mb_per_s"].isna()[1]  # no merges, no twin


def test_hugging_face_gives_the_same_ids(files):
    pytest.importorskip("tokenizers")
    table = tokenizer_speed(files[:1], TEXT, progress=False)
    assert table["hf_differs"][0] == -1
    assert table["hf_ratio"][0] > 0


def test_a_missing_package_leaves_its_columns_empty_and_is_named(files, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    table = tokenizer_speed(files[:1], TEXT, progress=False)
    assert table.attrs["missing"] == ["tokenizers", "tiktoken"]
    assert table[["hf_mb_per_s", "tiktoken_mb_per_s", "hf_differs"]].isna().all(axis=None)


def test_the_sample_is_cut_to_size_between_characters(tmp_path):
    path = tmp_path / "text"
    path.write_text("é" * 1000, encoding="utf-8")
    assert sample_text(path, 0.000101) == "é" * 50
    assert len(sample_text(megabytes=0.3).encode()) > 290_000


def test_no_text_is_refused(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ParameterError, match="no text in it"):
        sample_text(tmp_path / "empty")
    with pytest.raises(ParameterError, match="megabytes: expected a number above 0"):
        sample_text(megabytes=0)
    with pytest.raises(ParameterError, match="expected some text"):
        tokenizer_speed([], "")
