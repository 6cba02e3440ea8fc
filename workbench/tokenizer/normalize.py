"""BERT's normaliser, character by character: accents off, lower case, words set apart.

    "Déjà-vu, 漢字"  ->  "deja - vu ,  漢  字 "     split at spaces: deja - vu , 漢 字

    white space                             -> a space
    NUL, U+FFFD, controls                   -> nothing
    combining marks                         -> nothing, if accents are stripped
    punctuation, ASCII symbols, CJK         -> themselves between spaces
    other characters                        -> themselves, without accent and in lower case

llama.cpp takes an accented character for the first character of its canonical decomposition, and
so do we: what follows it there is a mark. Decompositions and simple lower case never change once a
character is assigned; those assigned after Unicode 15.1 are left alone, as in llama.cpp's tables.

Source: `llm_tokenizer_wpm_session::preprocess` in llama.cpp src/llama-vocab.cpp, the tables of
src/unicode-data.cpp; the Unicode Character Database 15.1.
"""

import unicodedata

from .character_classes import STAND_INS, WIDE_SPACES, class_table

__all__ = ["FoldTable"]

SPACES = "\t\n\v\f\r "
CONTROLS = (  # first and last of each range of categories Cc, Cf, Cs and Co
    (0x0, 0x1F),
    (0x7F, 0x9F),
    (0xAD, 0xAD),
    (0x600, 0x605),
    (0x61C, 0x61C),
    (0x6DD, 0x6DD),
    (0x70F, 0x70F),
    (0x890, 0x891),
    (0x8E2, 0x8E2),
    (0x180E, 0x180E),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x2064),
    (0x2066, 0x206F),
    (0xD800, 0xF8FF),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0x110BD, 0x110BD),
    (0x110CD, 0x110CD),
    (0x13430, 0x1343F),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0001, 0xE0001),
    (0xE0020, 0xE007F),
    (0xF0000, 0xFFFFD),
    (0x100000, 0x10FFFD),
)
CHINESE = (  # as llama.cpp has it: the sixth begins at 2B920, not at 2B820
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
MARK, PUNCTUATION, OTHER = (STAND_INS[name] for name in "MPO")
ASCII_ALONE = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"  # punctuation and symbols
MAX_CHARACTERS = 1 << 16


def _within(code_point: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code_point <= last for first, last in ranges)


def _class_of(character: str) -> str:
    """The stand-in of a character's class; an ASCII character is its own."""
    return chr(class_table()[ord(character)])


def _without_accent(character: str) -> str:
    """The first character of the canonical decomposition."""
    if _class_of(character) == OTHER:
        return character
    return unicodedata.normalize("NFD", character)[0]


def _lower(character: str) -> str:
    """The simple lower case: one character, whatever Python's full mapping says."""
    return character if _class_of(character) == OTHER else character.lower()[0]


class FoldTable(dict[int, str]):
    """code point -> what is left of it, filled on first use: for `str.translate`.

    lowercase, strip_accents: as the keys `tokenizer.ggml.normalizer.*` say.
    """

    def __init__(self, lowercase: bool, strip_accents: bool):
        super().__init__()
        self.lowercase, self.strip_accents = lowercase, strip_accents

    def __missing__(self, code_point: int) -> str:
        if len(self) >= MAX_CHARACTERS:
            self.clear()
        folded = self[code_point] = self._fold(chr(code_point))
        return folded

    def _fold(self, character: str) -> str:
        if self.strip_accents:
            character = _without_accent(character)
        kind = _class_of(character)
        if character in SPACES or WIDE_SPACES.match(character):
            return " "
        if character == "\ufffd" or _within(ord(character), CONTROLS):
            return ""
        if self.strip_accents and kind == MARK:
            return ""
        folded = _lower(character) if self.lowercase else character
        alone = kind == PUNCTUATION or character in ASCII_ALONE
        return f" {folded} " if alone or _within(ord(character), CHINESE) else folded
