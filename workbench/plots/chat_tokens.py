"""A rendered conversation as HTML: every token a box, special tokens in a colour of their own.

Orange stands out from both greys for colour-blind readers too, and special tokens are framed.
Source: colours of Okabe and Ito. Left out: computing, which `analysis.chat_tokens` does.
"""

from html import escape

from ..analysis.chat_tokens import ChatToken, ChatTokens

__all__ = ["chat_tokens_html"]

SPECIAL = "background:#e69f00;color:#000;outline:1px solid #000;border-radius:2px"
PLAIN = ("background:#e8e8e8;color:#000", "background:#d0d0d0;color:#000")  # in turn
END_OF_LINE = '<span style="opacity:.5">↵</span><br>'


def chat_tokens_html(result: ChatTokens) -> str:
    """The text with a box a token; the id, and whether it is special, in each tooltip.

    result: of `analysis.chat_tokens`. Everything that the template wrote is escaped.
    """
    boxes = "".join(_box(token, PLAIN[i % 2]) for i, token in enumerate(result.tokens))
    return (
        '<div style="white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.7;'
        f'font-family:monospace">{boxes}</div>'
        f'<div style="font-size:85%;margin-top:4px">{len(result.tokens)} tokens, '
        f'<span style="{SPECIAL}">{result.n_special} special</span>; {escape(result.bos_note)}'
        "</div>"
    )


def _box(token: ChatToken, plain: str) -> str:
    title = f"token {token.token_id}{', special' if token.special else ''}"
    text = escape(token.text).replace("\n", END_OF_LINE)
    return f'<span title="{title}" style="{SPECIAL if token.special else plain}">{text}</span>'
