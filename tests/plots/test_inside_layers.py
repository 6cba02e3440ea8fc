"""What the pictures of notebook 06 show, read back from their artists."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.analysis.inside import IDS, models, run
from workbench import analysis, plots


def axes():
    return Figure(figsize=(8, 4)).subplots()


@pytest.fixture(scope="module")
def traced():
    return run(models()[0])


def image(ax):
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def ticks(labels):
    return [label.get_text() for label in labels]


def test_tiles_show_every_map_once_and_nothing_of_the_future(traced):
    maps = analysis.attention_maps(traced[0])
    ax = plots.plot_attention_tiles(maps, axes(), mark=[(1, 2)])
    wall = image(ax)
    tile = wall[7 : 7 + 6, 14 : 14 + 6]  # layer 1, head 2; a gap of one between tiles of six
    seen = np.tri(6, dtype=bool)
    np.testing.assert_allclose(tile[seen], maps.maps[1][2][seen], rtol=1e-6)
    assert np.isnan(tile[~seen]).all() and np.isnan(wall[6]).all()
    frame = ax.patches[0]
    assert frame.get_xy() == (13, 6) and frame.get_width() == 7
    assert ticks(ax.get_xticklabels()) == list("0123") and ticks(ax.get_yticklabels()) == list("01")


def test_one_map_is_labelled_with_its_tokens(traced):
    maps = analysis.attention_maps(traced[0], ["<|begin_of_text|>", *"bcde", "$x$"])
    ax = plots.plot_attention_head(maps, 0, 3, axes())
    assert ticks(ax.get_xticklabels()) == ["<|begin_of_…", *"bcde", "$x$"]
    assert ax.get_title("left") == "layer 0, head 3"
    seen = np.tri(6, dtype=bool)
    np.testing.assert_allclose(image(ax)[seen], maps.maps[0][3][seen], rtol=1e-6)


def test_norms_are_drawn_as_means_between_smallest_and_largest(traced):
    norms = analysis.residual_norms(traced[0])
    ax = plots.plot_residual_norms(norms, axes())
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(lines["added by attention"], norms.attention.mean(axis=1))
    np.testing.assert_allclose(lines["added by the network"], norms.ffn.mean(axis=1))
    np.testing.assert_allclose(lines["stream after the layer"], norms.stream[1:].mean(axis=1))
    assert len(ax.collections) == 3 and ax.get_yscale() == "log"


def test_the_lens_writes_a_token_in_every_cell_and_frames_the_final_one(traced):
    lens = analysis.logit_lens(models()[0], traced[0], IDS)
    ax = plots.plot_logit_lens(lens, axes(), n_last=4)
    np.testing.assert_allclose(image(ax), lens.top_probs[:, -4:])
    assert [t.get_text() for t in ax.texts] == [p for row in lens.top_pieces for p in row[-4:]]
    assert len(ax.patches) == (lens.final_ranks[:, -4:] == 0).sum()
    assert ticks(ax.get_yticklabels()) == ["embedding", "layer 0", "layer 1"]


def test_a_logit_taken_apart_is_drawn_by_head_and_by_layer(traced):
    parts = analysis.logit_attribution(models()[0], traced[0], 7, against=8)
    ax = plots.plot_head_attribution(parts, axes(), mark=[(1, 0)])
    np.testing.assert_allclose(image(ax), parts.heads)
    assert ax.images[0].norm.vcenter == 0 and ax.patches[0].get_xy() == (-0.5, 0.5)
    assert ax.get_title("left") == "heads, logit of 'G' over 'H'"
    ax = plots.plot_layer_attribution(parts, axes())
    bars = {group.get_label(): [bar.get_width() for bar in group] for group in ax.containers}
    np.testing.assert_allclose(bars["attention"], parts.attention)
    np.testing.assert_allclose(bars["network"], parts.ffn)
    np.testing.assert_allclose(bars["embedding, biases"], parts.embedding + parts.constant)
    assert ax.get_title("left").startswith(f"sum {parts.total:.2f}, logit of 'G'")


def test_silenced_heads_are_drawn_by_layer_and_head():
    result = analysis.ablate_each_head(models()[0], IDS, layers=[1])
    ax = plots.plot_head_ablation(result, axes(), mark=[(1, 2)])
    np.testing.assert_allclose(image(ax), result.kl)
    assert ax.patches[0].get_xy() == (1.5, -0.5) and ticks(ax.get_yticklabels()) == ["1"]


def test_a_change_of_the_next_token_is_a_pair_of_bars_each():
    before, after = np.log([[0.7, 0.3], [0.4, 0.6]])
    change = analysis.next_token_change(before, after, models()[0].tokenizer)
    ax = plots.plot_next_token_change(change, axes())
    bars = {group.get_label(): [bar.get_width() for bar in group] for group in ax.containers}
    np.testing.assert_allclose(bars["before"], change.probs_before)
    np.testing.assert_allclose(bars["after"], change.probs_after)
    assert ticks(ax.get_yticklabels()) == ["@", "A"]
    assert ax.get_title("left") == f"KL {change.kl:.4f} nats"


def test_drift_is_drawn_for_each_activation(traced):
    drift = analysis.layer_divergence(traced[0], run(models()[1])[0])
    ax = plots.plot_layer_divergence(drift, axes())
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(lines["NMSE"], drift.nmse)
    np.testing.assert_allclose(lines["1 − cosine, mean of tokens"], 1 - drift.cosine)
    assert ticks(ax.get_xticklabels()) == list(drift.names)


def test_a_patch_scan_shows_the_damage_and_what_is_left(traced):
    scan = analysis.patch_by_layer(models()[1], *(traced[0], IDS, traced[1]))
    ax = plots.plot_patch_scan(scan, axes())
    bars = next(group for group in ax.containers if group.get_label().startswith("damage"))
    np.testing.assert_allclose([bar.get_height() for bar in bars], scan.damage)
    step = next(p for p in ax.patches if type(p).__name__ == "StepPatch")
    np.testing.assert_allclose(step.get_data().values, [scan.kl_before, *scan.kl_left])
    assert ticks(ax.get_xticklabels()) == ["none", *scan.stages]


def test_a_patch_map_shows_what_is_healed_within_its_scale(traced):
    healing = analysis.patch_by_position(models()[1], traced[0], IDS, traced[1], "abcdef")
    ax = plots.plot_patch_map(healing, axes())
    np.testing.assert_allclose(image(ax), np.clip(healing.healed, -1, 1))
    assert ticks(ax.get_xticklabels()) == list("abcdef")
    assert ticks(ax.get_yticklabels()) == list(healing.stages)
