"""`workbench chat` as its user meets it: lines in, answers out, Ctrl-C for one of them."""

import json
import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tests.chat_models import write_chat_model
from tests.conftest import ROOT
from workbench import WorkbenchError
from workbench.cli import app

COMMAND = [sys.executable, "-m", "workbench.cli", "chat"]
SETTINGS = {"env": os.environ | {"PYTHONPATH": str(ROOT)}}


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    return write_chat_model(tmp_path_factory.mktemp("chat") / "chat.gguf")


def chat(lines, *arguments):
    """Exit code, stdout and stderr of the command in this process; errors as `main` shows them."""
    raw = lines if isinstance(lines, bytes) else lines.encode()
    done = CliRunner().invoke(app, ["chat", *map(str, arguments)], input=raw)
    expected = isinstance(done.exception, WorkbenchError | OSError)
    code, more = (2, str(done.exception)) if expected else (done.exit_code, "")
    return code, done.stdout, done.stderr + more


def test_a_conversation_through_a_pipe(chat_model, tmp_path):
    saved = tmp_path / "messages.json"
    lines = ["Once upon a time", "", "Then [bold]Tom :smile: came.", "/regenerate"]
    lines += ["/undo", "/what", f"/save {saved}", "/save", "/help", "/quit", "never read"]
    code, answers, notes = chat(
        "\n".join(lines), "-m", chat_model, "-n", 8, "--system", "A story.", "--seed", 1
    )
    assert code == 0 and len(answers.splitlines()) == 3
    messages = json.loads(saved.read_text())
    assert [m["role"] for m in messages] == ["system", "user", "assistant"]
    assert messages[0]["content"] == "A story."
    assert answers.splitlines()[0] == messages[2]["content"]
    assert answers.splitlines()[1] != answers.splitlines()[2]
    for note in (
        "prompt tokens, 0 of them in the cache; cut off at --max-tokens",
        "taken back: Then [bold]Tom :smile: came.",
        "error: chat: no command '/what'; expected one that /help lists",
        "saved 3 messages in",
        "error: /save: expected the name of a file, got none",
        "/regenerate  answer the last message again",
    ):
        assert note in notes


def test_the_same_seed_gives_the_same_answers(chat_model):
    arguments = ("-m", chat_model, "-n", 8, "--seed", 5, "--temperature", 1.5)
    first = chat("Hello\nAnd then?\n", *arguments)
    assert first[1] and first[:2] == chat("Hello\nAnd then?\n", *arguments)[:2]


def test_every_answer_obeys_a_grammar(chat_model, tmp_path):
    path = tmp_path / "pattern.txt"
    path.write_text("(yes|no)!\n")
    code, answers, _ = chat("Is it so?\nReally?\n", "-m", chat_model, "--regex", f"@{path}")
    assert code == 0 and len(answers.splitlines()) == 2
    assert set(answers.splitlines()) <= {"yes!", "no!"}
    both = chat("", "-m", chat_model, "--regex", "a", "--json-schema", "{}")
    assert both[0] == 2 and "expected one of its options, got --json-schema, --regex" in both[2]


def test_bytes_that_are_no_text_are_refused_and_the_conversation_goes_on(chat_model):
    code, answers, notes = chat(b"a \xff b\nHello\n", "-m", chat_model, "-n", 3)
    assert code == 0 and len(answers.splitlines()) == 1
    assert "character 2 is the lone surrogate U+DCFF" in notes


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "chat: the model has no chat template, so it knows no turns"),
        (("--template", "missing.jinja"), "missing.jinja"),
        (("--temperature", "-1"), "temperature"),
    ],
    ids=["no template", "no file", "bad setting"],
)
def test_what_cannot_begin_is_one_sentence_and_exit_code_2(arguments, message):
    code, answers, notes = chat("Hello\n", *arguments)
    assert (code, answers) == (2, "") and message in notes


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_stops_the_answer_and_not_the_program(chat_model):
    command = [*COMMAND, "-m", str(chat_model), "-n", "100000", "--temperature", "0"]
    command += ["--drop-oldest"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, bufsize=0, **pipes, **SETTINGS) as process:
        process.stdin.write(b"Once upon a time\n")
        start = process.stdout.read(1)  # it answers now
        process.send_signal(signal.SIGINT)
        process.stdin.write(b"/undo\n/quit\n")
        rest, notes = process.communicate(timeout=60)
    assert process.returncode == 0 and start and rest
    assert b"; stopped" in notes and b"taken back: Once upon a time" in notes
