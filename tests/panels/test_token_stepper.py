import sys

import pytest

from tests.tokenizer.vocabularies import bpe, ladder_spm
from workbench.errors import ParameterError
from workbench.panels import TokenStepper
from workbench.tokenizer import load_tokenizer

HELLO = load_tokenizer(
    bpe(
        [*"heloĠ", "ll", "lo", "he", "llo", "hello", "<e>"],
        ["l l", "ll o", "l o", "h e", "he llo"],
        pre="gpt-2",
        token_type=[1] * 10 + [3],
    )
)


@pytest.fixture
def panel():
    return TokenStepper(HELLO, "hello hell")


def test_at_the_start_all_steps_are_done(panel):
    assert panel.step.value == panel.step.max == 6
    assert panel.trace.ids == HELLO.encode("hello hell")
    assert panel.snapshot.n_steps == 6 and panel.error is None
    assert bytes(panel.tree.value)[1:4] == b"PNG"


def test_the_slider_steps_through_the_merges(panel):
    before = panel.pieces.value, bytes(panel.tree.value)
    panel.step.value = 1
    assert [piece.symbol for piece in panel.snapshot.pieces] == [*"he", "ll", *"oĠhell"]
    assert panel.word.text == "hello"
    assert (panel.pieces.value, bytes(panel.tree.value)) != before
    assert "l + o" in panel.details.value and "rank 2" in panel.details.value  # it lost
    panel.step.value = 99
    assert panel.step.value == 6


def test_another_text_is_traced_at_once(panel):
    panel.text.value = "lol"
    assert panel.trace.text == "lol" and panel.step.max == panel.step.value == 1
    panel.text.value = ""
    assert panel.step.max == 0 and panel.word is None and bytes(panel.tree.value) == b""
    assert "no steps" in panel.summary()


def test_flags_are_those_of_encode(panel):
    panel.text.value = "hello<e>"
    assert panel.trace.ids == HELLO.encode("hello<e>")
    panel.parse_special.value = True
    assert panel.trace.ids == HELLO.encode("hello<e>", parse_special=True)
    spm = TokenStepper(load_tokenizer(ladder_spm()), "ab", add_special=False)
    assert spm.trace.front == ()
    spm.add_special.value = True
    assert spm.trace.front == (1,)


def test_errors_are_shown_in_the_panel_and_go_away(panel):
    panel.text.value = "l" * 2001
    assert panel.error == (
        "text: too long to step through; expected at most 2,000 characters, got 2,001; "
        "use tokenizer.trace(text)"
    )
    assert "ParameterError" in panel.message.value
    assert panel.trace is None and panel.pieces.value == "" and "error: " in panel.summary()
    panel.step.value = 0
    panel.text.value = "hello"
    assert panel.error is None and panel.message.value == "" and panel.trace is not None
    panel.text.value = "\ud800"
    assert "lone surrogate U+D800" in panel.error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None,), "expected a Tokenizer, got NoneType"),
        ((HELLO, 3), "text: not a text; expected a str, got int"),
        ((HELLO, "l" * 3000), "at most 2,000 characters, got 3,000"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ParameterError, match=message):
        TokenStepper(*arguments)


def test_what_the_text_says_is_escaped(panel):
    panel.text.value = "<b>hello</b>"
    assert "<b>" not in panel.pieces.value and "<b>" not in panel.details.value


def test_summary_and_repr_are_stable_text(panel):
    panel.step.value = 2
    assert panel.summary().splitlines() == [
        "text 'hello hell'",
        "pieces h e llo Ġ h e l l",
        "2 of 6 steps done",
        "the last, in 'hello': ll + o (rank 1, at 2); lost: h + e (rank 3)",
        f"ids {' '.join(map(str, HELLO.encode('hello hell')))}",
    ]
    assert repr(panel) == "TokenStepper(text='hello hell', step=2)"
    assert panel._repr_mimebundle_()["text/plain"] == repr(panel)
    panel.text.value = "l" * 1999
    assert len(panel.summary()) < 2000 and len(repr(panel)) < 150


def test_no_pyplot_figure_is_left_behind(panel):
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
