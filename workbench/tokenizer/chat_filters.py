"""jinja2's filters and tests for chat templates, each behind a check of what it will need.

A filter is called as before; what it may need is known by then: `"a"|center(10**9)` is refused
before a byte is made. Filters that give an iterator count its turns. `tojson` is Hugging Face's: no
HTML escapes, non-ASCII characters as they are.

Left out: filters that a prompt has no use for and that cost more than they look: filesizeformat,
pprint, random, striptags, urlencode, urlize, wordwrap, xmlattr. `sum` adds numbers only. Loaded at
first use: it imports jinja2.

Source: `jinja2.filters`, `jinja2.tests`; Hugging Face transformers utils/chat_template_utils.py for
tojson.
"""

import json
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from .chat_limits import (
    ESCAPED,
    NODE,
    Budget,
    LimitReached,
    join_room,
    operator_room,
    replace_room,
    shallow_size,
)

__all__ = ["guarded_filters", "guarded_tests"]

LEFT_OUT = {"filesizeformat", "pprint", "random", "striptags", "urlencode", "urlize", "wordwrap",
            "xmlattr"}  # fmt: skip
LAZY = {"attr", "count", "d", "default", "first", "items", "last", "length", "map", "reject",
        "rejectattr", "select", "selectattr"}  # fmt: skip
LISTED = {"batch", "dictsort", "groupby", "join", "list", "max", "min", "reverse", "slice", "sort",
          "sum", "unique"}  # fmt: skip
COMPARING = {"==", "eq", "equalto", "!=", "ne", ">", "gt", "greaterthan", ">=", "ge", "<", "lt",
             "lessthan", "<=", "le", "in", "sameas", "divisibleby"}  # fmt: skip
MAX_COUNT = 100_000  # rows of `batch` and `slice`; also jinja2's bound for range
MAX_DIGITS = 300


def guarded_filters(budget: Budget) -> dict[str, Callable]:
    """jinja2's filters, charged to a budget."""
    chosen = {name: made for name, made in FILTERS.items() if name not in LEFT_OUT}
    return {name: _guarded(budget, name, made) for name, made in chosen.items()} | {
        "tojson": _to_json(budget)
    }


def guarded_tests(budget: Budget) -> dict[str, Callable]:
    """jinja2's tests; those that compare weigh their arguments."""
    return {
        name: _comparing(budget, test) if name in COMPARING else test
        for name, test in TESTS.items()
    }


def _comparing(budget: Budget, test: Callable) -> Callable:
    @wraps(test)
    def compare(*values: Any) -> bool:
        budget.tick()
        for value in values:
            budget.weigh(value)
        return test(*values)

    return compare


def _guarded(budget: Budget, name: str, made: Callable) -> Callable:
    skip = 1 if hasattr(made, "jinja_pass_arg") else 0  # environment, context or eval_ctx
    check = CHECKS.get(name)

    @wraps(made, updated=("__dict__",) if hasattr(made, "__dict__") else ())
    def guarded(*args: Any, **kwargs: Any) -> Any:
        """The filter, after a look at what it is given."""
        budget.tick()
        passed, value, rest = args[:skip], args[skip], args[skip + 1 :]
        budget.weigh([rest, list(kwargs.values())])
        if name in LISTED:
            value = _listed(budget, value, name)
        elif name not in LAZY:
            budget.text_room(value)
        if check:
            check(budget, value, rest, kwargs)
        result = made(*passed, value, *rest, **kwargs)
        if isinstance(result, Iterator):
            return _counted(budget, result)
        return result if name in LAZY else budget.charge(result)

    return guarded


def _listed(budget: Budget, value: Any, name: str) -> Any:
    """The value weighed; an iterator as a list, which can be."""
    if isinstance(value, Iterator):
        value = budget.counted(value)
    if isinstance(value, str | range):
        budget.charge_bytes(len(value) * 2 * shallow_size("é"))
    elif name != "list":
        budget.weigh(value)
    return value


