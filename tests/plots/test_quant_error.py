import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from workbench import plots
from workbench.analysis.quant_codes import CodeUsage, ScaleSpread, block_zoom
from workbench.analysis.quant_error import quant_error
from workbench.analysis.quant_maps import ErrorByValue, ErrorMap
from workbench.plots.quant_error import AFTER, ERROR

X = np.random.default_rng(1).standard_normal((4, 256), dtype=np.float32)


def axes(width: float = 8):
    return Figure(figsize=(width, 4)).subplots()


def offsets(ax) -> dict[str, np.ndarray]:
    return {c.get_label(): np.asarray(c.get_offsets()) for c in ax.collections}


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_a_block_shows_weights_before_and_after_its_levels_codes_and_scale():
    zoom = block_zoom(X, "Q4_0", row=1, block=2)
    ax = plots.plot_block(zoom, axes())
    found = offsets(ax)
    np.testing.assert_allclose(found["before"][:, 1], zoom.x)
    np.testing.assert_allclose(found["after"][:, 1], zoom.y)
    lines = next(c for c in ax.collections if len(c.get_paths()) == 16)
    heights = [path.vertices[0, 1] for path in lines.get_paths()]
    np.testing.assert_allclose(heights, zoom.level_values[0])
    written = [f"{zoom.codes.levels[code]:g}" for code in zoom.codes.codes]
    assert texts(ax) == [f"scale {zoom.codes.scales[0]:.4g}", *written]
    assert ax.get_title("left") == f"Q4_0, row 1, block 2: RMSE {zoom.rmse:.3g}"


def test_a_long_block_shows_its_groups_and_no_codes():
    ax = plots.plot_block(block_zoom(X, "TQ2_0"), axes())
    assert len(texts(ax)) == 1 and ax.get_xlabel() == "weight"
    ax = plots.plot_block(block_zoom(X, "NVFP4"), axes())
    assert [t for t in texts(ax) if t.startswith("scale")] and len(ax.lines) == 3


def test_the_frontier_joins_the_best_and_names_every_type():
    types = ["TQ1_0", "MXFP4", "Q4_0", "Q8_0", "Q4_K"]
    made_up = {"type": types, "bits_per_weight": [1.7, 4.25, 4.5, 8.5, 4.5]}
    table = pd.DataFrame(made_up | {"relative_rmse": [0.8, 0.12, 0.09, 0.005, 0.08]})
    ax = plots.plot_frontier(table, ["TQ1_0", "Q4_K", "Q8_0"], axes())
    best, limit = ax.lines
    np.testing.assert_allclose(best.get_xydata(), [[1.7, 0.8], [4.5, 0.08], [8.5, 0.005]])
    np.testing.assert_allclose(limit.get_ydata(), [2**-1.7, 2**-8.5])
    assert sorted(texts(ax)) == sorted(types)
    table["weighted_relative_rmse"] = table["relative_rmse"]
    other = plots.plot_frontier(table, ["Q4_K"], axes(), by="weighted_relative_rmse")
    assert len(other.lines) == 1  # the limit is none of weighted errors
    assert offsets(ax)["K-quants"].tolist() == [[4.5, 0.08]]
    assert (ax.get_yscale(), ax.get_xlabel()) == ("log", "bits per weight")


def test_names_of_types_that_are_close_do_not_cover_each_other():
    table = quant_error(X, ["Q4_0", "NVFP4", "MXFP4", "Q4_1", "TQ1_0", "TQ2_0", "Q2_0", "Q1_0"])
    ax = plots.plot_frontier(table, ["Q4_0"], Figure(figsize=(9, 6), dpi=100).subplots())
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :]), ax.texts[i]


def test_a_heat_map_holds_and_writes_its_numbers():
    pivot = pd.DataFrame([[0.1, np.nan], [0.2, 0.3]], [0, 1], ["attn_q", "ffn_up"])
    ax = plots.plot_error_heatmap(pivot, axes(), label="SQNR (dB)")
    np.testing.assert_allclose(np.ma.filled(ax.images[0].get_array(), np.nan), pivot)
    assert texts(ax) == ["0.10", "", "0.20", "0.30"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["attn_q", "ffn_up"]
    assert ax.figure.axes[1].get_ylabel() == "SQNR (dB)"


def test_a_heat_map_bears_what_has_no_error():
    pivot = pd.DataFrame([[20.25, np.inf], [20.75, np.nan]], [0, 1], ["attn_q", "ffn_up"])
    assert texts(plots.plot_error_heatmap(pivot, axes())) == ["20.25", "inf", "20.75", ""]
    assert texts(plots.plot_error_heatmap(pivot * np.inf, axes())) == ["inf", "inf", "inf", ""]
    assert texts(plots.plot_error_heatmap(pivot * 0, axes())) == ["0.000", "", "0.000", ""]


def test_a_map_holds_the_error_of_each_block():
    rmse = np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)
    ax = plots.plot_error_map(ErrorMap("Q4_0", 32, rmse, rmse), axes())
    np.testing.assert_array_equal(ax.images[0].get_array(), rmse)
    assert ax.get_xlabel() == "block of 32 weights"


def test_unused_levels_are_crossed():
    usage = CodeUsage("Q2_0", np.array([-1, 0, 1, 2], np.float32), np.array([1, 2, 1, 0]))
    ax = plots.plot_code_usage(usage, axes())
    assert [bar.get_height() for bar in ax.patches] == [25, 50, 25, 0]
    assert to_hex(ax.patches[0].get_facecolor()).upper() == AFTER
    assert offsets(ax)["unused"].tolist() == [[3, 0]]
    assert to_hex(ax.collections[0].get_facecolor()).upper() == ERROR
    assert ax.get_title() == "Q2_0: 1.50 of 2.00 bits used"


def test_scales_are_counted_and_infinite_ones_left_out():
    scales = np.array([0.1, 0.1, 0.2, np.inf], np.float32)
    spread = ScaleSpread("Q4_0", scales, 32, {}, 0, 0, 1)
    ax = plots.plot_scales(spread, axes())
    assert sum(bar.get_height() for bar in ax.patches) == 3
    assert ax.get_ylabel() == "groups of 32 weights"


def test_the_error_by_value_is_a_line_a_type_over_the_weights():
    edges, counts = np.array([-1.0, 0, 1]), np.array([3, 5])
    results = [
        ErrorByValue(name, edges, counts, np.array(rmse), np.zeros(2))
        for name, rmse in (("Q4_0", [0.2, 0.3]), ("Q8_0", [0.02, 0.03]))
    ]
    ax = plots.plot_error_by_value(results, axes())
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.2, 0.3], [0.02, 0.03]]
    assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()
    assert ax.figure.axes[1].patches[0].get_data().values.tolist() == [3, 5]


def test_changes_are_bars_by_role_in_percent_with_a_dot_for_each_layer():
    table = pd.DataFrame({"role": ["attn_q", "attn_q", "ffn_up"], "change": [-0.1, -0.3, 0.05]})
    ax = plots.plot_error_change({"Q4_0": table}, axes())
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([-20, 5])
    dots = np.concatenate([np.asarray(c.get_offsets())[:, 1] for c in ax.collections])
    np.testing.assert_allclose(dots, [-10, -30, 5])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["attn_q", "ffn_up"]
