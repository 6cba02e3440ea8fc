"""A conversation: what joins the messages, what the cache saves, how turns end and fail."""

import re

import numpy as np
import pytest

from tests.chat_models import LINES, write_chat_model
from tests.conftest import BUILTIN_MODEL
from workbench import ChatSession, generate, load_model
from workbench.errors import ContextFullError, ParameterError
from workbench.sampling import SamplerChain, SamplingParams, grammar

GREEDY = SamplingParams(temperature=0)
FIRST, SECOND = "Once upon a time", "Then the dog came."


@pytest.fixture(scope="module")
def model():
    with load_model(BUILTIN_MODEL, device="cpu") as model:
        yield model


def chat_with(model, params=GREEDY, max_tokens=8, **settings):
    return ChatSession(model, params=params, max_tokens=max_tokens, template=LINES, **settings)


def said(steps):
    return "".join(step.text for step in steps)


def prompt(chat):
    return "".join(message["content"] + "\n" for message in chat.messages)


def test_the_second_answer_is_that_of_the_whole_conversation_read_anew(model):
    chat = chat_with(model)
    first = said(chat.send(FIRST))
    assert first == said(generate(model, FIRST + "\n", GREEDY, 8))
    second = said(chat.send(SECOND))
    assert second == said(generate(model, f"{FIRST}\n{first}\n{SECOND}\n", GREEDY, 8))
    roles = [message["role"] for message in chat.messages]
    contents = [message["content"] for message in chat.messages]
    assert roles == ["user", "assistant"] * 2 and contents == [FIRST, first, SECOND, second]


def test_only_what_is_new_goes_through_the_model(model, monkeypatch):
    chat, n_read = chat_with(model), []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda ids, *rest, **more: n_read.append(len(ids)) or forward(
            ids, *rest, **more)
    )  # fmt: skip
    first = list(chat.send(FIRST))
    assert (chat.n_prompt, chat.n_reused, n_read[0]) == (n_read[0], 0, chat.n_prompt)
    n_held, n_read[:] = chat.n_prompt + len(first) - 1, []
    list(chat.send(SECOND))
    ids = model.tokenizer.encode(f"{FIRST}\n{said(first)}\n{SECOND}\n")
    assert chat.n_prompt == len(ids) and n_read[0] == len(ids) - chat.n_reused
    assert n_held - 2 <= chat.n_reused <= n_held
    assert repr(chat) == (
        f"ChatSession(4 messages, {len(ids)} prompt tokens, {chat.n_reused} of them reused)"
    )


def test_closing_stops_the_answer_and_keeps_what_is_there(model):
    chat = chat_with(model)
    steps = chat.send(FIRST)
    assert chat.messages == ()  # nothing is said before the first step is asked for
    start = next(steps).text + next(steps).text
    assert chat.is_answering and chat.messages == ({"role": "user", "content": FIRST},)
    steps.close()
    assert not chat.is_answering and chat.stop is None
    assert chat.messages[-1] == {"role": "assistant", "content": start}


def test_a_loop_that_breaks_or_a_next_message_ends_an_answer(model):
    chat = chat_with(model)
    for step in chat.send(FIRST):
        first = step.text
        break
    assert not chat.is_answering and chat.messages[-1]["content"] == first
    kept = chat.send(SECOND)
    next(kept)
    list(chat.send("Again."))
    assert len(chat.messages) == 6 and list(kept) == []


def test_regenerate_goes_on_with_the_random_numbers_and_undo_takes_a_turn_back(model):
    chat = chat_with(model, SamplingParams(seed=3), system="Be brief.")
    first = said(chat.send(FIRST))
    again = said(chat.regenerate())
    assert first != again and [m["content"] for m in chat.messages] == ["Be brief.", FIRST, again]
    assert chat.n_reused == chat.n_prompt - 1
    assert chat.undo() == FIRST
    assert chat.messages == ({"role": "system", "content": "Be brief."},)
    for method in (chat.undo, chat.regenerate):
        with pytest.raises(ParameterError, match="chat: there is no turn yet"):
            method()


def test_an_end_token_ends_the_turn_and_is_not_in_the_message(model):
    chat = chat_with(model, SamplingParams(logit_bias={model.tokenizer.eos_id: 1000.0}))
    assert [step.stop for step in chat.send(FIRST)] == ["eog"]
    assert chat.messages[-1]["content"] == "" and chat.stop == "eog"


def test_an_answer_that_is_cut_says_where(model):
    chat = chat_with(model, max_tokens=3)
    assert [step.stop for step in chat.send(FIRST)] == [None, None, "max_tokens"]
    small = chat_with(model, max_tokens=50, n_ctx=12)
    list(small.send(FIRST))
    assert (chat.stop, small.stop) == ("max_tokens", "n_ctx")


