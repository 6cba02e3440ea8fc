"""Sliders over the next token's distribution, and a text generated with them that can branch.

    prompt
    sliders            bars: the distribution before and after the samplers
    stage strip        what each sampler removed
    generated text     a click on a token: its distribution, and what else could stand there

A text goes through the model once; a slider only runs the sampler chain on the logits kept from
it. Generation runs in a thread of its own, which looks for Stop before every token; a slider moved
meanwhile redraws the bars and counts from the next text on.
Results are drawn into Image, HTML and Button widgets, so the next cell can drive and check them.

Leaves out: settings without a slider; those of `params` stay as they are given.
"""

import time
from dataclasses import replace

import ipywidgets as widgets
import numpy as np

from ..analysis.generated_text import GeneratedText, generated_text
from ..analysis.next_token import NextToken, display_piece, next_token
from ..analysis.stage_strip import StageRow, stage_strip
from ..analysis.token_tree import PrefixReader, continued
from ..errors import ParameterError
from ..generate import Step, prompt_ids
from ..model import Model
from ..plots.generated_text import generated_text_html
from ..plots.next_token_picture import NextTokenPicture
from ..plots.stage_strip import stage_strip_html
from ..sampling import SamplerChain, SamplingParams
from .branching import TokenButtons, show_text
from .controls import number_field, slider
from .running import Job, error_html, error_text, shown_in_panel
from .sampling_words import (
    SLIDERS,
    WRITING,
    distribution_lines,
    note_html,
    settings_line,
    start_html,
)

SECONDS_BETWEEN_DRAWS = 0.05  # of the text while it grows; the browser need not see every token
N_ALTERNATIVES = 8

NARROW = {"description_width": "104px"}  # just enough for the longest name


