import re
import sys
import threading
import time
from itertools import takewhile
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import BUILTIN_MODEL
from workbench import generate, load_model
from workbench.panels.sampling import SamplingPanel
from workbench.sampling import SamplingParams

BOS = 256


class BytesTokenizer:
    """One token per byte, and a BOS."""

    n_vocab, eog_ids, rules = 257, frozenset(), SimpleNamespace(clean_spaces=False)

    def encode(self, text, add_special=True, parse_special=False):
        return [BOS, *text.encode()]

    def decode_bytes(self, ids):
        return bytes(i for i in ids if i < BOS)

    def piece(self, token_id):
        return bytes([token_id]) if token_id < BOS else b""

    def token_text(self, token_id):
        return "<s>"


class Cache:
    """Only the ids that a cache would hold."""

    def __init__(self, n_ctx):
        self.n_ctx, self.ids = n_ctx, []

    def reuse(self, ids):
        same = (a == b for a, b in zip(self.ids, ids, strict=False))
        n = min(sum(takewhile(bool, same)), len(ids) - 1)
        del self.ids[n:]
        return n


class AlphabetModel:
    """Says the letter after the last one; counts its forward passes, and can be made to wait."""

    def __init__(self):
        self.tokenizer, self.device, self.n_forward = BytesTokenizer(), "cpu", 0
        self.n_tokens = 0  # that went through the model
        self.config = SimpleNamespace(n_ctx_train=64, n_vocab=257)
        self.may_go = threading.Semaphore(10**6)

    def new_cache(self, n_ctx=None):
        return Cache(n_ctx)

    def forward(self, token_ids, cache, last_only=False):
        assert self.may_go.acquire(timeout=10)
        cache.ids += [int(i) for i in token_ids]
        self.n_forward += 1
        self.n_tokens += len(token_ids)
        logits = np.zeros((1, 257), np.float32)
        logits[0, (token_ids[-1] + 1) % 256] = 9
        logits[0, (token_ids[-1] + 2) % 256] = 8
        if token_ids[-1] == ord("!"):
            raise RuntimeError("no more <b>letters</b>")
        return logits


@pytest.fixture
def panel():
    return SamplingPanel(AlphabetModel(), "ab", n_tokens=5)


def test_controls_start_with_the_given_settings_and_keep_those_without_a_slider():
    params = SamplingParams(
        temperature=3.5, top_k=500, top_p=0.3, min_p=0.2, typ_p=0.9, seed=7,
        penalty_repeat=1.2, penalty_last_n=9, mirostat_tau=3.0, samplers=("top_k", "temperature"),
    )  # fmt: skip
    assert SamplingPanel(AlphabetModel(), params=params).params == params


def test_moving_a_slider_redraws_without_inference(panel):
    before, n_forward = bytes(panel.bars.value), panel._model.n_forward
    panel.top_p.value = 0.5
    assert panel.next_token.n_kept == 1
    assert bytes(panel.bars.value) != before and bytes(panel.bars.value)[1:4] == b"PNG"
    assert panel._model.n_forward == n_forward == 1
    assert "top_p 0.5" in panel.stages.value


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "min_p", "typ_p"])
def test_every_slider_reaches_the_strip(panel, name):
    getattr(panel, name).value = 1 if name == "top_k" else 0.5
    rows = {row.name: row for row in panel.stage_rows}
    stage = {"temperature": "temp", "typ_p": "typical"}.get(name, name)
    assert rows[stage].active and rows[stage].changed
    assert rows[stage].label in panel.stages.value


def test_the_repeat_penalty_lowers_tokens_of_the_prompt(panel):
    panel.prompt.value = "abc" + chr(ord("c") + 1) + "ab"  # "c" is likeliest, and was there
    assert panel.next_token.pieces[0] == "c"
    before = panel.next_token.probs_after[0]
    panel.penalty_repeat.value = 2.0
    assert panel.next_token.probs_after[0] < before
    panel.penalty_last_n.value = 2  # only "ab" counts now
    assert panel.next_token.probs_after[0] == before


def test_a_new_prompt_runs_the_model_once_and_drops_the_text(panel):
    panel.generate(wait=True)
    n_forward = panel._model.n_forward
    panel.prompt.value = "xy"
    assert panel._model.n_forward == n_forward + 1
    assert panel.next_token.pieces[0] == "z"
    assert (panel.text, panel.token_buttons) == (None, [])


def test_generate_draws_the_text_with_the_sliders_settings(panel):
    panel.top_k.value = 1
    panel.generate(wait=True)
    assert (panel.text.text, panel.text.stop) == ("cdefg", "max_tokens")
    assert [button.description for button in panel.token_buttons] == list("cdefg")
    assert ">ab</div>" in panel.text_view.value and "5 tokens, … max_tokens" in panel.note.value
    assert (panel.generate_button.disabled, panel.stop_button.disabled) == (False, True)


