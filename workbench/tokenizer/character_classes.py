"""The character classes that llama.cpp's pre-tokenizers see, and text reduced to them.

llama.cpp runs its regexes not on the text but on a reduction of it: ASCII stays, every other
character becomes one stand-in for its class. `\\p{L}` in a regex then means "the stand-in of
letters or an ASCII letter". Doing the same makes us equal to it, and independent of the Unicode
version of Python or of a regex library, which know letters that llama.cpp takes for unassigned.

    text      d é j à   v u ,   2 ² …        reduced   d Ò j Ò   v u ,   2 Ñ Ó

CLASS_RUNS: the general categories of Unicode 15.1 for code points 0..0x10FFFF as run lengths, a
class letter followed by the length in base 36 (none: 1). L letter, N number, P punctuation,
M mark, Y symbol, S white space, O anything else (and all of ASCII, which is never looked up).

Source: `unicode_regex_split` in llama.cpp src/unicode.cpp; the Unicode Character Database 15.1.
"""

import re
from collections.abc import Callable
from functools import cache

import numpy as np

__all__ = ["class_table", "expand_classes", "reduce_han", "reduce_text", "replace_spaces"]

STAND_INS = {
    "L": "\xd2",
    "N": "\xd1",
    "P": "\xd3",
    "M": "\xd4",
    "Y": "\xd5",
    "S": "\x0b",
    "O": "\xd0",
}
REGEX_CLASSES = {  # what \p{...} becomes inside brackets: the stand-in and the ASCII members
    "L": "\xd2A-Za-z",
    "N": "\xd10-9",
    "P": r"\xd3!-#%-*,-/:-;?-@\[-\]_{}",
    "M": "\xd4",
    "S": r"\xd5$+<=>^`|~",
    "Han": "\xd6\xd7",
}
HAN_RANGES = (
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0x2CEB0, 0x2EBEF), (0x2F800, 0x2FA1F)),
)
CLASS_OR_BRACKET = re.compile(r"\\p\{(?P<name>Han|[LNPMS])[a-z]?\}|\\.|[\[\]]")
WIDE_SPACES = re.compile("[\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")


@cache
def class_table() -> np.ndarray:
    """(0x110000,) uint8: the stand-in of every code point that is not ASCII."""
    runs = re.findall("([A-Z])([0-9a-z]*)", CLASS_RUNS)
    stand_ins = np.array([ord(STAND_INS[name]) for name, _ in runs], np.uint8)
    table = np.repeat(stand_ins, [int(length or "1", 36) for _, length in runs])
    table[:128] = np.arange(128)
    table.flags.writeable = False
    return table


@cache
def han_table() -> np.ndarray:
    """As class_table, with stand-ins of their own for Han letters and for Han ranges' other codes.

    Source: `unicode_cpt_is_han` in llama.cpp src/unicode.cpp.
    """
    table = class_table().copy()
    for first, last in HAN_RANGES:
        letters = table[first : last + 1] == ord(STAND_INS["L"])
        table[first : last + 1] = np.where(letters, 0xD6, 0xD7)
    table.flags.writeable = False
    return table


def reduce_text(text: str) -> str:
    """The text with each character beyond ASCII replaced by its class's stand-in; same length."""
    return _look_up(text, class_table)


def reduce_han(text: str) -> str:
    """As reduce_text, with Han characters apart from the other letters; same length."""
    return _look_up(text, han_table)


def _look_up(text: str, table: Callable[[], np.ndarray]) -> str:
    if text.isascii():
        return text
    code_points = np.frombuffer(text.encode("utf-32-le"), "<u4")
    return table()[code_points].tobytes().decode("latin-1")


def replace_spaces(text: str) -> str:
    """The text with white space beyond ASCII replaced by a vertical tab; same length.

    Regexes that name characters beyond ASCII run on this form: they cannot on the reduced one.
    """
    return text if text.isascii() else WIDE_SPACES.sub("\x0b", text)


