"""Pictures of keys, values, heads and a growing cache, read back from their artists."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tests.analysis.test_kv_arrays import made_of, random_rows
from workbench import analysis, plots
from workbench.analysis.kv_arrays import KINDS, KVArrays
from workbench.analysis.kv_growth import AttentionReceived, KVGrowth
from workbench.analysis.kv_heads import HeadClasses
from workbench.errors import ParameterError
from workbench.plots.kv_heads import COLOURS


def axes():
    return Figure(figsize=(8, 4)).subplots()


def image(ax):
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def two_layers():
    """Layer 0 has 2 KV heads of 4 numbers, layer 1 has 3 of 8."""
    a, b = random_rows((12, 2, 4)), random_rows((12, 3, 8), seed=1)
    return KVArrays((a, b), (2 * a, b), (a, b), (0, 0))


def bars(ax):
    return {box.get_label(): [bar.get_height() for bar in box] for box in ax.containers}


def test_the_channel_map_has_a_row_a_head_and_leaves_missing_channels_empty():
    result = analysis.outlier_channels(two_layers())
    ax = plots.plot_channel_map(result, axes())
    wall = image(ax)
    np.testing.assert_allclose(wall[:2, :4], result.shares["k"][0])
    np.testing.assert_allclose(wall[2:], result.shares["k"][1])
    assert np.isnan(wall[:2, 4:]).all() and ax.get_title("left") == "keys"
    assert ax.get_yticks().tolist() == [0.5, 3] and ax.get_xlabel() == "channel"
    lines = ax.collections[0].get_segments()
    assert [line[0][1] for line in lines] == [1.5]  # between the layers


def test_bars_of_a_heads_channels_are_its_shares_in_every_kind():
    result = analysis.outlier_channels(two_layers())
    ax = plots.plot_channel_shares(result, 1, 2, axes())
    drawn = bars(ax)
    assert list(drawn) == ["keys before RoPE", "keys", "keys, Hadamard"]
    np.testing.assert_allclose(drawn["keys"], result.shares["k"][1][2])
    np.testing.assert_allclose(drawn["keys, Hadamard"], result.shares["k_hadamard"][1][2])
    assert ax.lines[0].get_ydata()[0] == pytest.approx(1 / 8)
    assert ax.get_title("left") == "layer 1, KV head 2"


def test_a_head_or_kind_that_was_not_measured_is_refused():
    result = analysis.outlier_channels(two_layers())
    with pytest.raises(
        ParameterError, match="layer from 0 to 1 and a KV head from 0 to 1, got 0 a"
    ):
        plots.plot_channel_shares(result, 0, 2, axes())
    with pytest.raises(ParameterError, match=r"layer from 0 to 1 .* got 2 and 0"):
        plots.plot_channel_shares(result, 2, 0, axes())
    with pytest.raises(ParameterError, match=r"kind: these rows were not measured; .* got 'q'"):
        plots.plot_channel_map(result, axes(), "q")


def test_rank_bars_are_means_of_the_heads_whose_dots_stand_on_them():
    result = analysis.effective_ranks(two_layers())
    ax = plots.plot_effective_ranks(result, axes())
    np.testing.assert_allclose(bars(ax)["values"], [r.mean() for r in result.rank["v"]])
    dots = ax.collections[1].get_offsets()
    np.testing.assert_allclose(dots[:, 1], np.concatenate(result.rank["k"]))
    assert ax.lines[0].get_ydata()[0] == 8
    assert ax.get_ylabel() == "effective rank (directions)"


def test_drift_lines_are_means_over_layers_without_distance_zero():
    result = analysis.cosine_drift(two_layers(), 5)
    ax = plots.plot_cosine_drift(result, axes())
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_array_equal(lines["keys"].get_xdata(), [1, 2, 3, 4, 5])
    expected = result.by_layer("k")[:, 1:].mean(axis=0)
    np.testing.assert_allclose(lines["keys"].get_ydata(), expected)
    assert ax.get_xlabel() == "distance (positions)"


def test_errors_are_means_side_by_side_in_the_order_of_the_types_bits():
    errors = analysis.kv_errors(made_of(random_rows((40, 2, 32))), ["q8_0", "q4_0"], ["k", "v"])
    ax = plots.plot_kv_errors(errors, axes())
    assert [label.get_text() for label in ax.get_xticklabels()] == ["q4_0\n4.5", "q8_0\n8.5"]
    lines = {line.get_label(): line for line in ax.lines}
    means = errors[errors.kind == "k"].groupby("type").sqnr_db.mean()
    np.testing.assert_allclose(lines["keys"].get_ydata(), means[["q4_0", "q8_0"]])
    assert (lines["values"].get_xdata() - lines["keys"].get_xdata() == 0.25).all()


def some_classes():
    """Layer 3 has heads 0 to 2, layer 5 only 0 and 1."""
    shares = np.linspace(0.1, 0.9, 5)
    names = ("sink", "mixed", "induction", "local", "mixed")
    heads = (np.array([3, 3, 3, 5, 5]), np.array([0, 1, 2, 0, 1]))
    return HeadClasses(*heads, *[shares] * 5, names, 60, 30, 9.0, 1.0)


def test_a_class_is_a_colour_and_a_letter_and_is_counted():
    ax = plots.plot_head_classes(some_classes(), axes())
    letters = {text.get_position(): text.get_text() for text in ax.texts}
    assert letters == {(0, 0): "S", (1, 0): "M", (2, 0): "I", (0, 1): "L", (1, 1): "M"}
    shown = ax.images[0].to_rgba(ax.images[0].get_array())
    assert to_hex(shown[0, 0]).upper() == COLOURS["sink"]
    assert to_hex(shown[1, 0]).upper() == COLOURS["local"]
    assert np.isnan(image(ax)[1, 2])
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["induction: 1", "sink: 1", "local: 1", "mixed: 2"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["3", "5"]


def test_many_heads_have_no_letters_and_fewer_ticks():
    n = 40
    heads = (np.repeat(np.arange(n), n), np.tile(np.arange(n), n))
    many = HeadClasses(*heads, *[np.zeros(n * n)] * 5, ("mixed",) * n * n, 60, 30, 9.0, 1.0)
    ax = plots.plot_head_classes(many, axes())
    assert not ax.texts and len(ax.get_xticks()) <= 16


def test_a_look_is_drawn_from_0_to_1_where_there_are_heads():
    ax = plots.plot_head_looks(some_classes(), "sink", axes())
    np.testing.assert_allclose(image(ax), [[0.1, 0.3, 0.5], [0.7, 0.9, np.nan]])
    assert ax.images[0].get_clim() == (0, 1) and ax.get_title("left") == "sink"
    with pytest.raises(
        ParameterError, match=r"look: nothing that heads were measured by; .* 'far'"
    ):
        plots.plot_head_looks(some_classes(), "far", axes())


def test_bands_of_all_layers_end_at_the_bytes_of_keys_and_values():
    steps = np.arange(5)
    growth = KVGrowth(steps, steps[:, None] * [8, 16], steps[:, None] * [4, 4], np.full((2, 2), 99))
    ax = plots.plot_kv_growth(growth, axes())
    tops = [band.get_paths()[0].vertices[:, 1].max() for band in ax.collections]
    assert tops == [32, 96, 112, 128] and growth.total[-1] == 128
    assert ax.lines[0].get_ydata()[0] == 396
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["keys (2 layers)", "values (2 layers)", "allocated: 396 bytes"]
    assert ax.get_ylabel() == "kilobytes" and ax.yaxis.get_major_formatter()(3000, 0) == "3"


def test_norms_are_drawn_where_they_are():
    norms = np.array([[1.0, 2.0, 3.0], [np.nan, 5.0, 6.0]])
    ax = plots.plot_kv_norms(norms, axes(), "values")
    np.testing.assert_array_equal(image(ax), norms)
    assert ax.get_title("left") == "norm of the values" and ax.get_xlabel() == "position"


def received(n_head=2):
    by_head = np.exp(random_rows((3, n_head, 20)).astype(float))
    by_head[..., 15:] = np.nan
    return AttentionReceived(np.array([0, 1, 2]), by_head, tuple("x" * 20), 4)


def test_received_attention_is_drawn_around_even_and_empty_at_the_end():
    result = received()
    ax = plots.plot_attention_received(result, axes())
    np.testing.assert_allclose(image(ax), result.by_layer)
    low, high = ax.images[0].get_clim()
    assert low * high == pytest.approx(1)  # white is at 1
    assert ax.get_xlabel() == "position looked at" and ax.get_ylabel() == "layer"


def test_every_head_has_a_tile_of_its_own():
    result = received(n_head=6)
    ax = plots.plot_received_by_head(result, axes())
    wall = image(ax)
    np.testing.assert_allclose(wall[:3, :20], result.by_head[:, 0])
    np.testing.assert_allclose(wall[4:7, 21:41], result.by_head[:, 5])  # a row and a column further
    assert np.isnan(wall[3]).all() and np.isnan(wall[:, 20]).all()
    assert [text.get_text() for text in ax.texts] == [f"head {i}" for i in range(6)]


def test_colours_of_kinds_stay_apart():
    errors = pd.concat(
        [
            analysis.kv_errors(made_of(random_rows((8, 1, 32))), ["q8_0"], [kind])
            for kind in (*KINDS, "k_hadamard", "v_hadamard")
        ]
    )
    ax = plots.plot_kv_errors(errors, axes())
    looks = {(line.get_color(), line.get_marker()) for line in ax.lines}
    assert len(looks) == 5
