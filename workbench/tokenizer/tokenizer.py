"""Text to token ids and back, equal to llama.cpp.

    text -> special tokens cut out (special.py) -> the rest to ids (spm.py, bpe.py, …) -> BOS, EOS
    ids  -> the bytes of each token -> spaces cleaned up -> text

    TextRules.ends   flags    BOS and EOS as add_bos and add_eos say      all but the following
                     always   BOS and SEP, whatever the flags say         WordPiece
                     never    nothing, whatever the flags say             RWKV, PLaMo-2

Source: `llama_vocab::impl` (tokenize, token_to_piece, detokenize) in llama.cpp
src/llama-vocab.cpp. Left out: building one from a file (load.py).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import index
from types import MappingProxyType
from typing import Any, Literal

from ..errors import GGUFError, ParameterError
from .bpe import BytePairEncoder
from .chat import choose_template, render
from .plamo2 import Plamo2Encoder
from .rwkv import RwkvEncoder
from .special import SpecialIds, find_specials, special_tokens
from .spm import SpmEncoder
from .trace import TokenTrace, check_length, make_trace
from .trace_steps import EncoderTrace
from .trace_words import trace_bpe, trace_spm
from .ugm import UgmEncoder
from .vocab import TokenAttribute, Vocabulary
from .wpm import WpmEncoder

__all__ = ["TextRules", "Tokenizer"]

SILENT = TokenAttribute.CONTROL | TokenAttribute.UNKNOWN  # tokens that print as nothing
LITERAL = SILENT | TokenAttribute.USER_DEFINED  # tokens whose text stands for itself
NO_TEXT = b""
Encoder = SpmEncoder | BytePairEncoder | WpmEncoder | UgmEncoder | RwkvEncoder | Plamo2Encoder


@dataclass(frozen=True)
class TextRules:
    """What happens around the words: tokens added at the ends, and spaces."""

    add_bos: bool
    add_eos: bool
    add_sep: bool  # told by the file; no model acts on it
    add_space_prefix: bool  # detokenizing drops the leading space; SPM and UGM also add it
    prefix_words: bool  # SPM: a space before the text and after each special token
    clean_spaces: bool
    remove_extra_spaces: bool = False  # UGM: one ▁ before each word, none elsewhere
    ends: Literal["flags", "always", "never"] = "flags"  # what encode adds, as pictured above
    own_pieces: bool = False  # RWKV, PLaMo-2: a token prints as its encoder says, not by its type


def _check_byte_tokens(vocab: Vocabulary) -> None:
    for token_id in vocab.with_attribute(TokenAttribute.BYTE):
        if not re.match("...[0-9A-Fa-f]{2}", vocab.tokens[token_id], re.DOTALL):
            raise GGUFError(
                f"tokenizer: token {token_id} is a byte with the text "
                f"{vocab.tokens[token_id][:40]!a}; expected a text like '<0x0A>'"
            )


def _valid_text(text: str | bytes) -> str:
    try:
        if isinstance(text, bytes | bytearray | memoryview):
            return str(text, "utf-8")
        if not isinstance(text, str):
            raise ParameterError(f"encode: expected str or UTF-8 bytes, got {type(text).__name__}")
        if not text.isascii():
            text.encode()
    except UnicodeDecodeError as error:
        raise ParameterError(
            f"encode: byte {error.start} of the text is not UTF-8 ({error.reason}); "
            "expected UTF-8, or decode it first"
        ) from None
    except UnicodeEncodeError as error:
        raise ParameterError(
            f"encode: character {error.start} of the text is the lone surrogate "
            f"U+{ord(text[error.start]):04X}; expected Unicode characters"
        ) from None
    return text


def _clean_spaces(text: bytes) -> bytes:
    """Drop the space before "?!.,", those around a lone apostrophe, that before 's 'm 're 've."""
    text = re.sub(rb" (?=[?!.,])", b"", text)
    text = text.replace(b" ' ", b"'")
    return re.sub(rb" (?='(?:s|m|re|ve))", b"", text)


class Tokenizer:
    """Text to token ids and back, as llama.cpp does it for one vocabulary.

    model, pre: the names of the algorithm and of the pre-tokenizer; special: all ids with a role.
    """

    def __init__(
        self,
        model: str,
        pre: str | None,
        vocab: Vocabulary,
        special: SpecialIds,
        rules: TextRules,
        encoder: Encoder,
    ):
        self.model, self.pre, self.special, self.rules = model, pre, special, rules
        self._vocab, self._encoder = vocab, encoder
        self._specials = special_tokens(vocab)
        self._silent = frozenset(vocab.with_attribute(SILENT))
        self._pieces: dict[int, bytes] = {}
        self.chat_templates: Mapping[str, str] = MappingProxyType({})  # load.py fills it in
        if not rules.own_pieces:
            _check_byte_tokens(vocab)

    def __repr__(self) -> str:
        pre = f", pre={self.pre!r}" if self.pre else ""
        return f"Tokenizer(model={self.model!r}{pre}, n_vocab={self.n_vocab})"

    @property
    def n_vocab(self) -> int:
        """How many tokens there are."""
        return len(self._vocab.tokens)

    @property
    def bos_id(self) -> int | None:
        """Begin of sequence."""
        return self.special.bos

    @property
    def eos_id(self) -> int | None:
        """End of sequence."""
        return self.special.eos

    @property
    def eot_id(self) -> int | None:
        """End of turn."""
        return self.special.eot

    @property
    def eog_ids(self) -> frozenset[int]:
        """Every id that ends generation."""
        return self.special.eog

    @property
    def add_bos(self) -> bool:
        """Whether encode(add_special=True) puts BOS in front."""
        return self.rules.add_bos

    @property
    def add_eos(self) -> bool:
        """Whether encode(add_special=True) puts EOS at the end."""
        return self.rules.add_eos

    def encode(
        self, text: str | bytes, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        """Turn a text into token ids.

        text: str, or bytes of UTF-8; add_special: add BOS and EOS where the model wants them (a
        text that begins with BOS already then has two, as in llama.cpp); parse_special: read texts
        like "<s>" as the control tokens they name. User-defined tokens are always read.
        Raises: ParameterError if the text is not valid Unicode.
        Source: `llama_vocab::impl::tokenize` in llama.cpp src/llama-vocab.cpp.
        """
        text = _valid_text(text)
        front, back = self._added_ids(add_special)
        ids = list(front)
        for start, end, token_id in self._parts(text, parse_special):
            if token_id is None:
                ids += self._encoder.encode(self._word_prefix + text[start:end])
            else:
                ids.append(token_id)
        return ids + list(back)

    def trace(
        self, text: str | bytes, add_special: bool = True, parse_special: bool = False
    ) -> TokenTrace:
        """Encode a text and keep every stage: splits, spans, merges, and what lost at each step.

        text, add_special, parse_special: as for `encode`.
        Returns: a TokenTrace; its `ids` are those of `encode`, and `replay()` recomputes them.
        Raises: ParameterError as `encode`, and for a text of more than two million bytes.
        Source: as `encode`.
        """
        text = _valid_text(text)
        check_length(text)
        front, back = self._added_ids(add_special)
        parts = [
            (start, end, self._trace_part(text[start:end]) if token_id is None else token_id)
            for start, end, token_id in self._parts(text, parse_special)
        ]
        flags = {"add_special": add_special, "parse_special": parse_special}
        return make_trace(self, text, parts, self._word_prefix, front=front, back=back, **flags)

    def _added_ids(self, add_special: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What encode puts in front of and behind the ids of a text."""
        if not add_special or self.rules.ends == "never":
            return (), ()
        if self.rules.ends == "always":
            return (self._needed("bos"),), (self._needed("sep"),)
        front = (self.special.bos,) if self.rules.add_bos else ()
        back = (self.special.eos,) if self.rules.add_eos else ()
        return front, back

    def _needed(self, role: str) -> int:
        token_id = getattr(self.special, role)
        if token_id is None:
            raise ParameterError(
                f"encode: this model adds a {role.upper()} token, but the vocabulary has none; "
                "expected the key of its id, or add_special=False"
            )
        return token_id

    @property
    def _word_prefix(self) -> str:
        """What stands before every text between special tokens."""
        return " " if self.rules.prefix_words else ""

    def _parts(self, text: str, parse_special: bool) -> list[tuple[int, int, int | None]]:
        """(start, end, token id) of each special token and (start, end, None) of other text."""
        parts, at = [], 0
        for start, end, token_id in find_specials(text, self._specials, parse_special):
            parts += [(at, start, None), (start, end, token_id)]
            at = end
        parts.append((at, len(text), None))
        return [part for part in parts if part[0] < part[1]]

    def _trace_part(self, text: str) -> EncoderTrace:
        text = self._word_prefix + text
        if isinstance(self._encoder, BytePairEncoder):
            return trace_bpe(self._encoder, text, self.pre)
        if isinstance(self._encoder, SpmEncoder):
            return trace_spm(self._encoder, text, self._vocab)
        return self._encoder.trace(text)

    def render_chat(
        self,
        messages: Iterable[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        tools: list[Mapping[str, Any]] | None = None,
        template: str | None = None,
        name: str | None = None,
        now: datetime | None = None,
        variables: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> str:
        """Write a conversation as the text the model expects, by the file's chat template.

        messages: mappings with role and content; add_generation_prompt: end with the start of the
        answer; tools: JSON schemas; template: a jinja2 text instead of the file's; name: which of
        the file's templates; now: the date the template is told; variables: more names it may use,
        which may be given as keyword arguments too where no argument has that name.
        Raises: ParameterError for wrong arguments, no template, and what the template refuses;
        GGUFError for a bad template of the file, UnsupportedError for one that needs too much.
        Source: `apply_chat_template` of Hugging Face transformers.
        """
        text, place = choose_template(self.chat_templates, template, name, tools)
        roles = ("bos", "eos", "unk", "sep", "pad", "mask")
        ids = {role: getattr(self.special, role) for role in roles}
        specials = {f"{role}_token": self.token_text(i) for role, i in ids.items() if i is not None}
        prompt = bool(add_generation_prompt)
        if variables is not None and not isinstance(variables, Mapping):
            raise ParameterError(
                "render_chat: variables: expected a mapping of name to value, "
                f"got {type(variables).__name__}"
            )
        more = {**(variables or {}), **more}
        return render(text, place, messages, specials, prompt, tools, now, more)

    def decode_bytes(
        self, ids: Iterable[int], remove_special: bool = False, unparse_special: bool = True
    ) -> bytes:
        """Turn token ids into the bytes of their text.

        ids: token ids; remove_special: drop the BOS and EOS that encode adds; unparse_special:
        write control tokens as their text instead of nothing.
        Raises: ParameterError for an id outside the vocabulary.
        Source: `llama_vocab::impl::detokenize` in llama.cpp src/llama-vocab.cpp.
        """
        ids = self._checked_ids(ids)
        drop_space = self.rules.add_space_prefix
        if remove_special and self.rules.add_bos and ids[:1] == [self.special.bos]:
            ids, drop_space = ids[1:], False
        if remove_special and self.rules.add_eos and ids[-1:] == [self.special.eos]:
            ids = ids[:-1]
        pieces = [self._piece(token_id, unparse_special) for token_id in ids]
        if drop_space and pieces:
            pieces[0] = pieces[0].removeprefix(b" ")
        text = NO_TEXT.join(pieces)
        return _clean_spaces(text) if self.rules.clean_spaces else text

    def decode(
        self, ids: Iterable[int], remove_special: bool = False, unparse_special: bool = True
    ) -> str:
        """Turn token ids into text; bytes that are no UTF-8 become U+FFFD. As decode_bytes."""
        raw = self.decode_bytes(ids, remove_special, unparse_special)
        return raw.decode("utf-8", "replace")

    def piece(self, token_id: int, special: bool = False) -> bytes:
        """The bytes of one token in a text: b"" for control tokens, or their text with `special`.

        Raises: ParameterError for an id outside the vocabulary.
        Source: `llama_vocab::impl::token_to_piece` in llama.cpp src/llama-vocab.cpp.
        """
        return self._piece(*self._checked_ids([token_id]), special)

    def token_text(self, token_id: int) -> str:
        """The text of one token as the file has it, such as "▁the", "Ġthe" or "<0x0A>"."""
        return self._vocab.tokens[self._checked_ids([token_id])[0]]

    def attribute(self, token_id: int) -> TokenAttribute:
        """What one token is: normal, control, byte, …"""
        return TokenAttribute(int(self._vocab.attributes[self._checked_ids([token_id])[0]]))

    def _checked_ids(self, ids: Iterable[int]) -> list[int]:
        try:
            checked = list(map(index, ids))
        except TypeError:
            raise ParameterError(
                f"token ids: expected a sequence of integers, got {type(ids).__name__}"
            ) from None
        if checked and not (min(checked) >= 0 and max(checked) < self.n_vocab):
            at = next(i for i, value in enumerate(checked) if not 0 <= value < self.n_vocab)
            raise ParameterError(
                f"token ids: id {checked[at]} at index {at} is outside the vocabulary; "
                f"expected 0 to {self.n_vocab - 1} (n_vocab is {self.n_vocab})"
            )
        return checked

    def _piece(self, token_id: int, special: bool) -> bytes:
        if not special and token_id in self._silent:
            return NO_TEXT
        if token_id not in self._pieces:
            self._pieces[token_id] = self._make_piece(token_id)
        return self._pieces[token_id]

    def _make_piece(self, token_id: int) -> bytes:
        text, attribute = self._vocab.tokens[token_id], self.attribute(token_id)
        if self.rules.own_pieces:
            return self._encoder.normal_piece(text)
        if attribute & LITERAL:
            return text.encode("utf-8", "surrogateescape")
        if attribute & TokenAttribute.NORMAL:
            return self._encoder.normal_piece(text)
        if attribute & TokenAttribute.BYTE:
            return bytes([int(text[3:5], 16)])
        return NO_TEXT