def expand_classes(regex: str) -> str:
    """Rewrite \\p{L}, \\p{N}, \\p{P}, \\p{M}, \\p{S} for the reduced text, in and out of brackets.

    \\p{Han} is for the text of reduce_han, where \\p{L} has no Han letters.

    The subclasses \\p{Lu}, \\p{Ll}, … mean their whole class, as in llama.cpp.
    """
    expanded, inside, start = [], False, 0
    for token in CLASS_OR_BRACKET.finditer(regex):
        expanded.append(regex[start : token.start()])
        start = token.end()
        if token["name"]:
            members = REGEX_CLASSES[token["name"]]
            expanded.append(members if inside else f"[{members}]")
        else:
            inside = {"[": True, "]": False}.get(token[0], inside)
            expanded.append(token[0])
    return "".join(expanded) + regex[start:]


CLASS_RUNS = (
    "O3pSOqSPY5PY2LPYOY4N2YLP2YNLPN3PLnYLvYLcqY4LcYeL5Y7LYLYhM34L5YL2O2L4PLO4Y2LPL3OLOLkOL2bYL3vY"
    "M7L4mOL12O2LP6L15P2O2Y3OM19PMPM2PM2PMO8LrO4L4P2OhY3P2YP2Y2MbPOP3L17MlNaP4L2ML2rPLM7OYM6L2M2Y"
    "M4L2NaL3Y2LPeO2LMLuMrO2L2hMbLOeNaLxM9L2YP3LO2MY2LmM4LM9LM3LM5O2PfOLpM3O2POLbO5LoYL6O9M8L16Mo"
    "OMxL1iM3LMiLM7LaM2P2NaPLgM3OL8O2L2O2LmOL7OLO3L4O2MLM7O2M2O2M3LO8MO4L2OL3M2O2NaL2Y2N6Y2LPMO2M"
    "3OL6O4L2O2LmOL7OL2OL2OL2O2MOM5O4M2O2M3O3MO7L4OLO7NaM2L3MPOaM3OL9OL3OLmOL7OL2OL5O2MLM8OM3OM3O"
    "2LOfL2M2O2NaPYO7LM6OM3OL8O2L2O2LmOL7OL2OL5O2MLM7O2M2O2M3O7M3O4L2OL3M2O2NaYLN6OaMLOL6O3L3OL4O"
    "3L2OLOL2O3L2O3L3O3LcO4M5O3M3OM4O2LO6MOeNdY8O5M5L8OL3OLnOLgO2MLM7OM3OM4O7M2OL3O2LO2L2M2O2NaO7"
    "PN7YLM3PL8OL3OLnOLaOL5O2MLM7OM3OM4O7M2O6L2OL2M2O2NaOL2MOcM4L9OL3OL15M2LM7OM3OM4LYO4L3MN7L3M2"
    "O2NjYL6OM3OLiO3LoOL9OLO2L7O3MO4M6OMOM8O6NaO2M2POcL1cML2M7O4YL7M8PNaP2O11L2OLOL5OLoOLOLaML2M9"
    "LO2L5OLOM7ONaO2L4OwLY3PfYPY3M2Y6NkYMYMYMP4M2L8OL10O4MkPM2L5MbOM10OY8MY6OY2P5Y4P2O11L17MkLNaP"
    "6L6M4L4M3LM3L2M7L3M4LdMcLMNaM4Y2L12OLO5LO2L17PL99OL4O2L7OLOL4O2L15OL4O2LxOL4O2L7OLOL4O2LfOL1"
    "lOL4O2L1vO2M3P9NkO3LgYaO6L2eO2L6O2PLh8YPLhSLqP2O3L23P3N3L8O7LiM4O9LjM3P2O9LiM2OcLdOL3OM2OcL1"
    "gMwP3LP3YLMO2NaO6NaO6PbM3OMNaO6L2hO7L5M2LyMLO5L1yOaLvOMcO4McO4YO3P2NaLuO2L5ObL18O4LqO6NbO3Yy"
    "LnM5O2P2L1hMaOMtO2MNaO6NaO6P7LP6O2MvO1dM5L1bMhL8O3NaP7YaM9Y9P2OM3LuMdL2NaL18MeO8P4L10MkO3P5N"
    "aO3L3NaL10P2L9O7L17O2L3P8O8M3PMlL4ML6ML2M3LO5L5cM1sL7qO2L6O2L12O2L6O2L8OLOLOLOLvO2L1hOL7YLY3"
    "L3OL7Y3L4O2L6OY3LdY3O2L3OL7Y2OSbO5PoS2O5SPkYPdYPcSOgNLO2N6Y3P2LNaY3P2OLdO3YxOfMxOfY2LY4LY2La"
    "YLY3L5Y6LYLYLYL4YLbY2L4Y5L5Y4LYN1fL2N5Y2O4YagP4YtP2Y70OpYbOlN1oY26NmYh4PeNuY1dP2YvPaYb7PmY1r"
    "P4YwP2YaeO2YwOY2xL6dY6L4M3L2O5P4NP2L12OLO5LO2L1kO7LPOeMLnO9L7OL7OL7OL7OL7OL7OL7OL7OMwP1bLPwY"
    "2PcOyYqOY2hOcY5yOqYgSP3YL2NPaY2PcYN9M6PL5Y2N3L2PY2OL2eO2M2Y2L3PL2iPL4O5L17OL2mOY2N4YaLwY10Ob"
    "YLgYvONaYuN8YNfYwNaY13NfY8wL534Y1sLh3hO3Y1jO9L1aP2L7hP3LgNaL2OkL1bM4PMaPLvM2L1yNaM2P6O8YnL9Y"
    "2L2vY2L1sO5L2OLOL5OoLgML3ML4MLnM5Y4MO3N6Y4O6L1gP4O8M2L1eMiO8P2NaO6MiL6P3LPL2MNaLsM8P2LnMdObP"
    "LtO3M4L1bMePdOLNaO4P2L5MLaNaL5OL15MeO9L3ML8M2O2NaO2P4LnY3LM3L1eMLM3L2M2L5M2LMLOoL3P2LbM5P2L3"
    "M2OaL6O2L6O2L6O9L7OL7OL17YLeY2O4L37M8PM2O2NaO6L8mcOcLnO4L1dO6isLa6O2L2yO12L7OcL5O5LMLaYLdOL5"
    "OLOL2OL2OL30YhOgLa3P2YgL1sO2L1iO7YOwLcY4MgPaO6MgPzOPeYPY3OPYP2O4L5OL3rO4P3YP6YP4NaP2Y3P2LqP3"
    "YPYLqPYPYP7L2hO3L6O2L6O2L6O2L3O3Y7OY7OdY2O2LcOLqOLjOL2OLfO2LeOyL3fO5P3O4N19O3Y9N1lYhN2Y3OYdO"
    "3YO1bY19MO3mLtO3L1dOfMNrO4LwN4O9LkNL8NO5L12M5O5LuOPL10O4L8PN5O16L4eO2NaO6L10O4L10O4L14O8L1gO"
    "bPLbOLfOL7OL2OLbOLfOL7OL2O1vL8nO9LmOaL8OoL6OL16OL9O1xL6O2LOL18OL2O3LO2LnOPN8LnY2N7LvO8N9O1cL"
    "jOL2O5N5LmN6O3PLqO5PO1sL1kO4N2L2NgO2N1aLM3OM2O5M4L4OL3OLtO2M3O4MN9O7P9O7LtN2PLtN3OwL8YLsM2O4"
    "N5P7O9L1iO3P7LmO2N8LjO5N8LiO7P4OcN7O28L21O1jL1fOdL1fO7N6L10M4O8NaO86NvOL16OM2PO2L2O23M3LtNaL"
    "O8LmMbN4P5OmLiM4P4O12LlN7OkLnO9M3L1hMfP7O4NuML2M2LO9M4L19MbP2OP4MOdLpO7NaO6M3L10MeONaP4LM2LO"
    "8LzMP2LO9M3L1cMeL4P4M4PM2NaLPLP3ONkObLiOLpMcP6ML2MO1qL7OLOL4OLfOLaPO6L1bMcO5NaO6M4OL8O2L2O2L"
    "mOL7OL2OL5OM2LM7O2M2O2M3O2LO6MO5L5M2O2M7O3M5O3vL1hMiL4P5NaP2OPML3OuL1cMkL2PLO8NaO4mL1bM7O2M9"
    "PnL4M2OyL1cMhP3LObNaO6PdOjL17MdLPO6NaO1iLrO2MfO4NcP3YL7O55L18MfPO2sL1sNjOcL8O2LO2L8OL2OLoM6O"
    "M2O2M4LMLM2P3O9NaO1yL8O2L13M7O2M7LPLMOrLMaL14M7LM4P8MO8LMbL1aMgP3LP5OdL21O7PaO6uL9OL11M8OM8L"
    "P5OaNtO3P2LuO2MmOMeO21L7OL2OL12M6O3MOM2OM7LMO8NaO6L6OL2OLwM5OM2OM5LO7NaO8mLjM4P2O7M2LMLdOLyM"
    "7O3M5PdNaO2eLOfNlYtOdPLpmO2uN33OP5ObL5gO218L2pP2OdLtsOgML6MfO33eLg7O6ntLftO7LvONaO4P2L27ONaO"
    "6LuO2M5POaL1cM7P5Y4L4PYOaNaON7OLlO5LjOj4L1sNnP4O2tL23O4MLM1jO7M4LdO1sL2PLMObM2OeL4qgO8LyeO16"
    "L9O6w7L4OL7OL2OL83OfLOtL3O2LOeL4O8Lb0O1s4L2zO5LdO3L9O7LaO2YM2PO3moM1aO2MnO9Y38O1oY6uOaY13O2Y"
    "1oM5Y3M6O8M8Y2M7YuM4Y1pOlY1uM3YO3eNkOcNkOcY2fO9NpO3rL2dOL1zOL2O2LO2L2O2L4OLcOLOL7OL1tOL4O2L8"
    "OL7OLsOL4OL5OLO3L7OL9gO2LpYLpYLvYLpYLvYLpYLvYLpYLvYLpYL8O2N1eYe8M1jY4M1eY8MYeMY2P5OfM5OMfOuo"
    "LvO6L6O5xM7OMhO2M7OM2OM5O5L1qOxMO34L19O3M7L7O2NaO4LYO8wLuMOhL18M4NaO5YOcwLsM4NaOkmL7OL4OL2OL"
    "fOL5hO2N9M7O15L1wM7LO4NaO4P2OltN1nYN3YN4O24N19YNfO5eL4OLrOL2OLO2LOLaOL4OLOLO6LO4LOLOLOL3OL2O"
    "LO2LOLOLOLOLOL2OLO2L4OL7OL4OL4OLOLaOLhO5L3OL5OLhO1gY2O7iY18O4Y2sOcYfO2YfOYfOY11OaNdY4hO1kYtO"
    "dY18O4Y9O7Y2OeY6O4aYrcO4YhO3YdO3Y3bO4Y2nO6YcO4YOfYcO4Y1kO8YaO6Y14O8YuO2Y2O26Y9gOcYeO2YdO3Y9O"
    "7Y1aOY7O8YeO4Y9O7Y9O7Y43OY1jO11NaOsmLwyoOwL37eO6L66O2L4g2OeL5rlOfLhaO1wiLf2O15uL3t7O5L38gOf9"
    "e8M6oO47bk"
)
