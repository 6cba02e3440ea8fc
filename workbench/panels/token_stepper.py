"""A text, its tokens, and a slider over every merge between the two.

Typing a text traces it; the slider only looks into the trace. Shown are the pieces of the whole
text at that step, the pair that was merged last, the pairs that lost to it, and the tree of its
word. Results are drawn into Image and HTML widgets, so the next cell can drive and check the panel.

Leaves out: several tokenizers side by side, which `analysis` compares.
"""

import io
from html import escape

import ipywidgets as widgets
from matplotlib.figure import Figure

from ..errors import ParameterError
from ..plots.token_trace import MAX_LEAVES, pieces_html, plot_merge_tree
from ..tokenizer import Tokenizer, TokenTrace, TraceSnapshot
from ..tokenizer.trace_steps import Candidate, Edge, WordTrace
from ..tokenizer.trace_text import lookups_text, step_text
from ..tokenizer.trace_tree import priority, shown, visible
from .running import error_html, error_text, shown_in_panel

__all__ = ["TokenStepper"]

MAX_CHARACTERS = 2000  # of a text whose every piece is a box on the screen
SHOWN_IDS, SHOWN_LOSERS = 40, 3
NARROW = {"description_width": "50px"}


class TokenStepper:
    """A text box and a slider over the steps that turn it into tokens.

    tokenizer: from `load_tokenizer`, or a model's. text: the first text. add_special,
    parse_special: as for `encode`. At the start all steps are done.

    Controls are ipywidgets: text, step, add_special, parse_special (`.value`). Results: trace,
    snapshot, word, error.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        text: str = "Once upon a time",
        add_special: bool = True,
        parse_special: bool = False,
    ) -> None:
        if not isinstance(tokenizer, Tokenizer):
            raise ParameterError(
                "TokenStepper: tokenizer cannot be traced; expected a Tokenizer, got "
                f"{type(tokenizer).__name__}; load one with load_tokenizer(gguf)"
            )
        _checked_text(text)
        self._tokenizer = tokenizer
        self.trace: TokenTrace | None = None
        self.snapshot: TraceSnapshot | None = None
        self.error: str | None = None
        self._make_controls(text, add_special, parse_special)
        self.widget = self._lay_out()
        self._connect()
        self._read_text()

    @property
    def word(self) -> WordTrace | None:
        """The word of the last step."""
        if self.snapshot is None or self.snapshot.word is None:
            return None
        return self.trace.words[self.snapshot.word]

    def summary(self) -> str:
        """The panel in a few lines of text: text, pieces, the last step and what lost, ids."""
        lines = [f"text {_short(self.text.value)!r}"]
        if self.snapshot is not None:
            pieces = _short(" ".join(shown(piece.symbol) for piece in self.snapshot.pieces), 400)
            lines += [f"pieces {pieces}", *_step_lines(self.snapshot, self.word)]
            lines.append(f"ids {_id_text(self.trace.ids)}")
        if self.error is not None:
            lines.append(f"error: {self.error}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"TokenStepper(text={_short(self.text.value)!r}, step={self.step.value})"

    def _repr_mimebundle_(self, **kwargs) -> dict:
        # the widget's own text would spell out its picture's bytes, other ones on each machine
        return {**self.widget._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    def _make_controls(self, text: str, add_special: bool, parse_special: bool) -> None:
        self.text = widgets.Text(
            text,
            description="text",
            continuous_update=False,
            style=NARROW,
            layout={"width": "98%"},
        )
        self.step = widgets.IntSlider(
            0, min=0, max=0, description="step", style=NARROW, layout={"width": "60%"}
        )
        self.add_special = widgets.Checkbox(bool(add_special), description="add_special")
        self.parse_special = widgets.Checkbox(bool(parse_special), description="parse_special")
        for box in (self.add_special, self.parse_special):
            box.indent, box.layout.width = False, "130px"

    def _lay_out(self) -> widgets.VBox:
        self.tree = widgets.Image(format="png", layout={"max_width": "100%"})
        self.pieces, self.details = widgets.HTML(), widgets.HTML()
        self.message = widgets.HTML()
        row = widgets.HBox(
            [self.step, self.add_special, self.parse_special], layout={"flex_flow": "row wrap"}
        )
        below = widgets.HBox([self.details, self.tree], layout={"flex_flow": "row wrap"})
        return widgets.VBox([self.text, row, self.pieces, below, self.message])

    def _connect(self) -> None:
        for control in (self.text, self.add_special, self.parse_special):
            control.observe(self._read_text, "value")
        self.step.observe(self._redraw, "value")

    @shown_in_panel
    def _read_text(self, change: dict | None = None) -> None:
        self.trace = self.snapshot = None
        text = _checked_text(self.text.value)
        trace = self._tokenizer.trace(text, self.add_special.value, self.parse_special.value)
        n_steps = sum(len(word.steps) for word in trace.words)
        self.step.max = self.step.value = n_steps  # observers find no trace and wait
        self.trace = trace
        self._redraw()

    @shown_in_panel
    def _redraw(self, change: dict | None = None) -> None:
        if self.trace is None:  # the text could not be traced; its error stands in the panel
            return
        self.snapshot = self.trace.snapshot(self.step.value)
        self.pieces.value = pieces_html(self.snapshot)
        self.details.value = _details_html(self.snapshot, self.word, self.trace.ids)
        self.tree.value = tree_png(self.word, self.snapshot.step_in_word)
        self.error, self.message.value = None, ""

    def _show_error(self, error: Exception) -> None:
        self.pieces.value, self.details.value, self.tree.value = "", "", b""
        self.error, self.message.value = error_text(error), error_html(error)


def _checked_text(text: str) -> str:
    if not isinstance(text, str):
        raise ParameterError(
            f"text: not a text; expected a str, got {type(text).__name__}; give one"
        )
    if len(text) > MAX_CHARACTERS:
        raise ParameterError(
            f"text: too long to step through; expected at most {MAX_CHARACTERS:,} characters, got "
            f"{len(text):,}; use tokenizer.trace(text)"
        )
    return text


def tree_png(word: WordTrace | None, n_steps: int, dpi: int = 90) -> bytes:
    """The merge tree of a word after n_steps of its steps, as a PNG; b"" where there is none."""
    if word is None or not hasattr(word.steps[0], "middle") or len(word.symbols) > MAX_LEAVES:
        return b""
    figure = Figure(figsize=(6.4, 2.6), dpi=dpi)
    # fixed margins: a layout engine draws everything twice, and a slider must not wait for that
    plot_merge_tree(word.tree(), figure.add_axes((0, 0, 1, 1)), n_steps)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


def _step_lines(
    snapshot: TraceSnapshot, word: WordTrace | None, n_losers: int = SHOWN_LOSERS
) -> list[str]:
    """How far we are, and what the last step did, as lines of text."""
    lines = [f"{snapshot.step} of {snapshot.n_steps} steps done"]
    if not snapshot.n_steps:
        lines = ["no steps: what stands between the special tokens is looked up as it is"]
    if snapshot.last is not None:
        lines.append(
            f"the last, in {_short(visible(word.text), 40)!r}: {step_text(snapshot.last, n_losers)}"
        )
    if word is not None and snapshot.step_in_word == len(word.steps):
        lines.append(f"looked up: {lookups_text(word)}")
    return lines


def _id_text(ids: list[int]) -> str:
    rest = f" … {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
    return " ".join(map(str, ids[:SHOWN_IDS])) + rest


def _details_html(snapshot: TraceSnapshot, word: WordTrace | None, ids: list[int]) -> str:
    lines = [*_step_lines(snapshot, word, 0), f"{len(ids)} ids: {_id_text(ids)}"]
    sentences = "<br>".join(map(escape, lines))
    return f'<div style="line-height:1.5">{sentences}</div>{_losers_html(snapshot)}'


def _losers_html(snapshot: TraceSnapshot) -> str:
    """The candidates that lost to the last step, as a table."""
    last = snapshot.last
    if last is None or not last.n_losers:
        return ""
    rows = [_loser_cells(loser) for loser in last.losers]
    if last.n_losers > len(last.losers):
        rows.append((f"… {last.n_losers - len(last.losers):,} more", "", ""))
    cells = "".join(
        f"<tr>{''.join(f'<td style=padding-right:1em>{escape(c)}</td>' for c in row)}</tr>"
        for row in rows
    )
    return f"<table><tr><th>lost</th><th></th><th>at</th></tr>{cells}</table>"


def _loser_cells(loser: Candidate | Edge | str) -> tuple[str, str, str]:
    if isinstance(loser, Candidate):
        pair = f"{shown(loser.left)} + {shown(loser.right)}"
        return pair, priority(loser), str(loser.start)
    if isinstance(loser, Edge):
        return shown(loser.symbol), f"total {loser.total:g}", f"{loser.start}..{loser.end}"
    return shown(loser), "", ""
