"""The memory calculator of notebook 01, moved by mouse and keyboard.

Its table is drawn after its picture, so what the table says tells that both are there.
"""

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.panel import Panel


@pytest.fixture
def calculator(notebooks) -> Panel:
    return Panel(notebooks["01_metadata_inspection"].panel("MemoryCalculator"))


def cached(calculator: Panel) -> Locator:
    """The cell of the table with the MB of the cached keys."""
    return calculator.output.locator("tr", has_text="cached").first.locator("td").nth(1)


def test_an_arrow_key_on_the_context_changes_picture_and_table_and_back(calculator):
    keys = cached(calculator)
    before, picture = keys.text_content(), calculator.picture()
    calculator.press("n_ctx", "ArrowRight")
    expect(keys).not_to_have_text(before)
    assert float(keys.text_content()) > float(before)
    assert calculator.picture() != picture
    calculator.press("n_ctx", "ArrowLeft")
    expect(keys).to_have_text(before)
    assert calculator.picture() == picture


def test_a_smaller_type_of_cache_takes_less(calculator):
    keys, box = cached(calculator), calculator.choice("type_k")
    before, first = keys.text_content(), box.input_value()
    box.select_option("q4_0")
    expect(keys).not_to_have_text(before)
    assert float(keys.text_content()) < float(before)
    box.select_option(first)
    expect(keys).to_have_text(before)
