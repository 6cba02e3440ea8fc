"""Sliders over what a file takes to run: context, types of the cache, tokens of a prompt.

Only the header is read, so a file of 40 GB answers as fast as a small one.
Results are drawn into Image and HTML widgets, so the next cell can drive and check the panel.
Leaves out: GPUs, whose buffers are others.
"""

import ipywidgets as widgets
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..analysis.memory_model import MemoryModel, memory_model
from ..errors import ParameterError
from ..gguf import GGUFFile
from ..model.kv_types import CACHE_TYPES
from ..plots.file_strip import plot_memory_model
from ..plots.next_token_picture import png_of
from .running import error_html, error_text, shown_in_panel

NARROW = {"description_width": "60px"}
LEAST, MOST = 5, 24  # powers of two of the context's slider: 32 to 16 M positions


class MemoryCalculator:
    """Choose a context, cache types and a batch, and see what the model takes.

    gguf: an open file; n_ctx: first choice, by default what the model was trained for.

    Controls are ipywidgets: n_ctx (a slider of powers of two, with quarter steps), type_k, type_v,
    n_batch, swa_full (`.value`). Results: model (a MemoryModel), error.
    Raises: ParameterError, GGUFError, UnsupportedError for files that lack the numbers.
    """

    def __init__(self, gguf: GGUFFile, n_ctx: int | None = None) -> None:
        self._gguf = gguf
        first = memory_model(gguf, n_ctx)
        if not 2**LEAST <= first.n_ctx <= 2**MOST:
            raise ParameterError(
                f"n_ctx: outside of the slider; expected from {2**LEAST} to {2**MOST}, got "
                f"{first.n_ctx}; memory_model counts any"
            )
        self.model: MemoryModel | None = None
        self.error: str | None = None
        kinds = {"options": CACHE_TYPES, "value": "f16", "style": NARROW}
        narrow = {"layout": {"width": "150px"}, **kinds}
        self.n_ctx = widgets.FloatLogSlider(
            first.n_ctx, base=2, min=LEAST, max=MOST, step=0.25, description="n_ctx",
            readout_format=",.0f", style=NARROW, layout={"width": "330px"},
        )  # fmt: skip
        self.type_k = widgets.Dropdown(description="type_k", **narrow)
        self.type_v = widgets.Dropdown(description="type_v", **narrow)
        self.n_batch = widgets.IntSlider(
            512, min=1, max=2048, description="n_batch", style=NARROW, layout={"width": "300px"}
        )
        self.swa_full = widgets.Checkbox(True, description="windows keep all positions")
        self.widget = self._lay_out()
        for control in (self.n_ctx, self.type_k, self.type_v, self.n_batch, self.swa_full):
            control.observe(self._redraw, "value")
        self._redraw()

    def summary(self) -> str:
        """The panel in a few lines of text: choice, terms, total."""
        if self.error is not None:
            return f"error: {self.error}"
        types = f"k {self.type_k.value}, v {self.type_v.value}"
        lines = [f"n_ctx {self.model.n_ctx:,}, {types}, n_batch {self.model.n_batch}"]
        lines += [f"{term.name}: {term.nbytes:,} bytes" for term in self.model.terms]
        return "\n".join([*lines, f"total: {self.model.total:,} bytes"])

    def __repr__(self) -> str:
        names = ("n_ctx", "type_k", "type_v", "n_batch")
        values = (f"{name}={getattr(self, name).value:g}" if name == "n_ctx" else
                  f"{name}={getattr(self, name).value}" for name in names)  # fmt: skip
        return f"MemoryCalculator({', '.join(values)})"

    def _repr_mimebundle_(self, **kwargs) -> dict:
        # the widget's own text would spell out its picture's bytes, other ones on each machine
        return {**self.widget._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    def _lay_out(self) -> widgets.VBox:
        self.picture = widgets.Image(format="png", layout={"max_width": "100%"})
        self.table, self.message = widgets.HTML(), widgets.HTML()
        controls = [self.n_ctx, self.type_k, self.type_v, self.n_batch, self.swa_full]
        top = widgets.HBox(controls, layout={"flex_flow": "row wrap"})
        return widgets.VBox([top, self.picture, self.table, self.message])

    @shown_in_panel
    def _redraw(self, event: dict | None = None) -> None:
        self.model = memory_model(
            self._gguf,
            round(self.n_ctx.value),
            self.type_k.value,
            self.type_v.value,
            self.n_batch.value,
            self.swa_full.value,
        )
        self.picture.value = memory_png(self.model)
        frame = self.model.to_frame().round({"MB": 2})
        self.table.value = frame.to_html(index=False, border=0)
        self.error, self.message.value = None, ""

    def _show_error(self, error: Exception) -> None:
        self.error, self.message.value = error_text(error), error_html(error)


def memory_png(model: MemoryModel, dpi: int = 80) -> bytes:
    """The bar of a memory model as the bytes of a PNG."""
    figure = Figure(figsize=(10.2, 1.7), dpi=dpi)
    canvas = FigureCanvasAgg(figure)
    # fixed margins: a layout engine draws everything twice, and a slider must not wait for that
    plot_memory_model(model, figure.add_axes((0.02, 0.3, 0.96, 0.35)))
    canvas.draw()
    return png_of(canvas)
