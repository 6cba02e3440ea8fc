"""Notebooks 03, 04 and 05 as a reader meets them: JupyterLab, a real browser, Run All Cells."""

import pytest

from tests.browser.conftest import NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_cell_runs_and_none_fails(notebooks, name):
    numbers = notebooks[name].prompts()
    assert notebooks[name].errors() == []
    assert numbers == [f"[{i + 1}]:" for i in range(notebooks[name].n_cells)]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_page_complains_about_nothing(notebooks, name):
    assert notebooks[name].complaints == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_jupyterlab_asks_nothing_that_would_lie_over_the_notebook(notebooks, name):
    assert notebooks[name].questions() == []
