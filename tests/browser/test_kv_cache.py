"""The KV cache panel of notebook 04, moved by mouse and keyboard."""

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.panel import Panel


@pytest.fixture
def kv(notebooks) -> Panel:
    return Panel(notebooks["04_kv_cache"].panel("KVCachePanel"))


def tokens(kv: Panel) -> Locator:
    """The tokens of the text, up to the one that looks."""
    return kv.output.locator('span[title^="position"]')


def expect_step(kv: Panel, step: int) -> None:
    expect(kv.readout("step")).to_have_text(str(step))
    expect(tokens(kv).last).to_have_attribute("title", re.compile(f"^position {step},"))


def test_arrow_keys_move_the_step_and_the_text_and_the_picture_follow(kv):
    at, pictures = int(kv.readout("step").text_content()), []
    for key, step in (("ArrowLeft", at - 1), ("ArrowRight", at), ("ArrowLeft", at - 1)):
        address = kv.address()
        kv.press("step", key)
        expect_step(kv, step)
        kv.wait_for_another_picture(address)
        pictures.append(kv.picture())
    before, after, again = pictures
    assert before == again != after


def test_the_mouse_drags_the_step_from_the_first_token_to_the_last(kv):
    last = int(float(kv.handle("step").get_attribute("aria-valuemax")))
    kv.drag("step", to=0)
    expect_step(kv, 0)
    expect(tokens(kv)).to_have_count(1)
    kv.drag("step", to=1)
    expect_step(kv, last)
    expect(tokens(kv)).to_have_count(last + 1)


def test_a_smaller_budget_crosses_tokens_out_and_a_full_one_none(kv):
    evicted = kv.output.locator('span[title$="evicted"]')
    kv.drag("budget", to=0.3)
    expect(evicted.first).to_have_css("text-decoration-line", "line-through")
    expect(kv.output).not_to_contain_text("step, 0.0% of all")
    kv.drag("budget", to=1)
    expect(evicted).to_have_count(0)
    expect(kv.output).to_contain_text("step, 0.0% of all")


def test_another_policy_crosses_out_other_tokens(kv):
    everything = crossed_out(kv, other_than="nothing")
    kv.drag("budget", to=0.3)
    window = crossed_out(kv, other_than=everything)
    kv.choice("policy").select_option("h2o")
    heavy = crossed_out(kv, other_than=window)
    assert heavy.count("evicted") == window.count("evicted")
    expect(kv.output).to_contain_text("h2o, budget")
    kv.choice("policy").select_option("streaming_llm")
    assert crossed_out(kv, other_than=heavy) == window
    kv.drag("budget", to=1)


def crossed_out(kv: Panel, other_than: str) -> str:
    """The tokens that are crossed out, once they are others."""
    titles = """([output, old]) => {
        const spans = [...output.querySelectorAll('span[title$="evicted"]')];
        const titles = spans.map(span => span.title).join();
        return titles !== old && {titles};
    }"""
    arguments = [kv.output.element_handle(), other_than]
    return kv.page.wait_for_function(titles, arg=arguments).json_value()["titles"]