def test_only_new_tokens_go_through_the_model(panel):
    panel.top_k.value = 1
    before = panel._model.n_tokens
    panel.generate(wait=True)
    assert panel._model.n_tokens - before == 5  # the last token of the prompt, then one for each


def test_the_panel_writes_what_generate_writes():
    params = SamplingParams(temperature=1.5, penalty_repeat=1.3, seed=3)
    with load_model(BUILTIN_MODEL, device="cpu") as model:
        panel = SamplingPanel(model, "Once upon a time", params, n_tokens=20)
        panel.generate(wait=True)
        steps = list(generate(model, "Once upon a time", params, max_tokens=20))
    assert panel.text.text == "".join(step.text for step in steps)
    np.testing.assert_array_equal(panel.text.token_ids, [step.token_id for step in steps])


def test_the_same_seed_gives_the_same_text_and_another_seed_another(panel):
    texts = []
    panel.temperature.value = 2
    panel.n_tokens.value = 30
    for seed in (1, 1, 2):
        panel.seed.value = seed
        panel.generate(wait=True)
        texts.append(panel.text.text)
    assert texts[0] == texts[1] != texts[2]


def test_a_click_on_a_token_shows_what_else_could_stand_there(panel):
    panel.top_k.value = 1
    panel.generate(wait=True)
    before = panel._model.n_tokens
    panel.token_buttons[2].click()
    assert (panel.place, panel.next_token.pieces[:2]) == (2, ("e", "f"))
    assert panel.text.text == "cdefg"  # it stays
    assert [b.description for b in panel.alternative_buttons[:2]] == ["e\u00a00.71", "f\u00a00.26"]
    assert (panel._model.n_tokens - before, panel.n_reused) == (1, 4)  # <s> a b c, then d
    framed = ["#d55e00" in b.layout.border_top for b in panel.token_buttons]
    assert framed == [False, False, True, False, False]


def test_a_click_on_an_alternative_goes_on_from_there(panel):
    panel.top_k.value = 1
    panel.generate(wait=True)
    panel.token_buttons[2].click()
    before = panel._model.n_tokens
    panel.alternative_buttons[1].click()
    panel.wait(10)
    assert (panel.text.text, panel.text.stop) == ("cdfghij", "max_tokens")
    assert panel._model.n_tokens - before == 5
    assert (panel.place, len(panel.token_buttons)) == (2, 7)


def test_generate_after_a_branch_starts_from_the_prompt_again(panel):
    panel.top_k.value = 1
    panel.generate(wait=True)
    panel.choose(3)
    panel.generate(wait=True)
    assert (panel.place, panel.text.text) == (0, "cdefg")
    assert panel.next_token.pieces[0] == "c"


def test_stop_ends_the_text_within_one_token(panel):
    panel.top_k.value, panel.n_tokens.value = 1, 40
    panel._model.may_go = gate = threading.Semaphore(0)
    panel.generate_button.click()
    gate.release(3)
    panel.stop_button.click()
    gate.release(1)
    panel.wait(10)
    assert not panel.running
    assert panel.text.n_tokens <= 4 and panel.text.stop is None
    assert panel.generate_button.disabled is False


def test_a_slider_moved_while_generating_changes_bars_but_not_the_running_text(panel):
    panel.top_k.value = 1
    panel._model.may_go = gate = threading.Semaphore(0)
    panel.generate()
    panel.generate()  # one at a time: this does nothing
    panel.top_k.value = 40
    assert panel.next_token.n_kept == 2
    wait_until(lambda: "counts from the next text on" in panel.note.value)
    gate.release(10)
    panel.generate(wait=True)
    assert panel.text.text == "cdefg"


def test_choosing_and_branching_while_generating_is_refused(panel):
    panel._model.may_go = gate = threading.Semaphore(0)
    panel.generate()
    panel.choose(0)
    assert panel.error == "place: the text is still being written; press Stop first"
    panel.branch(99)
    assert panel.error == "branch: the text is still being written; press Stop first"
    gate.release(10)
    panel.generate(wait=True)
    assert panel.text.n_tokens == 5


