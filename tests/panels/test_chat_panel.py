"""The chat panel, driven as a notebook drives it."""

import threading

import pytest

from tests.chat_models import LINES
from tests.conftest import BUILTIN_MODEL
from workbench import load_model
from workbench.errors import ParameterError
from workbench.panels import ChatPanel
from workbench.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def model():
    with load_model(BUILTIN_MODEL, device="cpu") as model:
        yield model


@pytest.fixture
def panel(model):
    return ChatPanel(model, params=GREEDY, max_tokens=6, template=LINES)


@pytest.fixture
def slow(panel, monkeypatch):
    """The panel, and a semaphore that its model takes before each forward pass."""
    may_go, forward = threading.Semaphore(0), panel.session._model.forward

    def waiting(*arguments, **more):
        assert may_go.acquire(timeout=20)
        return forward(*arguments, **more)

    monkeypatch.setattr(panel.session._model, "forward", waiting)
    yield panel, may_go
    panel.stop()
    may_go.release(10**6)
    panel.wait(20)


def test_an_empty_panel_says_so(panel):
    assert panel.summary() == "no messages yet" and panel.conversation.value == ""
    assert repr(panel) == (
        "ChatPanel(0 messages, temperature 0, top_k 40, top_p 0.95, min_p 0.05, seed 0)"
    )
    assert panel.stop_button.disabled and not panel.send_button.disabled


def test_send_answers_the_text_of_the_field_and_empties_it(panel):
    panel.text.value = "Once upon a time"
    panel.send_button.click()
    panel.wait(60)
    assert panel.text.value == "" and panel.error is None
    assert panel.summary().splitlines() == [
        "you: 'Once upon a time'",
        f"model: {panel.messages[1]['content']!r}",
        f"answer cut off at max_tokens; {panel.session.n_prompt} prompt tokens, 0 of them in the "
        "cache",
    ]
    assert panel.messages[1]["content"].strip() in panel.conversation.value
    assert "cut off at max_tokens" in panel.note.value


def test_what_is_said_is_escaped(panel):
    panel.send("<script>alert('&')</script>", wait=True)
    assert "<script" not in panel.conversation.value
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)" in panel.conversation.value


def test_an_answer_streams_and_stop_ends_it_within_a_token(slow):
    panel, may_go = slow
    panel.send("Once upon a time")
    assert panel.running and panel.send_button.disabled and not panel.stop_button.disabled
    may_go.release(2)  # the prompt, and the first token
    panel.stop_button.click()
    may_go.release()
    panel.wait(20)
    assert not panel.running and panel.session.stop is None
    assert (
        1 <= len(panel.session._model.tokenizer.encode(panel.messages[-1]["content"], False)) <= 3
    )
    assert "▌" not in panel.conversation.value and "answer stopped" in panel.note.value


def test_while_an_answer_is_written_nothing_else_begins(slow):
    panel, may_go = slow
    panel.send("Once upon a time")
    panel.text.value = "next"
    for button in (panel.send_button, panel.regenerate_button, panel.undo_button):
        button.click()
    assert panel.text.value == "next" and panel.error is None
    may_go.release(100)
    panel.wait(20)
    assert len(panel.messages) == 2


def test_regenerate_uses_the_settings_of_now_and_undo_gives_the_message_back(panel):
    panel.send("Once upon a time", wait=True)
    greedy = panel.messages[1]["content"]
    panel.temperature.value, panel.max_tokens.value = 2.0, 9
    panel.regenerate(wait=True)
    sampled = panel.messages[1]["content"]
    panel.regenerate_button.click()
    panel.wait(60)
    assert len({greedy, sampled, panel.messages[1]["content"]}) == 3
    panel.undo_button.click()
    assert panel.text.value == "Once upon a time" and panel.summary() == "no messages yet"


def test_errors_are_shown_in_the_panel_and_go_away(panel, monkeypatch):
    panel.send_button.click()
    assert (
        panel.error.startswith("send: nothing to say") and "nothing to say" in panel.message.value
    )
    panel.send("Hello", wait=True)
    assert panel.error is None and panel.message.value == ""

    def broken(*arguments, **more):
        raise RuntimeError("no <b>power</b>")

    monkeypatch.setattr(panel.session._model, "forward", broken)
    panel.send("Hello again", wait=True)
    assert panel.error == "no <b>power</b>" and "&lt;b&gt;power" in panel.message.value
    assert len(panel.messages) == 2 and panel.summary().endswith("error: no <b>power</b>")
    panel.temperature.value = -1
    assert panel.error.startswith("temperature: out of range") and panel.temperature.value == 0


def test_a_model_without_a_template_is_refused(model):
    with pytest.raises(ParameterError, match="chat: the model has no chat template"):
        ChatPanel(model)


def test_the_picture_of_the_panel_in_a_notebook_has_a_stable_text(panel):
    assert panel._repr_mimebundle_()["text/plain"] == repr(panel)
