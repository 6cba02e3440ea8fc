"""The sampling panel of notebook 05, moved by mouse and keyboard."""

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.panel import Panel

MANY = 300  # tokens: more than are written while a hand goes to Stop, each with a button


@pytest.fixture
def sampler(notebooks) -> Panel:
    notebook = notebooks["05_sampling_controls"]
    return Panel(notebook.panel("SamplingPanel"))


def tokens(sampler: Panel) -> Locator:
    """The buttons of the text that was written."""
    return sampler.output.locator("button[title*=probability]")


def alternatives(sampler: Panel) -> Locator:
    """The buttons of what could stand at the chosen place."""
    return sampler.output.locator('button[title^="go on with token"]')


def write(sampler: Panel, n_tokens: int) -> list[str]:
    """Press Generate after another number of tokens than are there; the tokens, once they are."""
    sampler.type("n_tokens", str(n_tokens))
    sampler.button("Generate").click()
    expect(tokens(sampler)).to_have_count(n_tokens)
    return tokens(sampler).all_text_contents()


def ask(sampler: Panel, prompt: str) -> None:
    """Type a prompt; the text of the one before goes."""
    sampler.type("prompt", prompt)
    expect(tokens(sampler)).to_have_count(0)


def stage(sampler: Panel, name: str) -> Locator:
    """The row of a stage in the strip; its title is the stage's sentence."""
    return sampler.output.locator(f'tr[title^="{name} "]')


@pytest.mark.parametrize(
    "name, row, last, n_steps", [("top_p", "top_p", 1, 1), ("temperature", "temp", 2, 20)]
)
def test_arrow_keys_move_a_slider_a_step_each_and_the_bars_and_the_stages_follow(
    sampler, name, row, last, n_steps
):
    ask(sampler, "Once upon a time, there was a very")
    pictures = []
    moves = ("End", 1, last), ("ArrowLeft", n_steps, last - n_steps / 100), ("End", 1, last)
    for key, times, value in moves:
        sampler.press(name, key, times)
        expect(sampler.readout(name)).to_have_text(f"{value:.2f}")
        expect(stage(sampler, row)).to_have_attribute("title", re.compile(f"^{row} {value:g}: "))
        pictures.append(sampler.picture())
    at_the_end, before, again = pictures
    assert at_the_end == again != before


def test_the_mouse_drags_top_p_to_the_left_until_one_token_is_left(sampler):
    sampler.drag("top_p", to=0)
    expect(sampler.readout("top_p")).to_have_text("0.00")
    expect(stage(sampler, "top_p")).to_contain_text("→ 1")
    expect(stage(sampler, "min_p")).to_contain_text("1 → 1")
    sampler.drag("top_p", to=1)
    expect(sampler.readout("top_p")).to_have_text("1.00")
    expect(stage(sampler, "top_p")).to_contain_text("top_p 1: off")


def test_stop_ends_the_text_early(sampler):
    ask(sampler, "Once upon a time there was a little")
    sampler.tap("penalty_repeat", at=0.25)  # a text that likes to repeat itself has no end
    expect(sampler.output).to_contain_text("raised")  # by the penalties' row: it has arrived
    sampler.type("n_tokens", str(MANY))
    sampler.button("Generate").click()
    expect(sampler.output.locator("span[title]").nth(2)).to_be_visible()  # it grows
    sampler.button("Stop").click()
    expect(sampler.output).to_contain_text("tokens, stopped")
    stopped = tokens(sampler).all_text_contents()
    one_more = write(sampler, len(stopped) + 1)
    assert 3 <= len(stopped) < MANY and one_more[:-1] == stopped
    sampler.tap("penalty_repeat", at=0.5)


def test_a_click_on_a_token_and_on_an_alternative_goes_on_from_there(sampler):
    ask(sampler, "Once upon a time, there was a big")
    text = write(sampler, 12)
    tokens(sampler).nth(4).click()
    expect(sampler.output).to_contain_text(re.compile(r"at place 4\b"))
    second = alternatives(sampler).nth(1)
    piece = second.text_content().split()[0].replace("␣", "")
    second.click()
    expect(tokens(sampler)).to_have_count(4 + 12)  # what is kept, and as many new ones
    branch = tokens(sampler).all_text_contents()
    assert branch[:4] == text[:4] and piece in branch[4] and branch[4] != text[4]


def test_a_prompt_that_does_not_fit_is_told_in_the_panel_and_the_next_one_works(sampler):
    sampler.type("prompt", "word " * 2000)
    expect(sampler.output).to_contain_text("ContextFullError: prompt: it does not fit")
    sampler.type("prompt", "Once upon a time, there was a")
    expect(sampler.output).not_to_contain_text("ContextFullError")
    expect(alternatives(sampler).first).to_be_visible()


def test_another_prompt_gives_other_bars(sampler):
    before, address = sampler.picture(), sampler.address()
    ask(sampler, "The cat sat on the")
    sampler.wait_for_another_picture(address)
    assert sampler.picture() != before