def test_a_new_prompt_while_generating_ends_the_text(panel):
    panel.n_tokens.value = 10**6
    panel._model.config.n_ctx_train = 10**7
    panel.generate()
    panel.prompt.value = "xy"
    assert not panel.running
    assert (panel.text, panel.next_token.pieces[0], panel.error) == (None, "z", None)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("temperature", -1, "temperature: out of range; expected a number from 0 up, got -1; it "
         "stays at 0.8"),
        ("temperature", float("nan"), "temperature: .* got nan; it stays at 0.8"),
        ("temperature", float("inf"), "temperature: .* got inf; it stays at 0.8"),
        ("top_p", 1.5, "top_p: out of range; expected a number from 0 to 1, got 1.5; it stays"),
        ("top_k", -3, "top_k: out of range; expected a whole number from 0 to 2,147,483,647"),
        ("penalty_repeat", 0, "penalty_repeat: out of range; expected a number from 0.01 up"),
        ("seed", -1, "seed: out of range; expected a whole number from 0 to 4,294,967,295"),
        ("n_tokens", 0, "n_tokens: out of range; expected a whole number from 1 to 1,000,000"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_sentence_and_changes_nothing(panel, name, value, sentence):
    before = getattr(panel, name).value
    getattr(panel, name).value = value
    assert re.match(sentence, panel.error) and panel.error in panel.message.value
    assert getattr(panel, name).value == before
    panel.top_p.value = 0.7
    assert panel.error is None


def test_a_slider_grows_to_a_value_beyond_its_end(panel):
    panel.temperature.value, panel.top_k.value = 7.5, 10**6
    assert (panel.params.temperature, panel.params.top_k, panel.error) == (7.5, 10**6, None)


@pytest.mark.parametrize("place", [-1, 5, 2.0, "a"])
def test_a_place_outside_the_text_is_one_sentence(panel, place):
    panel.generate(wait=True)
    panel.choose(place)
    assert (
        panel.error == f"place: no such token; expected a whole number from 0 to 4, got {place!r}"
    )


@pytest.mark.parametrize("token_id", [-1, 257, 1.5])
def test_a_branch_outside_the_vocabulary_is_one_sentence(panel, token_id):
    panel.branch(token_id)
    assert panel.error == (
        f"branch: no such token; expected a whole number from 0 to 256, got {token_id!r}"
    )


def test_an_error_in_a_callback_is_shown_escaped_and_goes_away(panel):
    panel.prompt.value = "a!"
    assert "RuntimeError" in panel.message.value and "&lt;b&gt;letters" in panel.message.value
    assert panel.summary().endswith("error: no more <b>letters</b>")
    assert panel.next_token is None
    panel.top_p.value = 0.4  # nothing to draw yet: the error stays
    assert panel.error is not None
    panel.prompt.value = "ab"
    assert (panel.error, panel.message.value) == (None, "")


def test_an_error_while_generating_is_shown_and_frees_the_buttons(panel):
    panel.top_k.value = 1
    panel.prompt.value = chr(ord("!") - 1)  # the model says "!" and then fails
    panel.generate(wait=True)
    assert panel.error == "no more <b>letters</b>"
    assert (panel.text.text, panel.generate_button.disabled) == ("!", False)


def test_a_prompt_too_long_is_one_sentence_in_the_panel(panel):
    panel.prompt.value = "a" * 100
    panel.generate(wait=True)
    assert panel.error == (
        "prompt: it does not fit; expected at most n_ctx_train = 64 tokens, got 101; shorten it"
    )


def test_a_text_ends_where_the_context_does(panel):
    panel.n_tokens.value = 1000
    panel.generate(wait=True)
    assert (panel.text.stop, panel.text.n_tokens, panel.error) == ("n_ctx", 62, None)


def test_hostile_tokens_are_escaped_and_line_breaks_break_the_line(panel):
    panel.top_k.value = 1
    panel.prompt.value = "<b>;"  # then "<", "=", ">"
    panel.n_tokens.value = 3
    panel.generate(wait=True)
    assert "&lt;b&gt;;" in panel.text_view.value and "<b>;" not in panel.text_view.value
    panel.prompt.value = "\t"
    panel.generate(wait=True)
    assert panel.token_buttons[0].description == "↵"
    assert panel._tokens.widget.children[1].layout.width == "100%"


def test_a_very_long_text_has_buttons_for_its_end_only(panel, monkeypatch):
    monkeypatch.setattr("workbench.panels.branching.MOST_BUTTONS", 3)
    panel.top_k.value = 1
    panel.generate(wait=True)
    assert [button.description for button in panel.token_buttons] == list("efg")
    assert ">abcd</div>" in panel.text_view.value
    panel.token_buttons[0].click()
    assert (panel.place, panel.next_token.pieces[0]) == (2, "e")


def test_summary_and_repr_are_stable_text(panel):
    panel.top_k.value = 1
    panel.generate(wait=True)
    assert panel.summary().splitlines() == [
        "prompt 'ab'",
        "temperature 0.8, top_k 1, top_p 0.95, min_p 0.05, typ_p 1, penalty_repeat 1, "
        "penalty_last_n 64, seed 0",
        "1 of 257 tokens left, entropy 0.80 -> 0.00 nats",
        "best: c 0.715 -> 1.000, d 0.263 -> 0.000, \\x00 0.000 -> 0.000",
        "5 tokens, stop max_tokens: 'cdefg'",
    ]
    assert repr(panel).startswith("SamplingPanel(prompt='ab', temperature 0.8, top_k 1, ")
    assert panel._repr_mimebundle_()["text/plain"] == repr(panel)


def test_no_pyplot_figure_is_left_behind(panel):
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def wait_until(condition):
    """Wait at most ten seconds for what another thread does."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
