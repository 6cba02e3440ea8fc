"""Selectors of tensor and type over pictures of what quantization does to those weights.

A change quantizes some rows of the tensor anew and redraws: one block with its codes, how often
each code is used, and where on the axis of weights the error is.
Results are drawn into Image and HTML widgets, so the next cell can drive and check the panel.

Leaves out: whole models, which `analysis.model_errors` does.
"""

import io
from collections.abc import Mapping
from dataclasses import replace
from html import escape

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from ..analysis.quant_codes import BlockZoom, CodeUsage, block_zoom, code_usage
from ..analysis.quant_error import QuantError, measure
from ..analysis.quant_maps import ErrorByValue, error_by_value
from ..analysis.quant_model import ChosenRows, matrices, weight_types
from ..errors import ParameterError
from ..gguf import GGUFFile
from ..plots.quant_error import plot_block, plot_code_usage, plot_error_by_value
from ..quants import codec_of, dequantize, quantize
from .running import error_html, error_text, shown_in_panel

NARROW = {"description_width": "60px"}


class QuantizationPanel:
    """Tensor, type and block selectors over one block, its codes, and the error by value.

    gguf: open file, best F16 or F32. tensor, type: first choices. imatrix: tensor name ->
    importance (n,) float32, given to the quantizer. max_rows: rows of a tensor that the numbers
    are taken of, evenly spread.

    Controls are ipywidgets: tensor, type (dropdowns), row, block (`.value`). Results: result,
    usage, by_value, zoom, error.
    """

    def __init__(
        self,
        gguf: GGUFFile,
        tensor: str | None = None,
        type: str = "Q4_0",
        imatrix: Mapping[str, np.ndarray] | None = None,
        max_rows: int = 256,
    ) -> None:
        self._gguf, self._imatrix, self._max_rows = gguf, dict(imatrix or {}), max_rows
        self.result: QuantError | None = None
        self.usage: CodeUsage | None = None
        self.by_value: ErrorByValue | None = None
        self.zoom: BlockZoom | None = None
        self.error: str | None = None
        self._make_controls(tensor, type)
        self.widget = self._lay_out()
        self._connect()
        self._read_tensor()

    def summary(self) -> str:
        """The panel in a few lines of text: choices, numbers, error."""
        lines = [f"{self.tensor.value} in {self.type.value}"]
        if self.result is not None:
            lines += _result_lines(self.result, self.usage, self._looked_at)
        if self.zoom is not None:
            scales = ", ".join(f"{scale:.3g}" for scale in self.zoom.codes.scales[:4])
            more = ", …" if len(self.zoom.codes.scales) > 4 else ""
            lines.append(
                f"row {self.zoom.row}, block {self.zoom.block}: RMSE {self.zoom.rmse:.3g}, "
                f"scale {scales}{more}"
            )
        if self.error is not None:
            lines.append(f"error: {self.error}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"QuantizationPanel(tensor={self.tensor.value!r}, type={self.type.value!r})"

    def _repr_mimebundle_(self, **kwargs) -> dict:
        # the widget's own text would spell out its picture's bytes, other ones on each machine
        return {**self.widget._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    def _make_controls(self, tensor: str | None, type: str) -> None:
        names = matrices(self._gguf)
        types = weight_types(imatrix=bool(self._imatrix))
        if not names:
            raise ParameterError(
                f"{self._gguf.path}: has no matrices; expected weights with two axes, got "
                f"{len(self._gguf.tensors)} other tensors; open a model"
            )
        tensor = tensor or next((name for name in names if "attn_q" in name), names[0])
        for what, value, known in (("tensor", tensor, names), ("type", type, types)):
            if value not in known:
                raise ParameterError(
                    f"{what}: not to choose here; expected one of {', '.join(known)}, "
                    f"got {value!r}; choose one of those"
                )
        wide = {"width": "330px"}
        self.tensor = widgets.Dropdown(
            options=names, value=tensor, description="tensor", style=NARROW, layout=wide
        )
        self.type = widgets.Dropdown(
            options=types, value=type, description="type", style=NARROW, layout={"width": "180px"}
        )
        self.row = _index("row")
        self.block = _index("block")

    def _lay_out(self) -> widgets.VBox:
        self.picture = widgets.Image(format="png", layout={"max_width": "100%"})
        self.numbers, self.message = widgets.HTML(), widgets.HTML()
        controls = widgets.HBox(
            [self.tensor, self.type, self.row, self.block], layout={"flex_flow": "row wrap"}
        )
        return widgets.VBox([controls, self.numbers, self.picture, self.message])

    def _connect(self) -> None:
        self.tensor.observe(self._read_tensor, "value")
        self.type.observe(self._quantize, "value")
        for control in (self.row, self.block):
            control.observe(self._redraw, "value")

    @shown_in_panel
    def _read_tensor(self, change: dict | None = None) -> None:
        self._x = self.result = self.zoom = None
        source = ChosenRows(self._gguf, self.tensor.value, self._max_rows)
        self._x = np.concatenate([x for _, x in source.tiles()])
        self._looked_at = f"{len(self._x)} of {source.total} rows"
        self._source = source
        self.row.max = source.total - 1  # a row too large is cut, which redraws
        self._quantize()

    @shown_in_panel
    def _quantize(self, change: dict | None = None) -> None:
        if self._x is None:  # the tensor could not be read; its error stands in the panel
            return
        self.result = self.zoom = None
        type, importance = self.type.value, self._imatrix.get(self.tensor.value)
        raw = quantize(self._x, type, importance)
        y = dequantize(raw, type)
        given = importance is not None
        self.result = measure([(self._x, y)], type, raw.size, y.size, importance, given)
        self.usage = code_usage(raw, type)
        self.by_value = error_by_value(self._x, type, y=y)
        self.block.max = self._x.shape[1] // codec_of(type).block_size - 1
        self._redraw()

    @shown_in_panel
    def _redraw(self, change: dict | None = None) -> None:
        if self.result is None:
            return
        row = self._source.decode(self._gguf, self._source.raw[self.row.value][None])
        importance = self._imatrix.get(self.tensor.value)
        zoom = block_zoom(row, self.type.value, 0, self.block.value, importance)
        self.zoom = replace(zoom, row=self.row.value)
        self.picture.value = _png(self.zoom, self.usage, self.by_value)
        lines = _result_lines(self.result, self.usage, self._looked_at)
        self.numbers.value = f'<div style="line-height:1.5">{"<br>".join(map(escape, lines))}</div>'
        self.error, self.message.value = None, ""

    def _show_error(self, error: Exception) -> None:
        self.error, self.message.value = error_text(error), error_html(error)


def _index(name: str) -> widgets.BoundedIntText:
    return widgets.BoundedIntText(
        0, min=0, max=0, description=name, style=NARROW, layout={"width": "150px"}
    )


def _result_lines(result: QuantError, usage: CodeUsage, looked_at: str) -> list[str]:
    """The numbers of a tensor as two lines of text."""
    weighted = "" if result.weighted_rmse is None else f", weighted {result.weighted_rmse:.3g}"
    return [
        f"{result.bits_per_weight:.4g} bits per weight, RMSE {result.rmse:.3g}{weighted} "
        f"({result.relative_rmse:.2%} of the weights), SQNR {result.sqnr_db:.1f} dB, {looked_at}",
        f"codes carry {usage.entropy_bits:.2f} of {usage.capacity_bits:.2f} bits, "
        f"{usage.n_unused} of {len(usage.levels)} levels unused",
    ]


def _png(zoom: BlockZoom, usage: CodeUsage, by_value: ErrorByValue, dpi: int = 80) -> bytes:
    """The three pictures of the panel as the bytes of a PNG."""
    figure = Figure(figsize=(10, 6.4), dpi=dpi)
    # fixed margins: a layout engine draws everything twice, and a selector must not wait for that
    top = figure.add_axes((0.07, 0.57, 0.91, 0.38))
    left = figure.add_axes((0.07, 0.08, 0.4, 0.36))
    right = figure.add_axes((0.56, 0.08, 0.35, 0.36))
    plot_block(zoom, top)
    plot_code_usage(usage, left)
    plot_error_by_value([by_value], right)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
