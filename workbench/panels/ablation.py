"""Sliders that silence attention heads, over the head's map and the next token it changes.

The prompt goes through the whole model once; a slider sends it through again without the heads.
Results are drawn into Image and HTML widgets, so the next cell can drive and check the panel.

Leaves out: silencing heads of several layers at once; `ActivationTrace.ablate_heads` can.
"""

import io

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from ..analysis.ablation import NextTokenChange, logits_without, next_token_change
from ..analysis.attention import AttentionMaps, attention_maps
from ..analysis.next_token import display_piece
from ..errors import ParameterError
from ..generate import prompt_ids
from ..model import ActivationTrace, Model, to_numpy
from ..plots.attention import plot_attention_head, plot_next_token_change
from .running import error_html, error_text, shown_in_panel

NARROW = {"description_width": "70px"}
MOST_TOKENS = 128


class AblationPanel:
    """Choose a layer and a head, and see where it looks and what is said without it.

    model: from `load_model`. prompt: first text. layer, head: first choice. n_top: how many bars.

    Controls are ipywidgets: layer, head, to ("zero" or "mean"), all_heads, prompt (`.value`).
    Results: change, maps, error.
    """

    def __init__(
        self,
        model: Model,
        prompt: str = "Once upon a time",
        layer: int = 0,
        head: int = 0,
        n_top: int = 10,
    ) -> None:
        self._model, self._n_top = model, n_top
        self._ids: list[int] = []
        self._logits: np.ndarray | None = None
        self.maps: AttentionMaps | None = None
        self.change: NextTokenChange | None = None
        self.error: str | None = None
        self._make_controls(prompt, layer, head)
        self.widget = self._lay_out()
        self._connect()
        self._read_prompt()

    @property
    def heads(self) -> list[int]:
        """The heads that are silenced."""
        n_head = len(self.maps.maps[self.layer.value]) if self.maps else 0
        return list(range(n_head)) if self.all_heads.value else [self.head.value]

    def summary(self) -> str:
        """The panel in a few lines of text: choice, what it changes, error."""
        which = "all heads" if self.all_heads.value else f"head {self.head.value}"
        lines = [f"{self.prompt.value!r} without {which} of layer {self.layer.value}"]
        lines[0] += " (mean)" if self.to.value == "mean" else ""
        if self.change is not None:
            change = self.change
            lines.append(f"KL {change.kl:.3f} nats, best {change.best_before} -> "
                         f"{change.best_after}")  # fmt: skip
            table = zip(change.pieces, change.probs_before, change.probs_after, strict=True)
            lines.append(", ".join(f"{p} {a:.2f} -> {b:.2f}" for p, a, b in list(table)[:3]))
        if self.error is not None:
            lines.append(f"error: {self.error}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        which = f"layer={self.layer.value}, head={self.head.value}"
        return f"AblationPanel(prompt={self.prompt.value!r}, {which})"

    def _repr_mimebundle_(self, **kwargs) -> dict:
        # the widget's own text would spell out its picture's bytes, other ones on each machine
        return {**self.widget._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    def _make_controls(self, prompt: str, layer: int, head: int) -> None:
        config = self._model.config
        self.layer, self.head = (
            widgets.IntSlider(
                value, min=0, max=n - 1, description=name, style=NARROW, continuous_update=False
            )
            for name, value, n in (("layer", layer, config.n_layer), ("head", head, config.n_head))
        )
        choices = {"value": "zero", "description": "replace by", "style": NARROW}
        self.to = widgets.Dropdown(options=["zero", "mean"], **choices)
        self.all_heads = widgets.Checkbox(False, description="all heads", style=NARROW)
        text = {"continuous_update": False, "style": NARROW, "layout": {"width": "98%"}}
        self.prompt = widgets.Text(prompt, description="prompt", **text)

    def _lay_out(self) -> widgets.VBox:
        self.picture = widgets.Image(format="png", layout={"max_width": "100%"})
        self.message = widgets.HTML()
        left = widgets.VBox([self.layer, self.head, self.all_heads, self.to])
        left.layout.flex = "0 0 auto"
        row = widgets.HBox([left, self.picture], layout={"flex_flow": "row wrap"})
        return widgets.VBox([self.prompt, row, self.message])

    def _connect(self) -> None:
        self.prompt.observe(self._read_prompt, "value")
        for control in (self.layer, self.head, self.all_heads, self.to):
            control.observe(self._redraw, "value")

    @shown_in_panel
    def _read_prompt(self, event: dict | None = None) -> None:
        self._logits = self.maps = self.change = None
        self._ids = prompt_ids(self._model.tokenizer, self.prompt.value)
        if len(self._ids) > MOST_TOKENS:
            raise ParameterError(
                f"prompt: too long for a map with a row for each token; expected at most "
                f"{MOST_TOKENS} tokens, got {len(self._ids)}; shorten it"
            )
        trace = ActivationTrace(["kq_soft_max-*"])
        cache = self._model.new_cache(n_ctx=len(self._ids), type_k="f32", type_v="f32")
        logits = self._model.forward(self._ids, cache, trace=trace, last_only=True)
        tokenizer = self._model.tokenizer
        self.maps = attention_maps(trace, [display_piece(tokenizer, i) for i in self._ids])
        self._logits = to_numpy(logits)[-1]
        self._redraw()

    @shown_in_panel
    def _redraw(self, event: dict | None = None) -> None:
        if self._logits is None:  # the prompt could not be read; its error stands in the panel
            return
        layer, head = self.layer.value, self.head.value
        after = logits_without(self._model, self._ids, layer, self.heads, self.to.value)
        self.change = next_token_change(self._logits, after, self._model.tokenizer, self._n_top)
        self.picture.value = head_png(self.maps, layer, head, self.change)
        self.error, self.message.value = None, ""

    def _show_error(self, error: Exception) -> None:
        self.error, self.message.value = error_text(error), error_html(error)


def head_png(
    maps: AttentionMaps, layer: int, head: int, change: NextTokenChange, dpi: int = 80
) -> bytes:
    """A head's map beside the next token without it, as the bytes of a PNG."""
    figure = Figure(figsize=(9.6, 4), dpi=dpi, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    plot_attention_head(maps, layer, head, left)
    plot_next_token_change(change, right)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
