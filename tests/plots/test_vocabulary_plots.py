"""Pictures of vocabularies and comparisons, their artists read back."""

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tests.tokenizer.vocabularies import bpe, ladder_spm, pairs_bpe
from workbench import load_tokenizer
from workbench.analysis import audit_vocabulary, compare_tokenizers, fertility
from workbench.plots import plot_fertility, plot_tokenizer_comparison, plot_vocabulary_audit
from workbench.plots.tokenizer_compare import DIFFERENT, SAME

PAIRS, LADDER = load_tokenizer(pairs_bpe("qwen2")), load_tokenizer(ladder_spm())


def axes():
    return Figure(figsize=(8, 4)).subplots()


def test_fertility_has_a_bar_for_each_text_and_tokenizer():
    result = fertility({"one": PAIRS, "two": LADDER}, {"a": "aA aA", "b": "漢字"})
    ax = plot_fertility(result, "tokens_per_word", axes())
    widths = [[bar.get_width() for bar in bars] for bars in ax.containers]
    np.testing.assert_array_equal(widths, result.table("tokens_per_word").to_numpy(float).T)
    assert ax.get_xlabel() == "tokens a word"
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["one", "two"]
    assert plot_fertility(result).get_xlabel() == "bytes a token"


def test_the_audit_has_a_bar_for_each_kind():
    audit = audit_vocabulary(load_tokenizer(bpe([*"ab", "ab", "ba"], ["a b"], pre="gpt-2")))
    ax = plot_vocabulary_audit(audit, axes())
    assert [bar.get_width() for bar in ax.patches] == list(audit.counts().values()) == [1, 1]
    assert ax.get_xlabel() == "tokens" and "4 of 4 tokens tried" in ax.get_title()


def test_the_comparison_has_a_box_for_each_token():
    left = load_tokenizer(bpe([*"abcĠ", "ab", "Ġc"], ["a b", "Ġ c"], pre="gpt-2"))
    right = load_tokenizer(bpe([*"abcĠ", "bc", "Ġc"], ["b c", "Ġ c"], pre="gpt-2"))
    result = compare_tokenizers("abc c", {"left": left, "right": right})
    ax = plot_tokenizer_comparison(result, axes())
    boxes = [(b.get_x(), b.get_width(), round(b.get_y() + 0.4)) for b in ax.patches]
    assert boxes == [(0, 2, 0), (2, 1, 0), (3, 2, 0), (0, 1, 1), (1, 2, 1), (3, 2, 1)]
    colours = [to_hex(box.get_facecolor()) for box in ax.patches]
    assert colours[:3] == [DIFFERENT[0], DIFFERENT[1], SAME]
    assert [t.get_text() for t in ax.texts][:3] == ["ab", "c", " c"]
    assert "40% of the bytes are cut alike" in ax.get_title()
    assert len(plot_tokenizer_comparison(result, start=3).patches) == 2
    assert not plot_tokenizer_comparison(compare_tokenizers("", {"a": left}), axes()).patches