def _counted(budget: Budget, values: Iterator) -> Iterator:
    for value in values:
        budget.tick()
        yield budget.charge(value) if isinstance(value, list) else value


def _argument(rest: tuple, kwargs: dict, index: int, name: str, default: Any = None) -> Any:
    return rest[index] if len(rest) > index else kwargs.get(name, default)


def _check_center(budget: Budget, value: Any, rest: tuple, kwargs: dict) -> None:
    width = _argument(rest, kwargs, 0, "width")
    budget.room(ESCAPED * width if isinstance(width, int) else 0)


def _check_indent(budget: Budget, value: Any, rest: tuple, kwargs: dict) -> None:
    width = _argument(rest, kwargs, 0, "width", 4)
    size = max(width, 0) if isinstance(width, int) else len(str(width))
    text = str(value)
    budget.room(ESCAPED * (len(text) + (len(text.splitlines()) + 1) * size))


def _check_replace(budget: Budget, value: Any, rest: tuple, kwargs: dict) -> None:
    old, new = (str(_argument(rest, kwargs, i, name, "")) for i, name in enumerate(("old", "new")))
    replace_room(budget, str(value), old, ESCAPED * new)


def _check_join(budget: Budget, value: Any, rest: tuple, kwargs: dict) -> None:
    if hasattr(value, "__len__"):
        join_room(budget, str(_argument(rest, kwargs, 0, "d", "")), value)


def _check_rows(budget: Budget, value: Any, rest: tuple, kwargs: dict) -> None:
    count = _argument(rest, kwargs, 0, "linecount", kwargs.get("slices"))
    if isinstance(count, int) and count > MAX_COUNT:
        raise LimitReached(f"more than {MAX_COUNT:,} columns")


def _check_round(budget: Budget, value: Any, rest: tuple, kwargs: dict) -> None:
    precision = _argument(rest, kwargs, 0, "precision", 0)
    if isinstance(precision, int) and abs(precision) > MAX_DIGITS:
        raise LimitReached(f"rounding to more than {MAX_DIGITS} digits")


def _check_words(budget: Budget, value: Any, rest: tuple, kwargs: dict) -> None:
    budget.room(len(str(value)) * NODE)  # they are cut into words


def _check_sum(budget: Budget, value: Any, rest: tuple, kwargs: dict) -> None:
    if not isinstance(_argument(rest, kwargs, 1, "start", 0), int | float):
        raise TypeError("sum adds numbers; expected a number as start")


def _check_trim(budget: Budget, value: Any, rest: tuple, kwargs: dict) -> None:
    chars = _argument(rest, kwargs, 0, "chars")
    if isinstance(chars, str) and len(chars) > 1000:
        raise LimitReached("trimming more than 1,000 different characters")


def _check_format(budget: Budget, value: Any, rest: tuple, kwargs: dict) -> None:
    operator_room(budget, "%", str(value), kwargs or rest)


CHECKS = {
    "batch": _check_rows,
    "center": _check_center,
    "format": _check_format,
    "indent": _check_indent,
    "join": _check_join,
    "replace": _check_replace,
    "round": _check_round,
    "slice": _check_rows,
    "sum": _check_sum,
    "title": _check_words,
    "trim": _check_trim,
    "wordcount": _check_words,
}


def _to_json(budget: Budget) -> Callable:
    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """A value as JSON."""
        budget.tick()
        width = indent if isinstance(indent, int) else len(indent or "")
        n_bytes = budget.weigh(value)
        around = budget.weigh([separators]) + max(width, 0) * _depth(value)
        budget.room(ESCAPED * n_bytes + n_bytes // NODE * around)
        return budget.charge(
            json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                       sort_keys=sort_keys)
        )  # fmt: skip

    return tojson


def _depth(value: Any) -> int:
    """How many levels of lists and mappings there are (of a value that is not large)."""
    level, depth = [value], 0
    while level:
        lists = [item for item in level if isinstance(item, list | tuple)]
        maps = [item.values() for item in level if isinstance(item, dict)]
        level = [part for item in (*lists, *maps) for part in item]
        depth += 1
    return depth
