"""The token stepper of notebook 03, moved by mouse and keyboard."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.panel import Panel


@pytest.fixture
def stepper(notebooks) -> Panel:
    notebook = notebooks["03_tokenizer_tracing"]
    panel = Panel(notebook.panel("TokenStepper"))
    panel.type("text", "untidy dandelions")
    expect(panel.output).to_contain_text("unt")
    return panel


def steps(stepper: Panel) -> int:
    """How many steps the text takes."""
    return int(float(stepper.handle("step").get_attribute("aria-valuemax")))


def test_an_arrow_key_goes_one_step_and_the_sentences_and_the_tree_follow(stepper):
    n, before, address = steps(stepper), stepper.picture(), stepper.address()
    at = int(stepper.readout("step").text_content())
    stepper.press("step", "ArrowLeft")
    expect(stepper.readout("step")).to_have_text(str(at - 1))
    expect(stepper.output).to_contain_text(f"{at - 1} of {n} steps done")
    stepper.wait_for_another_picture(address)
    assert stepper.picture() != before
    address = stepper.address()
    stepper.press("step", "ArrowRight")
    expect(stepper.output).to_contain_text(f"{at} of {n} steps done")
    stepper.wait_for_another_picture(address)
    assert stepper.picture() == before


def test_the_mouse_drags_it_from_single_bytes_to_tokens(stepper):
    n, pieces = steps(stepper), stepper.output.locator(".widget-html-content").first
    stepper.drag("step", to=0)
    expect(stepper.output).to_contain_text(re.compile(rf"\b0 of {n} steps done"))
    expect(pieces).to_contain_text(re.compile(r"u\s*n\s*t\s*i\s*d\s*y"))
    stepper.drag("step", to=1)
    expect(stepper.output).to_contain_text(re.compile(rf"\b{n} of {n} steps done"))
    expect(pieces).to_contain_text("ions")


def test_another_text_is_traced(stepper):
    pieces = stepper.output.locator(".widget-html-content").first
    stepper.type("text", "a wizard")
    expect(pieces).to_contain_text("iz")
    expect(pieces).not_to_contain_text("unt")
