"""Messages, tools and variables as a chat template gets them: copies of plain values, checked.

    {"role": "user", "content": "Hi"}                            content: text,
    {"role": "user", "content": [{"type": "text", "text": …}]}   or a list of parts,
    {"role": "assistant", "tool_calls": [{…}]}                   or none where something else is

Source: the messages of Hugging Face's `apply_chat_template` and of the OpenAI API. Left out:
building tools from Python functions (give their JSON schema).
"""

from collections.abc import Mapping
from typing import Any

from ..errors import ParameterError

__all__ = ["plain_messages", "plain_tools", "plain_value"]

MAX_LEVELS = 64
PLAIN = "None, bool, int, float, str, a list or a mapping"


def plain_value(value: Any, place: str, level: int = 0) -> Any:
    """A copy in which sequences are lists and mappings dicts.

    Raises: ParameterError for other types, lone surrogates, keys that are no text, and for values
    nested too deep (a list that holds itself).
    """
    if value is None or type(value) in (bool, int, float):
        return value
    if isinstance(value, str):
        return _plain_text(value, place)
    if level == MAX_LEVELS:
        raise ParameterError(f"{place}: expected at most {MAX_LEVELS} levels of lists, got more")
    if isinstance(value, list | tuple):
        return [plain_value(item, f"{place}[{i}]", level + 1) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            _plain_key(key, place): plain_value(item, f"{place}[{_short(key)}]", level + 1)
            for key, item in value.items()
        }
    raise ParameterError(f"{place}: expected {PLAIN}, got {type(value).__name__}")


def _plain_text(text: str, place: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ParameterError(
                f"{place}: character {error.start} is the lone surrogate "
                f"U+{ord(text[error.start]):04X}; expected Unicode characters"
            ) from None
    return str(text)


def _plain_key(key: Any, place: str) -> str:
    if not isinstance(key, str):
        raise ParameterError(f"{place}: expected str as key, got {type(key).__name__}")
    return _plain_text(key, place)


def _short(key: Any) -> str:
    return ascii(key)[:40]


def plain_messages(messages: Any) -> list[dict[str, Any]]:
    """A checked copy of a conversation.

    messages: mappings with a role (str) and content: text, a list of parts (texts or mappings), or
    None; it may be missing where the message has other keys, such as tool_calls.
    Raises: ParameterError naming the message that is not one.
    """
    if isinstance(messages, Mapping | str) or not hasattr(messages, "__iter__"):
        raise ParameterError(
            "render_chat: messages: expected a list of mappings such as "
            f"{{'role': 'user', 'content': 'Hi'}}, got {type(messages).__name__}"
        )
    return [_plain_message(message, f"messages[{i}]") for i, message in enumerate(messages)]


def _plain_message(message: Any, name: str) -> dict[str, Any]:
    place = f"render_chat: {name}"
    if not isinstance(message, Mapping):
        raise ParameterError(
            f"{place}: expected a mapping with role and content, got {type(message).__name__}"
        )
    if not isinstance(message.get("role"), str):
        role = type(message["role"]).__name__ if "role" in message else "none"
        raise ParameterError(f"{place}: expected a role as str, got {role}")
    content = message.get("content")
    if content is None and len(message) <= 1 + ("content" in message):
        raise ParameterError(f"{place}: expected content, got none")
    parts = content if isinstance(content, list | tuple) else []
    wrong = [part for part in parts if not isinstance(part, str | Mapping)]
    if wrong or not (parts or content is None or isinstance(content, str | list | tuple)):
        got = wrong[0] if wrong else content
        raise ParameterError(
            f"{place}: content: expected str or a list of parts (texts or mappings), "
            f"got {type(got).__name__}"
        )
    return plain_value(message, place)


def plain_tools(tools: Any) -> list[dict[str, Any]] | None:
    """A checked copy of tools: None, or a list of JSON schemas as mappings.

    Raises: ParameterError for anything else.
    """
    if tools is None:
        return None
    if not isinstance(tools, list | tuple):
        raise ParameterError(
            f"render_chat: tools: expected a list of mappings, got {type(tools).__name__}"
        )
    for i, tool in enumerate(tools):
        if not isinstance(tool, Mapping):
            raise ParameterError(
                f"render_chat: tools[{i}]: expected a mapping (the JSON schema of a function), "
                f"got {type(tool).__name__}"
            )
    return plain_value(tools, "render_chat: tools")
