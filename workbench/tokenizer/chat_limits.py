"""What a chat template may use up: time, steps, memory; and what a call is going to need of them.

A template is a program from a stranger's file. A thread cannot be stopped and a process of its own
costs a second, so the rendering itself counts: every loop turn, call, operator and filter is a step
that asks the clock, and every value that is made is charged before it is made where it may be much
larger than what it is made of (`"a" * 10**10`, `center`, `replace`, `%1000000d`).

    Budget.tick()        one step
    Budget.room(n)       may a value of n bytes be made?
    Budget.charge(value) a value was made

Values are weighed as text: a list that holds one list twice, which holds one list twice, … is small
in memory but endless when it is printed or compared. Loaded at first use: it imports jinja2.

Source: our own.
"""

import re
import sys
import time
from collections.abc import ItemsView, KeysView, ValuesView
from string import Formatter
from typing import Any

from jinja2.utils import Namespace

__all__ = ["Budget", "LimitReached", "method_room", "operator_room", "shallow_size"]

MAX_SECONDS = 1.25  # of the processor's time
MAX_STEPS = 1_000_000
MAX_BYTES = 128 << 20  # of all values one rendering makes
MAX_VALUE = 16 << 20  # of one value
MAX_INT_BITS = 1 << 14
MAX_PRODUCT = 1 << 28  # characters compared by searches that cost length * length
CLOCK_EVERY = 32  # steps
ESCAPED = 4  # how much longer repr may be than its text: "\\x00", "\\U0010ffff"
NODE, SLOT = 48, 8  # bytes of a value, and of its place in a list

SEQUENCES = (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)
SPACES = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


class LimitReached(Exception):
    """The template asks for more than it may have."""


class Budget:
    """What one rendering has used so far."""

    def __init__(self, max_value: int = MAX_VALUE):
        self._steps, self._bytes, self._max_value = 0, 0, max_value
        self._end = time.thread_time() + MAX_SECONDS

    def tick(self) -> None:
        """Count a step. Raises: LimitReached."""
        self._steps += 1
        if self._steps % CLOCK_EVERY == 0:
            self._ask_clock()
            if self._steps > MAX_STEPS:
                raise LimitReached(f"more than {MAX_STEPS:,} steps")

    def _ask_clock(self) -> None:
        if time.thread_time() > self._end:
            raise LimitReached(f"more than {MAX_SECONDS} seconds")

    def room(self, n_bytes: int) -> None:
        """Raises: LimitReached if a value of so many bytes is too large."""
        if n_bytes > self._max_value:
            raise LimitReached(f"a value of more than {self._max_value >> 20} MiB")
        if n_bytes > 4096:
            self._ask_clock()

    def charge(self, value: Any) -> Any:
        """Count a value that was made, and give it back. Raises: LimitReached."""
        self.charge_bytes(shallow_size(value))
        return value

    def charge_bytes(self, n_bytes: int) -> None:
        """Count the bytes of a value. Raises: LimitReached."""
        self.room(n_bytes)
        self._bytes += n_bytes
        if self._bytes > MAX_BYTES:
            raise LimitReached(f"more than {MAX_BYTES >> 20} MiB of values")

    def weigh(self, value: Any) -> int:
        """The bytes of a value written out, all it holds included. Raises: LimitReached."""
        if isinstance(value, str):
            return shallow_size(value)
        total, todo = 0, [value]
        while todo:
            item = todo.pop()
            total += shallow_size(item)
            if total > self._max_value:
                self.room(total)
            if isinstance(item, Namespace):
                item = item._Namespace__attrs
            if isinstance(item, dict):
                todo.extend(item)
                todo.extend(item.values())
            elif isinstance(item, SEQUENCES):
                todo.extend(item)
        self.room(total)
        return total

    def text_room(self, value: Any) -> None:
        """Raises: LimitReached if a value is too large to be turned into text."""
        if not isinstance(value, str | int | float):
            self.room(ESCAPED * self.weigh(value))

    def counted(self, values: Any) -> list:
        """What an iterable gives, as a list that is charged while it grows."""
        if isinstance(values, (*SEQUENCES, str, dict, range)):
            self.room(len(values) * (NODE + SLOT))
            return list(values)
        made = []
        for value in values:
            self.tick()
            made.append(value)
        return self.charge(made)


def shallow_size(value: Any) -> int:
    """About the bytes of a value, without what it refers to."""
    if isinstance(value, str):
        return NODE + len(value) * (1 if value.isascii() else 4)
    if isinstance(value, int):
        return NODE if -(1 << 64) < value < 1 << 64 else NODE + value.bit_length() // 3
    if isinstance(value, dict):
        return NODE + sys.getsizeof(value)
    if isinstance(value, SEQUENCES):
        return NODE + SLOT * len(value)
    return NODE


