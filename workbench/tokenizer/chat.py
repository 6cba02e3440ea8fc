"""Chat templates: a conversation as the text a model was trained on.

    [{"role": "user", "content": "Hi"}]  --tokenizer.chat_template (jinja2)-->  "<|user|>Hi<|end|>…"

The rules are Hugging Face's: jinja2 in its sandbox with trim_blocks, lstrip_blocks and loop
controls; the template sees messages, tools, documents, add_generation_prompt, the texts of the
special tokens (bos_token, eos_token, unk_token, sep_token, pad_token, mask_token, each only where
the file has it) and may call raise_exception and strftime_now. What it may use up is bounded
(chat_limits.py).

llama.cpp renders the same templates with an interpreter of its own. It also helps templates that
lack something: it folds a system message into the next one, describes tools in words, turns lists
of parts into text. Here a template gets the messages as they are given.

Source: `apply_chat_template` in Hugging Face transformers (utils/chat_template_utils.py); the keys
are those of gguf-py. Left out: return_assistant_tokens_mask, continue_final_message.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NoReturn

from ..errors import GGUFError, ParameterError, UnsupportedError
from .chat_messages import plain_messages, plain_tools, plain_value

__all__ = ["chat_templates", "choose_template", "render"]

KEY = "tokenizer.chat_template"
DEFAULT, WITH_TOOLS = "default", "tool_use"  # names that Hugging Face gives a meaning
MAX_DATE = 200  # characters of a format for strftime_now
MAX_MESSAGE = 300  # characters of a template's own message


class _Refusal(Exception):
    """The template called raise_exception."""


def chat_templates(metadata: Mapping[str, Any]) -> Mapping[str, str]:
    """The templates of a file by name: "default" and those of tokenizer.chat_template.NAME.

    A list of {"name": …, "template": …}, as in tokenizer_config.json, is taken too.
    Raises: GGUFError for a template that is no text.
    """
    found = {DEFAULT: metadata[KEY]} if KEY in metadata else {}
    if isinstance(found.get(DEFAULT), list | tuple):
        found = dict(map(_named, found[DEFAULT]))
    prefix = KEY + "."
    found |= {key.removeprefix(prefix): metadata[key] for key in metadata if key.startswith(prefix)}
    for name, text in found.items():
        if not isinstance(text, str):
            raise GGUFError(
                f"{_key(name)}: expected a text (a jinja2 template), got {type(text).__name__}"
            )
    return MappingProxyType(found)


def _named(entry: Any) -> tuple[str, Any]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise GGUFError(f"{KEY}: expected entries with name and template, got {entry!a:.60}")
    return entry["name"], entry.get("template")


def _key(name: str) -> str:
    return KEY if name == DEFAULT else f"{KEY}.{ascii(name)[1:-1][:60]}"


def choose_template(
    templates: Mapping[str, str], template: str | None, name: str | None, tools: Any
) -> tuple[str, str]:
    """The template to render and where it comes from.

    template: a text to use instead of the file's; name: of one of the file's. Without both it is
    "tool_use" where tools are given and the file has it, else "default".
    Raises: ParameterError if there is none.
    """
    if template is not None:
        if name is not None or not isinstance(template, str):
            got = "both" if name is not None else type(template).__name__
            raise ParameterError(f"render_chat: expected template (a text) or name, got {got}")
        return template, "render_chat: template"
    if name is None:
        name = WITH_TOOLS if tools is not None and WITH_TOOLS in templates else DEFAULT
    if name not in templates:
        there = ", ".join(map(repr, sorted(templates))) if templates else "none"
        raise ParameterError(
            f"render_chat: the file has no chat template {name!r}; it has {there}; "
            "give the text of one with template="
        )
    return templates[name], _key(name)


def render(
    text: str,
    place: str,
    messages: Any,
    special_texts: Mapping[str, str],
    add_generation_prompt: bool = True,
    tools: Any = None,
    now: datetime | None = None,
    variables: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Render a conversation.

    text: the template; place: where it is from, for messages of errors; special_texts: bos_token …;
    now: the date for strftime_now, None for today's; variables: more names for the template, which
    may stand in for those of special_texts.
    Raises: ParameterError, GGUFError, UnsupportedError as `Tokenizer.render_chat`.
    """
    if now is not None and not isinstance(now, datetime):
        raise ParameterError(f"render_chat: now: expected a datetime, got {type(now).__name__}")
    names = {  # a token's bytes that are no UTF-8 become "?"
        "documents": None,
        **{key: text.encode("utf-8", "replace").decode() for key, text in special_texts.items()},
        **plain_value(dict(variables), "render_chat: variables"),
        "messages": plain_messages(messages),
        "tools": plain_tools(tools),
        "add_generation_prompt": bool(add_generation_prompt),
    }
    functions = {"raise_exception": _refuse, "strftime_now": _strftime_now(now)}
    return _run(text, place, functions, names)


def _refuse(message: Any = "") -> NoReturn:
    raise _Refusal(str(message)[:MAX_MESSAGE])


def _strftime_now(now: datetime | None) -> Callable[[str], str]:
    def strftime_now(form: str) -> str:
        """Today's date; a width, as in "%99999Y", is refused."""
        signs = form[: MAX_DATE + 1].split("%")[1:] if isinstance(form, str) else ["0"]
        if any(sign[:1] in (*"0123456789_^#-+",) for sign in signs) or len(form) > MAX_DATE:
            raise ValueError("strftime_now: expected a short format without widths")
        return (now or datetime.now()).strftime(form)

    return strftime_now


def _run(text: str, place: str, functions: Mapping[str, Callable], names: dict[str, Any]) -> str:
    # jinja2 is loaded here, at its first use, so that `import workbench` stays fast
    from .chat_sandbox import render_template

    try:
        text.encode()
        made = render_template(text, functions, names)
        made.encode()
        return made
    except Exception as error:  # a template's operations can raise anything
        kind, line, what = _explained(error, place)
    at = "" if line is None else f", line {line}"
    raise kind(f"{place}{at}: {what}")


def _explained(error: Exception, place: str) -> tuple[type[Exception], int | None, str]:
    """The class, the line and the words of the error to raise instead."""
    from jinja2.exceptions import SecurityError, TemplateSyntaxError, UndefinedError

    from .chat_limits import LimitReached
    from .chat_sandbox import template_line

    bad = GGUFError if place.startswith(KEY) else ParameterError
    line, what = template_line(error), str(error)[:MAX_MESSAGE]
    if isinstance(error, LimitReached):
        return UnsupportedError, line, f"the template needs {what}; expected much less of a chat"
    if isinstance(error, UnicodeEncodeError):
        return bad, None, "the text is not valid Unicode; expected no lone surrogates"
    if isinstance(error, RecursionError | MemoryError | SyntaxError):
        return UnsupportedError, line, f"the template is nested too deep ({type(error).__name__})"
    if isinstance(error, TemplateSyntaxError):
        return bad, line, f"not a valid jinja2 template: {what}"
    if isinstance(error, SecurityError):
        return bad, line, f"the template does what the sandbox forbids: {what}"
    if isinstance(error, _Refusal):
        return ParameterError, line, f"the template refuses these messages: {what}"
    if isinstance(error, UndefinedError):
        advice = "give it in the messages or as a keyword argument"
        return ParameterError, line, f"the template misses something: {what}; {advice}"
    return ParameterError, line, f"the template fails on these messages: {what}"
