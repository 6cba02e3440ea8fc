"""`workbench chat`: a conversation on the terminal.

    > Tell me about the sea.        a line from the keyboard or a pipe
    The sea is …                    streams; Ctrl-C stops the answer, at the prompt it ends
    /regenerate                     commands begin with a slash

Source: tools/main of llama.cpp. Leaves out: messages of several lines; the chat panel has them.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.text import Text

import workbench as wb

from .app import app, err, out
from .grammar_options import Gbnf, JsonSchema, Lark, Regex, chosen_grammar
from .sampling_options import (
    DEFAULTS,
    MinP,
    Mirostat,
    PenaltyLastN,
    PenaltyRepeat,
    Seed,
    Temperature,
    TopK,
    TopP,
    TypP,
    chosen_settings,
)

__all__ = ["chat"]

COMMANDS = {
    "/help": "these lines",
    "/undo": "take the last message and its answer back",
    "/regenerate": "answer the last message again",
    "/save FILE": "write the messages as JSON",
    "/quit": "end; so does the end of the input",
}
ENDINGS = {"max_tokens": "cut off at --max-tokens", "n_ctx": "cut off: the context is full"}


@app.command()
def chat(
    ctx: typer.Context,
    model: Annotated[
        Path | None, typer.Option("-m", "--model", help="GGUF file with a chat template.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told first.")] = None,
    template: Annotated[
        Path | None, typer.Option(help="A jinja2 file instead of the model's own template.")
    ] = None,
    max_tokens: Annotated[int, typer.Option("-n", "--max-tokens", help="Of an answer.")] = 512,
    n_ctx: Annotated[int | None, typer.Option(help="Positions of the KV cache.")] = None,
    drop_oldest: Annotated[
        bool, typer.Option("--drop-oldest", help="Leave the oldest turns out once it is full.")
    ] = False,
    temperature: Temperature = DEFAULTS.temperature,
    top_k: TopK = DEFAULTS.top_k,
    top_p: TopP = DEFAULTS.top_p,
    min_p: MinP = DEFAULTS.min_p,
    typ_p: TypP = DEFAULTS.typ_p,
    penalty_repeat: PenaltyRepeat = DEFAULTS.penalty_repeat,
    penalty_last_n: PenaltyLastN = DEFAULTS.penalty_last_n,
    mirostat: Mirostat = DEFAULTS.mirostat,
    seed: Seed = DEFAULTS.seed,
    json_schema: JsonSchema = None,
    regex: Regex = None,
    lark: Lark = None,
    gbnf: Gbnf = None,
) -> None:
    """Talk with a model; answers go to stdout as they are made. /help lists the commands.

    Settings that are not given are those that the file recommends, or else llama.cpp's.
    """
    text = None if template is None else template.read_text(encoding="utf-8")
    with wb.load_model(model or wb.model_path()) as loaded:
        grammar = chosen_grammar(loaded.tokenizer, json_schema, regex, lark, gbnf)
        params = chosen_settings(ctx, loaded.gguf)
        chain = wb.SamplerChain(params, tokenizer=loaded.tokenizer, grammar=grammar)
        session = wb.ChatSession(loaded, system, chain, max_tokens, n_ctx, text, drop_oldest)
        for line in _lines():
            if line == "/quit":
                break
            try:
                _answer_line(session, line)
            except (wb.WorkbenchError, OSError) as error:
                err.print("[bold red]error:[/]", Text(str(error)))


def _lines() -> Iterator[str]:
    """Lines that say something; on a terminal behind a "> ", until the end or Ctrl-C there."""
    sys.stdin.reconfigure(errors="surrogateescape")  # what is no UTF-8 is refused with a sentence
    while True:
        if sys.stdin.isatty():
            err.print("> ", end="")
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            return
        if not line:
            return
        if line.strip():
            yield line.strip()


def _answer_line(session: wb.ChatSession, line: str) -> None:
    """Do what a line says: a command, or a message."""
    command, _, rest = line.partition(" ")
    act: dict[str, Callable[[], None]] = {
        "/help": _help,
        "/undo": lambda: err.print(Text(f"taken back: {session.undo()}")),
        "/regenerate": lambda: _stream(session, session.regenerate()),
        "/save": lambda: _save(session, rest.strip()),
    }
    if command in act:
        act[command]()
    elif line.startswith("/"):
        raise wb.ParameterError(f"chat: no command {command!r}; expected one that /help lists")
    else:
        _stream(session, session.send(line))


def _stream(session: wb.ChatSession, steps: Iterator[wb.Step]) -> None:
    """Print an answer as it comes; Ctrl-C ends only the answer."""
    with closing(steps), _ctrl_c() as stopped:
        for step in steps:
            out.print(Text(step.text), end="")  # as Text: rich would read :smile: in a str
            if stopped.is_set():
                break
    out.print()
    ending = "" if session.stop == "eog" else f"; {ENDINGS.get(session.stop, 'stopped')}"
    dropped = f", {session.n_dropped} oldest messages left out" if session.n_dropped else ""
    err.print(
        f"[dim]{session.n_prompt} prompt tokens, {session.n_reused} of them in the cache"
        f"{dropped}{ending}[/]"
    )


@contextmanager
def _ctrl_c() -> Iterator[Event]:
    """Ctrl-C sets the event instead of raising in the middle of a forward pass."""
    stopped = Event()
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def _help() -> None:
    for command, meaning in COMMANDS.items():
        err.print(Text(f"{command:<12} {meaning}"))


def _save(session: wb.ChatSession, name: str) -> None:
    if not name:
        raise wb.ParameterError("/save: expected the name of a file, got none")
    text = json.dumps(session.messages, ensure_ascii=False, indent=1)
    Path(name).write_text(text + "\n", encoding="utf-8")
    err.print(Text(f"saved {len(session.messages)} messages in {name}"))
