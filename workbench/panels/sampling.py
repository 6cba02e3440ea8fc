"""Sliders over the next token's distribution, and a text generated with them.

The prompt goes through the model once; a slider only runs the sampler chain on the logits kept
from it. Generation runs in a thread of its own, which looks for Stop before every token.
Results are drawn into Image and HTML widgets, so the next cell can drive and check the panel.

Leaves out: choosing another token to branch from.
"""

import io
import time
from collections.abc import Callable
from functools import wraps
from html import escape
from threading import Event, Lock, Thread

import ipywidgets as widgets
from matplotlib.figure import Figure

from ..analysis.generated_text import GeneratedText, generated_text
from ..analysis.next_token import NextToken, next_token
from ..generate import generate, prompt_ids
from ..model import Model, to_numpy
from ..plots.generated_text import generated_text_html
from ..plots.next_token import plot_next_token
from ..sampling import SamplerChain, SamplingParams

SECONDS_BETWEEN_DRAWS = 0.05  # of the text while it grows; the browser need not see every token

NARROW = {"description_width": "85px"}  # just enough for the longest name


def shown_in_panel(method: Callable) -> Callable:
    """Show an exception of a callback in the panel, where ipywidgets would drop it."""

    @wraps(method)
    def guarded(self: "SamplingPanel", *args, **kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self._show_error(error)

    return guarded


class SamplingPanel:
    """Controls for temperature, top_p, top_k, min_p and seed over bars, and a text to generate.

    model: from `load_model`. prompt: first text. params: first settings of the sliders.
    n_tokens: how many tokens Generate adds. n_top: how many bars.

    Controls are ipywidgets: temperature, top_p, top_k, min_p, seed, prompt, n_tokens (`.value`),
    generate_button and stop_button (`.click()`). Results: next_token, text, error.
    """

    def __init__(
        self,
        model: Model,
        prompt: str = "Once upon a time",
        params: SamplingParams | None = None,
        n_tokens: int = 60,
        n_top: int = 16,
    ) -> None:
        self._model, self._n_top = model, n_top
        self._logits = None
        self._stop, self._starting, self._thread = Event(), Lock(), None
        self.next_token: NextToken | None = None
        self.text: GeneratedText | None = None
        self.error: str | None = None
        self._make_controls(params or SamplingParams(), prompt, n_tokens)
        self.widget = self._lay_out()
        self._connect()
        self._read_prompt()

    @property
    def params(self) -> SamplingParams:
        """The settings that the sliders show."""
        return SamplingParams(
            temperature=round(self.temperature.value, 4),
            top_k=self.top_k.value,
            top_p=round(self.top_p.value, 4),
            min_p=round(self.min_p.value, 4),
            seed=self.seed.value,
        )

    def generate(self, wait: bool = False) -> None:
        """Generate a text with the settings of this moment; wait: return only when it is there."""
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._stop.clear()
                job = (self.prompt.value, self.params, self.n_tokens.value)
                self._set_running(True)
                self._thread = Thread(target=self._run, args=job, daemon=True)
                self._thread.start()
        if wait:
            self._thread.join()

    def stop(self) -> None:
        """Stop generating before the next token."""
        self._stop.set()

    def summary(self) -> str:
        """The panel in a few lines of text: settings, distribution, text, error."""
        p = self.params
        lines = [
            f"prompt {self.prompt.value!r}",
            f"temperature {p.temperature:g}, top_k {p.top_k}, top_p {p.top_p:g}, "
            f"min_p {p.min_p:g}, seed {p.seed}",
        ]
        if self.next_token is not None:
            lines += _distribution_lines(self.next_token)
        if self.text is not None:
            lines += [f"{self.text.n_tokens} tokens, stop {self.text.stop}: {self.text.text!r}"]
        if self.error is not None:
            lines += [f"error: {self.error}"]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"SamplingPanel(prompt={self.prompt.value!r}, params={self.params!r})"

    def _repr_mimebundle_(self, **kwargs) -> dict:
        # the widget's own text would spell out its picture's bytes, other ones on each machine
        return {**self.widget._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    def _make_controls(self, params: SamplingParams, prompt: str, n_tokens: int) -> None:
        most = max(min(200, self._model.config.n_vocab), params.top_k)
        self.temperature = _slider("temperature", params.temperature, 2.0, 0.05)
        self.top_k = widgets.IntSlider(
            params.top_k, min=0, max=most, description="top_k", style=NARROW, tooltip="0: all"
        )
        self.top_p = _slider("top_p", params.top_p, 1.0, 0.01)
        self.min_p = _slider("min_p", params.min_p, 1.0, 0.01)
        self.seed = widgets.BoundedIntText(
            params.seed, min=0, max=2**32 - 1, description="seed", style=NARROW
        )
        self.n_tokens = widgets.BoundedIntText(
            n_tokens, min=1, max=10**6, description="n_tokens", style=NARROW
        )
        self.prompt = widgets.Text(
            prompt,
            description="prompt",
            continuous_update=False,
            style=NARROW,
            layout={"width": "98%"},
        )
        self.generate_button = widgets.Button(description="Generate", button_style="primary")
        self.stop_button = widgets.Button(description="Stop", disabled=True)

    def _lay_out(self) -> widgets.VBox:
        self.bars = widgets.Image(format="png", layout={"max_width": "100%"})
        self.stages, self.text_view = widgets.HTML(), widgets.HTML()
        self.message = widgets.HTML()
        controls = widgets.VBox(
            [self.temperature, self.top_k, self.top_p, self.min_p, self.seed, self.n_tokens],
            layout={"flex": "0 0 auto"},
        )
        buttons = widgets.HBox([self.generate_button, self.stop_button])
        left = widgets.VBox([controls, buttons], layout={"flex": "0 0 auto"})
        row = widgets.HBox([left, self.bars], layout={"flex_flow": "row wrap"})
        return widgets.VBox([self.prompt, row, self.stages, self.text_view, self.message])

    def _connect(self) -> None:
        self.prompt.observe(self._read_prompt, "value")
        for control in (self.temperature, self.top_k, self.top_p, self.min_p):
            control.observe(self._redraw, "value")
        self.generate_button.on_click(lambda button: self.generate())
        self.stop_button.on_click(lambda button: self.stop())

    @shown_in_panel
    def _read_prompt(self, change: dict | None = None) -> None:
        self._logits = self.next_token = None
        ids = prompt_ids(self._model.tokenizer, self.prompt.value)
        cache = self._model.new_cache(n_ctx=min(len(ids), self._model.config.n_ctx_train))
        self._logits = to_numpy(self._model.forward(ids, cache, last_only=True))[-1]
        self._history = ids
        self._redraw()

    @shown_in_panel
    def _redraw(self, change: dict | None = None) -> None:
        if self._logits is None:  # the prompt could not be read; its error stands in the panel
            return
        chain = SamplerChain(self.params)
        self.next_token = next_token(
            self._logits, chain, self._model.tokenizer, self._n_top, self._history
        )
        self.bars.value = bars_png(self.next_token)
        sentences = "<br>".join(map(escape, self.next_token.effects))
        self.stages.value = f'<div style="line-height:1.5">{sentences}</div>'
        self._clear_error()

    @shown_in_panel
    def _run(self, prompt: str, params: SamplingParams, n_tokens: int) -> None:
        steps, drawn = [], 0.0
        try:
            self._clear_error()
            for step in generate(self._model, prompt, params, n_tokens):
                steps.append(step)
                if time.monotonic() - drawn > SECONDS_BETWEEN_DRAWS:
                    self._show_text(generated_text(steps, prompt))
                    drawn = time.monotonic()
                if self._stop.is_set():
                    break
        finally:
            self._show_text(generated_text(steps, prompt))
            self._set_running(False)

    def _show_text(self, text: GeneratedText) -> None:
        self.text = text
        self.text_view.value = generated_text_html(text)

    def _set_running(self, running: bool) -> None:
        self.generate_button.disabled, self.stop_button.disabled = running, not running

    def _show_error(self, error: Exception) -> None:
        self.error = str(error) or type(error).__name__
        self.message.value = (
            '<div style="border-left:4px solid #d55e00;padding-left:8px">'
            f"<b>{type(error).__name__}</b>: {escape(self.error)}</div>"
        )

    def _clear_error(self) -> None:
        self.error, self.message.value = None, ""


def bars_png(result: NextToken, dpi: int = 90) -> bytes:
    """The bar chart of a NextToken as the bytes of a PNG."""
    height = 0.9 + 0.24 * len(result.ids)  # inches
    figure = Figure(figsize=(5.6, height), dpi=dpi)
    # fixed margins: a layout engine draws everything twice, and a slider must not wait for that
    ax = figure.add_axes((0.25, 0.5 / height, 0.73, 1 - 0.85 / height))
    plot_next_token(result, ax)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _slider(name: str, value: float, top: float, step: float) -> widgets.FloatSlider:
    return widgets.FloatSlider(
        value,
        min=0.0,
        max=max(top, value),
        step=step,
        description=name,
        readout_format=".2f",
        style=NARROW,
    )


def _distribution_lines(result: NextToken) -> list[str]:
    best = (
        f"{piece} {before:.3f} -> {after:.3f}"
        for piece, before, after in zip(
            result.pieces[:3], result.probs_before, result.probs_after, strict=False
        )
    )
    return [
        f"{result.n_kept} of {result.n_vocab} tokens left, entropy "
        f"{result.entropy_before:.2f} -> {result.entropy_after:.2f} nats",
        f"best: {', '.join(best)}",
    ]
