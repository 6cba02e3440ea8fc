"""Pictures of trees, sweeps and drafts show the numbers they are given."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import workbench as wb
from workbench.analysis import TokenTree, sampling_sweep
from workbench.plots import plot_acceptance, plot_sampling_sweep, plot_token_tree


@pytest.fixture(scope="module")
def model():
    with wb.load_model(wb.builtin_model_path(), device="cpu") as loaded:
        yield loaded


@pytest.mark.parametrize("colour", ["prob", "rank", "entropy", "surprise"])
def test_every_token_of_a_tree_is_drawn_in_its_place(model, colour):
    tree = TokenTree(model, "Once upon a time", wb.SamplingParams(temperature=0))
    leaf = tree.generate(4)
    tree.branch(tree.path(leaf)[2], int(tree.alternatives(2, 3).ids[2]), 2)
    ax = plot_token_tree(tree, Figure().add_subplot(), colour)
    drawn = {(t.get_position()[0], t.get_position()[1]): t.get_text() for t in ax.texts}
    assert drawn[(3, 0)] == tree.nodes[3].text and drawn[(3, 1)] == tree.nodes[5].text
    assert len(ax.texts) == len(tree.nodes) and len(ax.lines) == len(tree.nodes) - 1


def test_a_sweeps_heat_map_has_its_numbers(model):
    sweep = sampling_sweep(model, "One day", (0.5, 1.2), (0.6, 1.0), n_tokens=8)
    ax = plot_sampling_sweep(sweep, "distinct_1", Figure().add_subplot())
    np.testing.assert_array_equal(ax.images[0].get_array(), sweep.distinct_1)
    assert ax.texts[0].get_text() == f"{sweep.distinct_1[0, 0]:.2f}"
    with pytest.raises(wb.ParameterError, match="measure: expected one of distinct_1"):
        plot_sampling_sweep(sweep, "beauty", Figure().add_subplot())


def test_bars_are_as_high_as_drafts_were_accepted():
    seen = wb.Acceptance(np.array([4, 2]), np.array([3, 1]), n_passes=2, n_tokens=6)
    ax = plot_acceptance({"draft": seen}, Figure().add_subplot())
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], [0.75, 0.5])
    assert "3.00 tokens a pass" in ax.get_legend().get_texts()[0].get_text()
