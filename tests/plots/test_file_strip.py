"""The strip of a file, the type matrix and the memory bar show the numbers they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import workbench as wb
from tests.conftest import BUILTIN_MODEL
from workbench import plots
from workbench.errors import ParameterError


@pytest.fixture(scope="module")
def gguf():
    with wb.open_gguf(BUILTIN_MODEL) as gguf:
        yield gguf


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def bars(ax):
    boxes = [path.get_extents() for c in ax.collections for path in c.get_paths()]
    return sorted((box.x0, box.x1) for box in boxes)


def test_the_strips_cover_the_file_and_what_is_before_its_tensors(gguf):
    whole, head = plots.plot_file_strip(gguf.layout)
    for ax, end, unit in ((whole, gguf.size, 1e6), (head, gguf.data_offset, 1e3)):
        drawn = bars(ax)
        assert drawn[0][0] == 0 and drawn[-1][1] == pytest.approx(end / unit)
        np.testing.assert_allclose([a for a, _ in drawn[1:]], [b for _, b in drawn[:-1]], atol=1e-6)
    labels = [text.get_text() for text in whole.get_legend().get_texts()]
    assert labels == ["header", "metadata", "infos", "padding", "tensors F16", "tensors F32"]


def test_a_file_that_is_not_there_is_refused(gguf):
    with pytest.raises(ParameterError, match="expected from 0 to 0, got 1"):
        plots.plot_file_strip(gguf.layout, shard=1)


def test_the_matrix_names_each_type_and_colours_it_by_bits(gguf):
    types = wb.analysis.type_matrix(gguf)
    ax = plots.plot_type_matrix(types)
    image = ax.images[0].get_array()
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    row, column = list(types.index).index("3"), list(types.columns).index("attn_q")
    assert image[row, column] == 16 and texts[column, row] == "F16"
    assert len(texts) == (types != "").to_numpy().sum()


def test_the_bar_has_a_piece_for_each_term(gguf):
    model = wb.analysis.memory_model(gguf, 512, "q8_0", "q4_0")
    ax = plots.plot_memory_model(model)
    widths = [patch.get_width() for patch in ax.patches]
    np.testing.assert_allclose(widths, [term.nbytes / 1e6 for term in model.terms])
    assert f"{model.total / 1e6:,.1f} in all" in ax.get_xlabel()
