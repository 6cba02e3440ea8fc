"""Pictures of caches that forget, read back."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from workbench import plots
from workbench.analysis import EvictionReplay
from workbench.errors import ParameterError

EVICTIONS = pd.DataFrame(
    {
        "policy": ["full", "h2o", "h2o", "mine"],
        "bytes": [8000, 4000, 2000, 2000],
        "kl": [0.0, 0.01, 0.1, 0.5],
    }
)
TYPES = pd.DataFrame(
    {
        "type_k": ["f16", "q8_0", "q8_0"],
        "type_v": ["f16", "q8_0", "q4_0"],
        "bytes": [8000, 4200, 3000],
        "kl": [0, 1e-4, 2e-3],
    }
)


def axes():
    return Figure().add_subplot()


def test_each_policy_is_a_line_over_its_bytes_and_the_full_cache_a_place():
    ax = plots.plot_kv_frontier(EVICTIONS, ax=axes())
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines) == ["full cache", "h2o", "mine"]
    np.testing.assert_allclose(lines["h2o"].get_xydata(), [[2, 0.1], [4, 0.01]])
    np.testing.assert_allclose(lines["full cache"].get_xdata(), 8)
    styles = {(line.get_marker(), to_hex(line.get_color())) for line in ax.lines}
    assert len(styles) == 3
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "cache after the last token (kB)",
        "KL of the next token (nats)",
    )


def test_types_are_named_points_and_the_best_are_joined():
    best = pd.DataFrame({"bytes": [2000, 3000, 8000], "kl": [0.1, 2e-3, 0.0]})
    ax = plots.plot_kv_frontier(EVICTIONS, TYPES, best, axes())
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["cache type (k / v)"].get_xydata(), [[4.2, 1e-4], [3, 2e-3]])
    np.testing.assert_allclose(lines["best for their bytes"].get_xydata(), [[2, 0.1], [3, 2e-3]])
    assert [text.get_text() for text in ax.texts] == ["q8_0 / q4_0", "q8_0"]


def test_nothing_to_draw_is_refused():
    with pytest.raises(ParameterError, match="evictions, types: nothing to draw"):
        plots.plot_kv_frontier()
    with pytest.raises(ParameterError, match=r"evictions: columns are missing; .* got no kl, pol"):
        plots.plot_kv_frontier(pd.DataFrame({"bytes": [1]}))
    with pytest.raises(ParameterError, match=r"types: columns are missing; .* got no type_k, ty"):
        plots.plot_kv_frontier(types=pd.DataFrame({"bytes": [1], "kl": [1]}))


def test_each_policy_has_a_line_of_what_is_lost_in_its_own_style():
    lost = pd.DataFrame({"h2o": [0.4, 0.1], "mine": [0.5, 0.2]}, [16, 64])
    ax = plots.plot_lost_attention(lost, axes())
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["h2o"].get_xydata(), [[16, 0.4], [64, 0.1]])
    np.testing.assert_allclose(lines["mine"].get_ydata(), [0.5, 0.2])
    assert len({(line.get_marker(), to_hex(line.get_color())) for line in ax.lines}) == 2
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("positions kept", "share of attention lost")


def test_a_map_shows_what_each_token_sees():
    gone = np.array([[3, 2, 3]])
    replay = EvictionReplay("h2o", 2, np.zeros((3, 1)), (gone,))
    ax = plots.plot_kept_positions(replay, 0, ax=axes())
    seen = np.ma.filled(ax.images[0].get_array(), -1)
    np.testing.assert_array_equal(seen, [[1, -1, -1], [1, 1, -1], [1, 0, 1]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("position", "token that looks")
    with pytest.raises(ParameterError, match="layer, kv_head: not in this result"):
        plots.plot_kept_positions(replay, 0, 1)
    with pytest.raises(ParameterError, match=r"layer, kv_head: not in this result; .* got 0\.0, 0"):
        plots.plot_kept_positions(replay, 0.0)
