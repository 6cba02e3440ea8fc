"""What the pictures of a file show, read back from their artists."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from workbench.analysis.file_map import Memory, Size, SizeBy, Treemap, memory_by_part, size_by
from workbench.analysis.file_map import treemap as make_treemap
from workbench.gguf import open_gguf, write_gguf
from workbench.plots.file_map import COLOURS, plot_memory, plot_size_by, plot_treemap

MIB = 2**20


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def gguf(tmp_path):
    shapes = {"token_embd.weight": (64, 32), "output_norm.weight": (32,)}
    for i in range(3):
        shapes |= {f"blk.{i}.attn_q.weight": (32, 32), f"blk.{i}.ffn_up.weight": (64, 32)}
        shapes[f"blk.{i}.a${i}$ very long and odd \n name"] = (1, 1)
    tensors = {name: np.zeros(shape, "f4") for name, shape in shapes.items()}
    write_gguf(tmp_path / "made.gguf", {}, tensors)
    with open_gguf(tmp_path / "made.gguf") as opened:
        yield opened


def test_a_treemap_has_a_patch_for_each_rectangle_in_its_colour(gguf):
    tiles = make_treemap(gguf, 10, 6)
    ax = plot_treemap(tiles)
    assert len(ax.patches) == len(tiles.roles) + len(tiles.groups)
    for patch, rect in zip(ax.patches, tiles.roles, strict=False):
        assert (patch.get_x(), patch.get_y()) == (rect.x, rect.y)
        assert (patch.get_width(), patch.get_height()) == (rect.width, rect.height)
        assert matplotlib.colors.to_hex(patch.get_facecolor()) == COLOURS[rect.part].lower()
    assert ax.get_ylim() == (6, 0)  # y grows downwards, as in the layout


def test_a_treemap_names_what_has_room_and_only_that(gguf):
    ax = plot_treemap(make_treemap(gguf, 10, 6))
    names = [text.get_text() for text in ax.texts]
    assert names.count("attn_q") == 3 and names.count("token_embd") == 1
    assert {"layer 0", "layer 1", "layer 2"} <= set(names)
    assert not any("odd" in name or "output_norm" in name for name in names)
    small = plt.figure(figsize=(0.5, 0.5)).subplots()
    assert not plot_treemap(make_treemap(gguf, 10, 6), small).texts


def test_names_stay_inside_their_rectangles_when_drawn(gguf):
    tiles = make_treemap(gguf, 10, 6)
    ax = plot_treemap(tiles)
    ax.figure.canvas.draw()
    for text in ax.texts:
        box = text.get_window_extent().transformed(ax.transData.inverted())
        if not text.get_text().startswith("layer"):
            middle = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
            rect = next(
                r
                for r in tiles.roles
                if r.x < middle[0] < r.x + r.width and r.y < middle[1] < r.y + r.height
            )
            assert rect.name == text.get_text() and abs(box.x1 - box.x0) < rect.width


def test_the_legend_lists_the_parts_that_occur_with_their_sizes(gguf):
    labels = [text.get_text() for text in plot_treemap(make_treemap(gguf)).get_legend().get_texts()]
    assert [label.split()[0] for label in labels] == [
        "embedding", "attention", "feed-forward", "norms", "other",
    ]  # fmt: skip
    assert labels[0] == "embedding 8 KiB"


def test_bars_by_role_show_mib_the_largest_on_top(gguf):
    sizes = size_by(gguf, "role")
    ax = plot_size_by(sizes)
    widths = [bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(widths, [size.nbytes / MIB for size in sizes.sizes])
    assert ax.get_xlabel() == "size (MiB)" and ax.get_ylabel() == "role"
    assert ax.get_yticklabels()[0].get_text() == "ffn_up" and ax.yaxis_inverted()
    assert ax.texts[0].get_text() == "24 KiB, 32 bpw"


def test_bars_by_layer_stand_in_order(gguf):
    ax = plot_size_by(size_by(gguf, "layer"))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "2", "none"]
    assert ax.get_ylabel() == "size (MiB)"


def test_the_kv_cache_is_a_bar_only_where_its_size_is_known(gguf):
    parts = {"metadata": MIB, "attention": 3 * MIB}
    ax = plot_memory(Memory(parts, 128, 2 * MIB))
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], [1, 3, 2])
    assert ax.get_yticklabels()[2].get_text() == "KV cache (f16, n_ctx 128)"
    assert ax.get_title() == "6 MiB in all" and ax.get_xlabel() == "size (MiB)"
    assert len(plot_memory(memory_by_part(gguf, 128)).patches) == 7


def test_plots_draw_into_the_axes_they_are_given(gguf):
    fig, axes = plt.subplots(3)
    assert plot_treemap(make_treemap(gguf), axes[0]) is axes[0]
    assert plot_size_by(size_by(gguf, "type"), axes[1]) is axes[1]
    assert plot_memory(memory_by_part(gguf, 1), axes[2]) is axes[2]
    fig.canvas.draw()


def test_a_file_without_tensors_gives_empty_pictures():
    assert not plot_treemap(Treemap(1, 1, (), ())).patches
    for by in ("role", "layer"):
        assert not plot_size_by(SizeBy(by, ())).patches
    plt.gcf().canvas.draw()


def test_sizes_above_a_gibibyte_are_written_in_full():
    ax = plot_size_by(SizeBy("type", (Size("Q4_K", 5000 * MIB, 2**30, 9),)))
    assert ax.texts[0].get_text().startswith("5,000 MiB") and "5,000 MiB" in ax.get_title()
