"""A rendered conversation as tokens: which are special, which are text, and what BOS does.

    <s>  [INST]  ▁Hi  [/INST]        add_special=False, parse_special=True
    ^^^  ^^^^^^       ^^^^^^^        special

The template has written what the model wants, BOS included, so nothing is added here. llama.cpp's
chat takes a BOS that the template wrote off the text and lets the tokenizer add it, if the
tokenizer adds one; what differs then is said in `bos_note`.

Source: `common_chat_template` in llama.cpp common/chat.cpp.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..tokenizer import Tokenizer

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ChatToken", "ChatTokens", "chat_tokens"]


@dataclass(frozen=True, slots=True)
class ChatToken:
    """One token: its id, its bytes, characters start..end of the text, and if it is special."""

    token_id: int
    piece: bytes
    start: int
    end: int
    special: bool

    @property
    def text(self) -> str:
        """The piece as text; bytes that are no character alone as \\xe2."""
        return self.piece.decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class ChatTokens:
    """A rendered conversation and its tokens.

    text: what the template made; tokens: in order; n_bos: BOS tokens in front; adds_bos: whether
    the tokenizer puts one in front of other texts.
    """

    text: str
    tokens: tuple[ChatToken, ...]
    n_bos: int
    adds_bos: bool

    @property
    def ids(self) -> list[int]:
        """The token ids, ready for the model."""
        return [token.token_id for token in self.tokens]

    @property
    def n_special(self) -> int:
        """How many tokens are special."""
        return sum(token.special for token in self.tokens)

    @property
    def bos_note(self) -> str:
        """What to know about BOS, in one sentence."""
        if self.n_bos > 1:
            return f"{self.n_bos} BOS tokens are in front; expected one at most"
        if self.n_bos and self.adds_bos:
            return "the template writes BOS; encode(add_special=True) would add a second one"
        if self.n_bos:
            return "the template writes BOS, which the tokenizer alone would not add"
        if self.adds_bos:
            return "the template writes no BOS, but the tokenizer adds one to other texts"
        return "no BOS, neither from the template nor from the tokenizer"

    def to_frame(self) -> "DataFrame":
        """One row a token: id, text, start, end, special."""
        from pandas import DataFrame  # slow to import

        names = ("token_id", "text", "start", "end", "special")
        return DataFrame({name: [getattr(t, name) for t in self.tokens] for name in names})

    def __repr__(self) -> str:
        return f"ChatTokens({len(self.tokens)} tokens, {self.n_special} special; {self.bos_note})"


def chat_tokens(tokenizer: Tokenizer, text: str) -> ChatTokens:
    """Tokenize what `Tokenizer.render_chat` made.

    Returns: ChatTokens. Raises: ParameterError as `Tokenizer.trace`, which finds the places.
    """
    traced = tokenizer.trace(text, add_special=False, parse_special=True).tokens
    tokens = tuple(
        ChatToken(t.token_id, t.piece, t.span.start, t.span.end, t.how == "special") for t in traced
    )
    other = (i for i, token in enumerate(tokens) if token.token_id != tokenizer.bos_id)
    return ChatTokens(text, tokens, next(other, len(tokens)), tokenizer.add_bos)
