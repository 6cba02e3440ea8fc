"""What is wrong with a grammar, in one line with the place, made of llguidance's messages.

    at 1(8): invalid regex "(" (in regex): regex parse error:      pattern, column 1:
        (                                                     ─►   unclosed group
        ^
    error: unclosed group

Source: the messages of llguidance 1.9. Leaves out: messages in llguidance's own words that have no
place; a JSON schema's is found by asking for its parts.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

PLACE = re.compile(r"(?:at )?(\d+)\((\d+)\): ")
MARK = re.compile(r"regex parse error:\n    .*\n    ( *)\^")  # below the wrong character
LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
MAPS = ("properties", "patternProperties", "$defs", "definitions")
PARTS = ("items", "additionalProperties", "additionalItems")


def words(message: str) -> str:
    """What is wrong, without the place."""
    error = re.search(r"^error: (.*)", message, re.MULTILINE)
    text = error[1] if error else PLACE.sub("", message.strip().partition("\n")[0], count=1)
    text = text.partition(" (in regex): ")[2] or text
    return text.removeprefix("failed to compile JSON schema: ")


def placed_words(message: str) -> str:
    """What is wrong in a Lark grammar, behind line and column."""
    place = PLACE.match(message)
    return (f"line {place[1]}, column {place[2]}: " if place else "") + words(message)


def pattern_words(message: str) -> str:
    """What is wrong in a regular expression, behind the column where one is marked."""
    mark = MARK.search(message)
    return (f"column {len(mark[1]) + 1}: " if mark else "") + words(message)


def schema_words(schema: Any, error_of: Callable[[Any], str]) -> str:
    """What is wrong in a JSON schema, behind the innermost part that has the same error alone.

    error_of: schema -> message, "" where it is right.
    """
    wrong, path, part = words(error_of(schema)), [], schema
    shared = {k: v for k, v in _mapping(schema).items() if k in ("$defs", "definitions")}
    found = True
    while found:
        found = False
        for place, child in _parts(part):
            whole = {**shared, **child} if isinstance(child, Mapping) else child
            if words(error_of(whole)) == wrong:
                path, part, found = [*path, place], child, True
                break
    return (f"at {'/'.join(path)}: " if path else "") + wrong


def _parts(schema: Any) -> list[tuple[str, Any]]:
    """The schemas directly in a schema, each with its place."""
    schema = _mapping(schema)
    found = [(key, schema[key]) for key in PARTS if key in schema]
    for key in MAPS:
        found += [(f"{key}/{name}", part) for name, part in _mapping(schema.get(key)).items()]
    for key in LISTS:
        inner = schema.get(key)
        found += [(f"{key}/{i}", p) for i, p in enumerate(inner if isinstance(inner, list) else ())]
    return found


def _mapping(value: Any) -> Mapping:
    return value if isinstance(value, Mapping) else {}