def operator_room(budget: Budget, operator: str, left: Any, right: Any) -> None:
    """Raises: LimitReached if `left operator right` is too large or takes too long."""
    if isinstance(left, int) and isinstance(right, int):
        bits = (left.bit_length(), right.bit_length())
        too_long = (operator == "*" and sum(bits) > MAX_INT_BITS) or (
            operator == "**" and bits[0] > 1 and bits[0] * max(right, 0) > MAX_INT_BITS
        )
        if too_long:
            raise LimitReached(f"a number of more than {MAX_INT_BITS} bits")
    elif operator == "+":
        budget.room(shallow_size(left) + ESCAPED * shallow_size(right))
    elif operator == "*":
        many, times = (right, left) if isinstance(left, int) else (left, right)
        if isinstance(times, int):
            budget.room((shallow_size(many) - NODE) * max(times, 0))
    elif operator == "%" and isinstance(left, str):
        _printf_room(budget, left, right)


def _printf_room(budget: Budget, text: str, values: Any) -> None:
    widths, parts = 0, text.split("%")[1:]
    for part in parts:
        key, closed, spec = part.partition(")") if part.startswith("(") else ("", ")", part)
        if "(" in key[1:] or not closed:
            raise LimitReached("a format with brackets in a name")
        spec = re.match(r"[#0\- +]*(\*|\d*)\.?(\*|\d*)", spec)
        if "*" in spec.group():
            raise LimitReached("a format with * for a width")
        widths += sum(_number(digits) for digits in spec.groups())
    budget.room(len(text) + ESCAPED * (widths + len(parts) * budget.weigh(values)))


def _number(digits: str) -> int:
    return int(digits or "0") if len(digits) < 10 else MAX_VALUE


def _format_room(budget: Budget, text: str, args: tuple, kwargs: dict) -> None:
    """For str.format: widths in the specs, and every field as large as all values together."""
    widths, n_fields = 0, 0
    for _, field, spec, _ in Formatter().parse(text):
        if "{" in (spec or ""):
            raise LimitReached("a format inside a format")
        widths += sum(map(_number, re.findall(r"\d+", spec or "")))
        n_fields += field is not None
    size = budget.weigh([args, kwargs])
    budget.room(len(text) + ESCAPED * (widths + n_fields * size))


def _split_room(budget: Budget, text: str, separator: Any) -> None:
    if isinstance(separator, str) and separator:
        n_pieces = text.count(separator)
    else:
        n_pieces = sum(map(text.count, SPACES))
    budget.charge_bytes(shallow_size(text) + (n_pieces + 1) * (NODE + SLOT))


def replace_room(budget: Budget, text: str, old: str, new: str) -> None:
    """Raises: LimitReached if text with every `old` replaced by `new` is too large."""
    wide = 1 if text.isascii() and new.isascii() else 4
    budget.room(wide * (len(text) + text.count(old) * len(new)))


def join_room(budget: Budget, separator: str, items: list) -> None:
    """Raises: LimitReached if the items with separators between them are too large."""
    budget.room(ESCAPED * budget.weigh(items) + shallow_size(separator) * len(items))


def method_room(budget: Budget, value: Any, name: str, args: tuple, kwargs: dict) -> tuple:
    """Check a method call of a plain value, as `"a".center(9)`, before it is made.

    Returns: args, where iterators are lists now. Raises: LimitReached.
    """
    if isinstance(value, str):
        return _text_method_room(budget, value, name, args, kwargs)
    budget.weigh(args)
    if name in ("index", "count"):  # compares
        budget.weigh(value)
    return args


def _text_method_room(budget: Budget, text: str, name: str, args: tuple, kwargs: dict) -> tuple:
    first = args[0] if args else next(iter(kwargs.values()), None)
    if name == "format":
        _format_room(budget, text, args, kwargs)
    elif name in ("center", "ljust", "rjust", "zfill") and isinstance(first, int):
        budget.room(ESCAPED * max(first, len(text)))
    elif name == "expandtabs" and isinstance(first, int):
        budget.room(ESCAPED * (len(text) + text.count("\t") * max(first, 0)))
    elif name == "replace" and len(args) > 1 and all(isinstance(a, str) for a in args[:2]):
        replace_room(budget, text, *args[:2])
    elif name == "join" and args:
        items = budget.counted(first)
        join_room(budget, text, items)
        return (items, *args[1:])
    if name in ("partition", "rpartition"):
        budget.charge_bytes(shallow_size(text))
    if name in ("split", "rsplit", "splitlines"):
        _split_room(budget, text, kwargs.get("sep", args[0] if args else None))
    if isinstance(first, str) and ("strip" in name or name.startswith("r")):
        budget.room(len(text) * len(first) * MAX_VALUE // MAX_PRODUCT)
    return args