def test_a_conversation_that_does_not_fit_is_refused_or_loses_its_oldest_turns(model):
    chat = chat_with(model, n_ctx=40, system="S")
    for _ in range(2):
        list(chat.send(FIRST))
    n_messages = len(chat.messages)
    with pytest.raises(ContextFullError, match=r"expected at most n_ctx = 40 tokens, got \d+; "):
        chat.send(" ".join([SECOND] * 3))
    assert len(chat.messages) == n_messages
    chat.drop_oldest = True
    list(chat.send(" ".join([SECOND] * 3)))
    assert chat.n_dropped in (2, 4) and chat.n_prompt <= 40
    assert len(chat.messages) == n_messages + 2 and chat.messages[1]["content"] == FIRST
    with pytest.raises(ContextFullError):
        chat.send("word " * 60)  # alone too long


def test_the_template_of_the_file_is_used_and_a_file_without_one_is_refused(model, tmp_path):
    with load_model(write_chat_model(tmp_path / "chat.gguf"), device="cpu") as own:
        chat = ChatSession(own, params=GREEDY, max_tokens=4)
        assert said(chat.send(FIRST)) == said(chat_with(model, max_tokens=4).send(FIRST))
    with pytest.raises(ParameterError, match="chat: the model has no chat template, so it knows"):
        ChatSession(model)


def test_bos_is_there_once_whether_the_template_writes_it_or_not(model):
    assert model.tokenizer.add_bos
    n_prompt = []
    for template in (LINES, "{{ bos_token }}" + LINES):
        chat = ChatSession(model, params=GREEDY, max_tokens=1, template=template)
        list(chat.send(FIRST))
        n_prompt.append(chat.n_prompt)
    plain = len(model.tokenizer.encode(FIRST + "\n", add_special=False))
    assert n_prompt == [plain + 1, plain + 1]


def test_a_grammar_begins_anew_with_every_answer(model):
    chain = SamplerChain(
        SamplingParams(seed=2), grammar=grammar.regex("(yes|no)!", model.tokenizer)
    )
    chat = chat_with(model, chain)
    for _ in range(3):
        assert re.fullmatch("(yes|no)!", said(chat.send("Is it so?"))) and chat.stop == "eog"


def test_a_turn_that_fails_before_its_first_token_leaves_the_messages_alone(model, monkeypatch):
    chat = chat_with(model)
    list(chat.send(FIRST))
    before = chat.messages

    def broken(*arguments, **more):
        raise RuntimeError("no power")

    monkeypatch.setattr(model, "forward", broken)
    for ask in (lambda: chat.send(SECOND), chat.regenerate):
        with pytest.raises(RuntimeError, match="no power"):
            list(ask())
        assert chat.messages == before and not chat.is_answering


def test_a_turn_while_a_token_is_computed_is_refused(model, monkeypatch):
    chat, forward = chat_with(model), model.forward

    def interrupting(*arguments, **more):
        with pytest.raises(ParameterError, match=r"chat: an answer is being written; .*stop it"):
            chat.send(SECOND)
        return forward(*arguments, **more)

    monkeypatch.setattr(model, "forward", interrupting)
    assert len(list(chat.send(FIRST))) == 8


REFUSES = "{{ raise_exception('roles must alternate') }}"
WRONG = [
    ({}, 5, "send: expected a text, got int"),
    ({}, " \n", "send: nothing to say; expected a text"),
    ({}, "a\ud800", "lone surrogate"),
    ({"template": REFUSES}, "Hi", "the template refuses these messages: roles must alternate"),
    ({"template": "{% if %}"}, "Hi", "not a valid jinja2 template"),
    ({"template": "{# nothing #}"}, "Hi", "chat: the template writes nothing"),
]


@pytest.mark.parametrize("settings, text, message", WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_said_is_refused_at_once(model, settings, text, message):
    chat = ChatSession(model, params=GREEDY, **{"template": LINES, **settings})
    with pytest.raises(ParameterError, match=message):
        chat.send(text)
    assert chat.messages == ()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"system": 3}, "system: expected a text, got int"),
        ({"params": 0.7}, "SamplerChain: not a list of stages"),
        ({"n_ctx": 0}, "n_ctx: not a number of positions"),
    ],
)
def test_wrong_settings_are_refused(model, settings, message):
    with pytest.raises(ParameterError, match=message):
        ChatSession(model, template=LINES, **settings)


def test_messages_are_copies(model):
    chat = chat_with(model, max_tokens=1)
    list(chat.send(FIRST))
    chat.messages[0]["content"] = "something else"
    assert chat.messages[0]["content"] == FIRST
    assert isinstance(chat.n_prompt, int) and not isinstance(chat.n_prompt, np.integer)
