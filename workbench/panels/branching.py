"""A generated text as a row of buttons, each of them a place to branch from.

    Once upon a time │ there │ was │ a │ little │ girl │        click: what else could stand here?
                                   └── ␣big 0.09  ␣boy 0.04     click: go on from there instead

The prompt and what is kept of the text stay in the KV cache: only tokens that it lacks go through
the model. Source: the token probabilities of mikupad (https://github.com/lmg-anon/mikupad).
Leaves out: the branches left behind, which are forgotten.
"""

from collections.abc import Callable, Sequence
from functools import partial

import ipywidgets as widgets

from ..analysis.generated_text import GeneratedText
from ..plots.generated_text import probability_colours

MOST_BUTTONS = 300  # a browser slows down with many more; the text before them is plain
LONGEST = 40  # characters on a button


class TokenButtons:
    """Buttons in lines, each on the colour of its probability.

    clicked: called with the button's number. gap: pixels between two of them. `buttons` are those
    shown now.
    """

    def __init__(self, clicked: Callable[[int], None], gap: int = 0) -> None:
        self._clicked = clicked
        self._made: list[widgets.Button] = []
        self._styles: dict[int, widgets.ButtonStyle] = {}
        # a flex box centres the text, which JupyterLab sets for higher buttons
        centred = {"display": "flex", "align_items": "center", "justify_content": "center"}
        size = {"width": "auto", "height": "24px", "margin": f"1px {gap}px 1px 0"}
        shape = {**size, **centred, "padding": "0 1px"}
        self._plain = widgets.Layout(**shape, border="2px solid transparent")
        self._framed = widgets.Layout(**shape, border="2px solid #d55e00")
        self._line_break = widgets.Box(layout={"width": "100%", "height": "0"})
        self.buttons: list[widgets.Button] = []
        self.widget = widgets.Box(layout={"flex_flow": "row wrap", "align_items": "center"})

    def show(
        self,
        texts: Sequence[str],
        probs: Sequence[float],
        tooltips: Sequence[str],
        framed: int | None = None,
    ) -> None:
        """Show one button for each text; framed: the number of the one with a frame."""
        while len(self._made) < len(texts):
            button = widgets.Button(layout=self._plain)
            button.on_click(partial(self._on_click, len(self._made)))
            self._made.append(button)
        self.buttons = self._made[: len(texts)]
        children = []
        for button, text, p, tooltip in zip(self.buttons, texts, probs, tooltips, strict=True):
            button.description, button.tooltip = on_button(text), tooltip
            button.style = self._style(p)
            children.append(button)
            if "\n" in text:
                children.append(self._line_break)
        self.frame(framed)
        self.widget.children = children

    def frame(self, number: int | None) -> None:
        """Put the frame around one button, or none."""
        for i, button in enumerate(self.buttons):
            button.layout = self._framed if i == number else self._plain

    def _on_click(self, number: int, button: widgets.Button) -> None:
        self._clicked(number)

    def _style(self, p: float) -> widgets.ButtonStyle:
        tenth = round(10 * float(p))
        if tenth not in self._styles:
            back, fore = probability_colours(tenth / 10)
            self._styles[tenth] = widgets.ButtonStyle(button_color=back, text_color=fore)
        return self._styles[tenth]


def on_button(text: str) -> str:
    """A token's text as a button shows it: its spaces kept, a line break as ↵."""
    shown = "".join("↵" if c == "\n" else "\u00a0" if c == " " else c for c in text)
    shown = shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"
    return shown or "\u00a0"


def show_text(buttons: TokenButtons, text: GeneratedText, pieces: Sequence[str], framed) -> int:
    """The last tokens of a text on buttons; returns how many before them have none.

    pieces: what stands on the button of a token without characters of its own.
    """
    first = max(0, text.n_tokens - MOST_BUTTONS)
    shown = [t or piece for t, piece in zip(text.texts, pieces, strict=True)][first:]
    ids, probs = text.token_ids[first:], text.probs[first:]
    tooltips = [f"token {i}, probability {p:.3f}" for i, p in zip(ids, probs, strict=True)]
    framed = None if framed is None or framed < first else framed - first
    buttons.show(shown, probs, tooltips, framed)
    return first
