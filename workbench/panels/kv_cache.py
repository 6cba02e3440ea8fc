"""Sliders over what a text's tokens look at in the KV cache, and what a smaller cache would lose.

    layer, head, step    a map of the step, layers down and positions across; one head's shares as
                         bars; the text on the colour of what that head gives to each token
    policy, budget       which positions may stay, and how many; what falls on the others is
                         orange, and summed up

Nothing goes through a model here: all comes from a recorded run, one opened from a file too.
Results are drawn into Image and HTML widgets, so the next cell can drive and check the panel.

Leaves out: what losing positions does to the text; `analysis.run_eviction` runs the model so.
"""

import ipywidgets as widgets
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..analysis.kv_eviction import EvictionReplay, replay_eviction
from ..analysis.kv_policies import EVICTION_POLICIES, Policy, eviction_policy
from ..analysis.next_token import visible_text
from ..errors import ParameterError
from ..model.kv_checks import demand_instance, is_integer
from ..model.kv_run import N_SINK, KVRun
from ..plots.kv_step import plot_head_shares, plot_layer_shares
from ..plots.kv_story import story_html
from ..plots.next_token_picture import png_of
from .running import error_html, error_text, shown_in_panel

NARROW, WIDE = {"description_width": "52px"}, {"width": "270px"}
N_LOOKS = 3  # positions that the summary names


class KVCachePanel:
    """Choose a layer, a head and a step, and see which positions of the cache it looks at.

    run: of a `KVRecorder`, or from `KVRun.load`; of a whole text. layer, head: first choice; a run
    without heads has one, their mean. step: the position of the token that looks, by default the
    last. budget: positions that may stay, by default all. policy: which; a name of
    EVICTION_POLICIES, or a function as for `analysis.replay_eviction`.

    Controls are ipywidgets: layer, head, step, budget, policy (`.value`). Results: shares (of the
    head at the step), kept (which of them stay), lost (share of all heads' attention, over all
    steps, that falls on positions gone), error.
    Raises: ParameterError for a choice that is not there.
    """

    def __init__(
        self,
        run: KVRun,
        layer: int = 0,
        head: int = 0,
        step: int | None = None,
        budget: int | None = None,
        policy: str | Policy = "streaming_llm",
    ) -> None:
        demand_instance("run", run, KVRun, "KVRecorder.run or KVRun.load")
        self._run, tokens = run, zip(run.pieces, run.token_ids, strict=True)
        self._pieces = [visible_text(piece) or f"<{token_id}>" for piece, token_id in tokens]
        self._replay: EvictionReplay | None = None
        self.shares = self.kept = None
        self.error: str | None = None
        last, most = run.n_tokens - 1, max(run.n_tokens, N_SINK + 1)
        self.layer = _slider("layer", layer, 0, run.n_layer - 1)
        self.head = _slider("head", head, 0, len(run.mass(0, layer)) - 1)
        self.step = _slider("step", last if step is None else step, 0, last)
        self.budget = _slider("budget", most if budget is None else budget, N_SINK + 1, most)
        self.budget.continuous_update = False  # each value goes through the whole run once more
        name, function = eviction_policy(policy)
        self._policies = {**EVICTION_POLICIES, name: function}
        self.policy = widgets.Dropdown(
            options=list(self._policies),
            value=name,
            description="policy",
            style=NARROW,
            layout=WIDE,
        )
        self.widget = self._lay_out()
        for control in self._controls:
            control.observe(self._redraw, "value")
        self._redraw()

    @property
    def lost(self) -> float | None:
        """Share of all heads' attention, over all steps, that falls on positions gone."""
        return None if self._replay is None else self._replay.mean_lost

    def summary(self) -> str:
        """The panel in a few lines of text: choice, and what the head looks at."""
        pieces, step = self._pieces, self.step.value
        lines = [f"layer {self.layer.value}, head {self.head.value}, step {step}: {pieces[step]}"]
        if self.shares is not None:
            best = np.argsort(-self.shares, kind="stable")[:N_LOOKS]
            looks = (f"{pieces[i]} ({i}) {self.shares[i]:.2f}" for i in best)
            lines += [f"looks at {', '.join(looks)}", self._loss_line()]
        if self.error is not None:
            lines.append(f"error: {self.error}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        named = (f"{control.description}={control.value!r}" for control in self._controls)
        return f"KVCachePanel({', '.join(named)})"

    def _repr_mimebundle_(self, **kwargs) -> dict:
        # the widget's own text would spell out its picture's bytes, other ones on each machine
        return {**self.widget._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    @property
    def _controls(self) -> tuple[widgets.Widget, ...]:
        return (self.layer, self.head, self.step, self.budget, self.policy)

    def _lay_out(self) -> widgets.VBox:
        self.picture = widgets.Image(format="png", layout={"max_width": "100%"})
        self.loss, self.story, self.message = (widgets.HTML() for _ in range(3))
        top = widgets.HBox(self._controls, layout={"flex_flow": "row wrap"})
        return widgets.VBox([top, self.picture, self.loss, self.story, self.message])

    @shown_in_panel
    def _redraw(self, event: dict | None = None) -> None:
        run, layer, step, budget = self._run, self.layer.value, self.step.value, self.budget.value
        if self._replay is None or event["owner"] in (self.budget, self.policy):
            self._replay = replay_eviction(run, self._policies[self.policy.value], budget)
        seen = [run.mass(step, i).astype(np.float32) for i in range(run.n_layer)]
        self.head.max = len(seen[layer]) - 1  # a higher one becomes the last, and is drawn already
        head, kept = self.head.value, self._replay.kept(layer, step)
        self.shares, self.kept = seen[layer][head], kept[head * len(kept) // len(seen[layer])]
        means = np.stack([shares.mean(axis=0) for shares in seen])
        self.picture.value = step_png(means, layer, self.shares, self.kept)
        self.loss.value = f'<div style="line-height:1.5">{self._loss_line()}</div>'
        self.story.value = story_html(self._pieces[: step + 1], self.shares, self.kept)
        self.error, self.message.value = None, ""

    def _loss_line(self) -> str:
        """What stays of the step, and what is lost with the rest, as a sentence."""
        lost = self.shares[~self.kept].sum()
        return (
            f"{self.policy.value}, budget {self.budget.value}: {int(self.kept.sum())} of "
            f"{len(self.kept)} positions kept; attention lost: {lost:.1%} of this head's at this "
            f"step, {self.lost:.1%} of all heads' at all steps"
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
    if not is_integer(value) or not low <= value <= high:
        raise ParameterError(
            f"{name}: not in this run; expected from {low} to {high}, got {value!r}; choose another"
        )
    return widgets.IntSlider(value, min=low, max=high, description=name, style=NARROW, layout=WIDE)
