"""The memory calculator of notebook 01, moved by mouse and keyboard."""

import pytest

from tests.browser.panel import Panel


@pytest.fixture
def calculator(notebooks) -> Panel:
    return Panel(notebooks["01_metadata_inspection"].panel("MemoryCalculator"))


def cache(calculator: Panel) -> float:
    """MB of the cached keys, as the table says."""
    row = calculator.output.locator("tr", has_text="cached").first
    return float(row.locator("td").nth(1).text_content())


def test_an_arrow_key_on_the_context_changes_picture_and_table_and_back(calculator):
    before, picture = cache(calculator), calculator.picture()
    for key, grows in (("ArrowRight", True), ("ArrowLeft", False)):
        address = calculator.address()
        calculator.press("n_ctx", key)
        calculator.wait_for_another_picture(address)
        assert (cache(calculator) > before) == grows
    assert calculator.picture() == picture and cache(calculator) == before


def test_a_smaller_type_of_cache_takes_less(calculator):
    before, address = cache(calculator), calculator.address()
    box = calculator.choice("type_k")
    first = box.input_value()
    assert first != "q4_0"
    box.select_option("q4_0")
    calculator.wait_for_another_picture(address)
    assert cache(calculator) < before
    address = calculator.address()
    box.select_option(first)
    calculator.wait_for_another_picture(address)
    assert cache(calculator) == before
