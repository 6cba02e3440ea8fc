"""Sliders over what a text's tokens look at in the KV cache, and what a smaller cache would lose.

    layer, head, step    a map of the step, layers down and positions across; one head's shares as
                         bars; the text on the colour of what that head gives to each token
    budget               positions that may stay: the first few and the last ones; what falls on
                         the others is orange, and summed up

Nothing goes through a model here: all comes from the maps that were kept, so a slider answers at
once. Results are drawn into Image and HTML widgets, so the next cell can drive and check the panel.

Leaves out: what losing positions does to the text; for that, run the model without them.
"""

import ipywidgets as widgets
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..analysis.attention import AttentionMaps
from ..analysis.attention_window import N_SINK, attention_lost, kept_positions
from ..errors import ParameterError
from ..plots.kv_step import plot_head_shares, plot_layer_shares
from ..plots.kv_story import story_html
from ..plots.next_token_picture import png_of
from .running import error_html, error_text, shown_in_panel

NARROW = {"description_width": "52px"}
N_LOOKS = 3  # positions that the summary names


class KVCachePanel:
    """Choose a layer, a head and a step, and see which positions of the cache it looks at.

    maps: from `analysis.attention_maps`, of a whole text. layer, head: first choice. step: the
    position of the token that looks, by default the last. budget: positions that may stay, by
    default all.

    Controls are ipywidgets: layer, head, step, budget (`.value`). Results: shares (of the head at
    the step), kept (which of them stay), lost (share of all heads' attention, over all steps, that
    falls on positions gone), error.
    Raises: ParameterError for a choice that is not there.
    """

    def __init__(
        self,
        maps: AttentionMaps,
        layer: int = 0,
        head: int = 0,
        step: int | None = None,
        budget: int | None = None,
    ) -> None:
        self._maps, self._layers = maps, sorted(maps.maps)
        n_tokens = len(maps.pieces)
        n_head = min(len(probs) for probs in maps.maps.values())
        self.shares = self.kept = None
        self.lost: float | None = None
        self.error: str | None = None
        self.layer = _slider("layer", layer, 0, self._layers[-1])
        self.head = _slider("head", head, 0, n_head - 1)
        self.step = _slider("step", n_tokens - 1 if step is None else step, 0, n_tokens - 1)
        most = max(n_tokens, N_SINK + 1)
        self.budget = _slider("budget", most if budget is None else budget, N_SINK + 1, most)
        self.widget = self._lay_out()
        for control in (self.layer, self.head, self.step, self.budget):
            control.observe(self._redraw, "value")
        self._redraw()

    def summary(self) -> str:
        """The panel in a few lines of text: choice, and what the head looks at."""
        pieces, step = self._maps.pieces, self.step.value
        lines = [f"layer {self.layer.value}, head {self.head.value}, step {step}: {pieces[step]}"]
        if self.shares is not None:
            best = np.argsort(-self.shares, kind="stable")[:N_LOOKS]
            looks = (f"{pieces[i]} ({i}) {self.shares[i]:.2f}" for i in best)
            lines += [f"looks at {', '.join(looks)}", self._loss_line()]
        if self.error is not None:
            lines.append(f"error: {self.error}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        names = ("layer", "head", "step", "budget")
        return f"KVCachePanel({', '.join(f'{n}={getattr(self, n).value}' for n in names)})"

    def _repr_mimebundle_(self, **kwargs) -> dict:
        # the widget's own text would spell out its picture's bytes, other ones on each machine
        return {**self.widget._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    def _lay_out(self) -> widgets.VBox:
        self.picture = widgets.Image(format="png", layout={"max_width": "100%"})
        self.loss, self.story, self.message = (widgets.HTML() for _ in range(3))
        controls = [self.layer, self.head, self.step, self.budget]
        top = widgets.HBox(controls, layout={"flex_flow": "row wrap"})
        return widgets.VBox([top, self.picture, self.loss, self.story, self.message])

    @shown_in_panel
    def _redraw(self, event: dict | None = None) -> None:
        layer, head, step = self.layer.value, self.head.value, self.step.value
        if layer not in self._maps.maps:
            raise ParameterError(
                f"layer: no attention in layer {layer}; expected one of {self._layers}, got "
                f"{layer}; choose another"
            )
        if self.lost is None or event is None or event["owner"] is self.budget:
            self.lost = attention_lost(self._maps, self.budget.value)
        seen = {i: self._maps.maps[i][:, step, : step + 1] for i in self._layers}
        self.shares, self.kept = seen[layer][head], kept_positions(step + 1, self.budget.value)
        means = np.stack([seen[i].mean(axis=0) for i in self._layers])
        place = self._layers.index(layer)
        self.picture.value = step_png(means, place, self.shares, self.kept)
        self.loss.value = f'<div style="line-height:1.5">{self._loss_line()}</div>'
        self.story.value = story_html(self._maps.pieces[: step + 1], self.shares, self.kept)
        self.error, self.message.value = None, ""

    def _loss_line(self) -> str:
        """What stays of the step, and what is lost with the rest, as a sentence."""
        lost = self.shares[~self.kept].sum()
        return (
            f"budget {self.budget.value}: {int(self.kept.sum())} of {len(self.kept)} positions "
            f"kept; attention lost: {lost:.1%} of this head's at this step, {self.lost:.1%} of "
            "all heads' at all steps"
        )

    def _show_error(self, error: Exception) -> None:
        self.error, self.message.value = error_text(error), error_html(error)


def step_png(
    layers: np.ndarray, layer: int, head: np.ndarray, kept: np.ndarray, dpi: int = 80
) -> bytes:
    """The map of a step over the bars of one head, as the bytes of a PNG.

    layers: (L, S) shares. layer: the row to frame. head, kept: (S,) shares and bool.
    """
    figure = Figure(figsize=(10.2, 3.5), dpi=dpi)
    canvas = FigureCanvasAgg(figure)
    # fixed margins: a layout engine draws everything twice, and a slider must not wait for that
    top, bottom = (
        figure.add_axes((0.065, 0.52, 0.85, 0.45)),
        figure.add_axes((0.065, 0.14, 0.85, 0.3)),
    )
    image = plot_layer_shares(layers, top, mark=layer)
    top.set_xlabel("")
    figure.colorbar(image, cax=figure.add_axes((0.925, 0.52, 0.012, 0.45)), label="share")
    plot_head_shares(head, kept, bottom)
    canvas.draw()
    return png_of(canvas)


def _slider(name: str, value: int, low: int, high: int) -> widgets.IntSlider:
    if not low <= value <= high:
        raise ParameterError(
            f"{name}: not in this run; expected from {low} to {high}, got {value}; choose another"
        )
    layout = {"width": "270px"}
    return widgets.IntSlider(
        value, min=low, max=high, description=name, style=NARROW, layout=layout
    )