class SamplingPanel:
    """Controls of the samplers over bars and stages, and a text to generate and to branch.

    model: from `load_model`. prompt: first text. params: first settings of the sliders, and all
    settings that have none. n_tokens: how many tokens Generate adds. n_top: how many bars.

    Controls are ipywidgets: temperature, top_k, top_p, min_p, typ_p, penalty_repeat,
    penalty_last_n, seed, prompt, n_tokens (`.value`), generate_button, stop_button, and the lists
    token_buttons and alternative_buttons (`.click()`).
    Results: next_token, stage_rows, text, place, n_reused, error.
    """

    def __init__(
        self,
        model: Model,
        prompt: str = "Once upon a time",
        params: SamplingParams | None = None,
        n_tokens: int = 60,
        n_top: int = 12,
    ) -> None:
        self._model, self._n_top = model, n_top
        self._given = params or SamplingParams()
        self._reader, self._job = PrefixReader(model), Job(self._set_running)
        self._picture = NextTokenPicture()
        self._ids: list[int] = []
        self._steps: list[Step] = []
        self._logits: np.ndarray | None = None
        self.next_token: NextToken | None = None
        self.stage_rows: tuple[StageRow, ...] = ()
        self.text: GeneratedText | None = None
        self.place, self.n_reused = 0, 0
        self.error: str | None = None
        self._make_controls(prompt, n_tokens)
        self.widget = self._lay_out()
        self._connect()
        self._read_prompt()

    @property
    def params(self) -> SamplingParams:
        """The settings that the sliders show, and the given ones of those that have none."""
        values = {name: getattr(self, name).value for name in (*SLIDERS, "seed")}
        return replace(self._given, **{k: _plain(v) for k, v in values.items()})

    @property
    def token_buttons(self) -> list[widgets.Button]:
        """A button for each token of the text (the last ones of a very long text)."""
        return self._tokens.buttons

    @property
    def alternative_buttons(self) -> list[widgets.Button]:
        """A button for each token that could stand at the chosen place."""
        return self._alternatives.buttons

    @shown_in_panel
    def generate(self, wait: bool = False) -> None:
        """Write a text after the prompt with the settings of this moment.

        While one is being written this does nothing. wait: return only when the text is there.
        """
        self._start(None, wait)

    def stop(self) -> None:
        """Stop generating before the next token."""
        self._job.stop()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the text is there, or at most so many seconds."""
        self._job.wait(seconds)

    @property
    def running(self) -> bool:
        """True while a text is being written."""
        return self._job.running

    @shown_in_panel
    def choose(self, place: int) -> None:
        """Show what could stand at a place of the text: 0 is its first token."""
        self._demand("place", place, max(1, len(self._steps)))
        self._look_at(int(place))

    @shown_in_panel
    def branch(self, token_id: int, wait: bool = False) -> None:
        """Put another token at the chosen place and go on from there; the tokens before it stay.

        wait: return only when the text is there.
        """
        self._demand("branch", token_id, self._model.config.n_vocab)
        self._start(int(token_id), wait)

    def summary(self) -> str:
        """The panel in a few lines of text: settings, place, distribution, text, error."""
        lines = [f"prompt {self.prompt.value!r}", settings_line(self.params)]
        if self.place:
            lines.append(f"at place {self.place} of the text, {self.n_reused} positions reused")
        if self.next_token is not None:
            lines += distribution_lines(self.next_token)
        if self.text is not None:
            lines += [f"{self.text.n_tokens} tokens, stop {self.text.stop}: {self.text.text!r}"]
        if self.error is not None:
            lines += [f"error: {self.error}"]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"SamplingPanel(prompt={self.prompt.value!r}, {settings_line(self.params)})"

    def _repr_mimebundle_(self, **kwargs) -> dict:
        # the widget's own text would spell out its picture's bytes, other ones on each machine
        return {**self.widget._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    def _make_controls(self, prompt: str, n_tokens: int) -> None:
        refused = self._show_error
        for name, top in SLIDERS.items():
            top = min(top, self._model.config.n_vocab) if name == "top_k" else top
            setattr(self, name, slider(name, getattr(self._given, name), top, NARROW, refused))
        field = {"style": {"description_width": "60px"}, "refused": refused}
        self.seed = number_field("seed", self._given.seed, 0, 2**32 - 1, **field)
        self.n_tokens = number_field("n_tokens", n_tokens, 1, 10**6, **field)
        self.seed.layout.width = self.n_tokens.layout.width = "148px"
        wide = {"style": NARROW, "layout": {"width": "98%"}, "continuous_update": False}
        self.prompt = widgets.Text(prompt, description="prompt", **wide)
        self.generate_button = widgets.Button(description="Generate", button_style="primary")
        self.stop_button = widgets.Button(description="Stop", disabled=True)

    def _lay_out(self) -> widgets.VBox:
        self.bars = widgets.Image(format="png", layout={"max_width": "100%"})
        self.stages, self.text_view = widgets.HTML(), widgets.HTML()
        self.message, self.note = widgets.HTML(), widgets.HTML()
        self._tokens = TokenButtons(self._chosen)
        self._alternatives = TokenButtons(self._taken, gap=4)
        buttons = widgets.HBox([self.generate_button, self.stop_button])
        sliders = [getattr(self, name) for name in SLIDERS]
        left = widgets.VBox([*sliders, widgets.HBox([self.seed, self.n_tokens]), buttons])
        left.layout.flex = "0 0 auto"
        row = widgets.HBox([left, self.bars], layout={"flex_flow": "row wrap"})
        below = [self.text_view, self._tokens.widget, self.note, self._alternatives.widget]
        return widgets.VBox([self.prompt, row, self.stages, self.message, *below])

    def _connect(self) -> None:
        self.prompt.observe(self._read_prompt, "value")
        for name in SLIDERS:
            getattr(self, name).observe(self._redraw, "value")
        self.generate_button.on_click(lambda button: self.generate())
        self.stop_button.on_click(lambda button: self.stop())

    @shown_in_panel
    def _read_prompt(self, change: dict | None = None) -> None:
        self._job.stop()  # a text after another prompt ends here
        self._job.wait()
        self._logits = self.next_token = self.text = None
        self._ids, self._steps = [], []
        self.place, self.text_view.value = 0, ""
        self._tokens.show([], [], [])
        self._alternatives.show([], [], [])
        self._ids = prompt_ids(self._model.tokenizer, self.prompt.value)
        self._look_at(0)

    def _look_at(self, place: int) -> None:
        """Show the distribution at a place of the text."""
        self._logits = None
        self.place, self._history = place, self._ids_before(place)
        self._logits = self._reader.logits_after(self._history)
        self.n_reused = self._reader.n_reused
        self._tokens.frame(place - len(self._steps) + len(self.token_buttons))
        self._redraw()
        self._show_alternatives()

    def _ids_before(self, place: int) -> list[int]:
        return [*self._ids, *(step.token_id for step in self._steps[:place])]

    @shown_in_panel
    def _redraw(self, change: dict | None = None) -> None:
        if self._logits is None:  # the prompt could not be read; its error stands in the panel
            return
        chain = SamplerChain(self.params, tokenizer=self._model.tokenizer)
        tokenizer, history = self._model.tokenizer, self._history
        self.next_token = next_token(self._logits, chain, tokenizer, self._n_top, history)
        self.stage_rows = stage_strip(chain.explain(self._logits, history), tokenizer)
        self.bars.value = self._picture.png(self.next_token)
        self.stages.value = stage_strip_html(self.stage_rows)
        self._clear_error()

    def _demand(self, what: str, number: int, n: int) -> None:
        """A whole number below n, and no text that is still growing."""
        if self._job.running:
            raise ParameterError(f"{what}: the text is still being written; press Stop first")
        if not isinstance(number, int | np.integer) or not 0 <= number < n:
            raise ParameterError(
                f"{what}: no such token; expected a whole number from 0 to {n - 1}, got {number!r}"
            )

    def _start(self, first: int | None, wait: bool) -> None:
        if not self._job.running:
            place = 0 if first is None else self.place
            if self._logits is None or place != self.place:
                self._ids = prompt_ids(self._model.tokenizer, self.prompt.value)
                self._look_at(place)
            kept = self._steps[:place]
            self._job.start(self._write, kept, first, self.params, self.n_tokens.value)
        if wait:
            self._job.wait()

    @shown_in_panel
    def _write(
        self, kept: list[Step], first: int | None, params: SamplingParams, n_tokens: int
    ) -> None:
        self._clear_error()
        self._tokens.show([], [], [])
        self.note.value = WRITING
        self._steps, drawn = list(kept), 0.0
        chain = SamplerChain(params, tokenizer=self._model.tokenizer)
        ids = self._ids_before(len(kept))
        try:
            for step in continued(self._model, self._reader, ids, chain, n_tokens, first):
                self._steps.append(step)
                if time.monotonic() - drawn > SECONDS_BETWEEN_DRAWS:
                    self._show_text()
                    drawn = time.monotonic()
                if self._job.stopped:
                    break
        finally:
            self._show_text()
            self._show_buttons()

    def _show_text(self) -> None:
        self.text = generated_text(self._steps, self.prompt.value)
        self.text_view.value = generated_text_html(self.text)

    def _show_buttons(self) -> None:
        """Put the finished text on buttons; what has none stays as plain text before them."""
        pieces = [display_piece(self._model.tokenizer, step.token_id) for step in self._steps]
        first = show_text(self._tokens, self.text, pieces, self.place)
        self.text_view.value = start_html(self.text, first)
        self.note.value = note_html(self.place, self.text)

    def _show_alternatives(self) -> None:
        result, n = self.next_token, N_ALTERNATIVES
        pieces, probs = result.pieces[:n], result.probs_before[:n]
        texts = [f"{piece} {p:.2f}" for piece, p in zip(pieces, probs, strict=True)]
        tooltips = [f"go on with token {i} instead" for i in result.ids[:n]]
        self._alternatives.show(texts, probs, tooltips)
        self.note.value = note_html(self.place, self.text)

    def _chosen(self, number: int) -> None:
        self.choose(number + len(self._steps) - len(self.token_buttons))

    def _taken(self, number: int) -> None:
        self.branch(int(self.next_token.ids[number]))

    def _set_running(self, running: bool) -> None:
        self.generate_button.disabled, self.stop_button.disabled = running, not running

    def _show_error(self, error: Exception) -> None:
        self.error, self.message.value = error_text(error), error_html(error)

    def _clear_error(self) -> None:
        self.error, self.message.value = None, ""


def _plain(value: float) -> float:
    """A slider's value without the last digits that steps of 0.01 leave."""
    return round(value, 4) if isinstance(value, float) else value
