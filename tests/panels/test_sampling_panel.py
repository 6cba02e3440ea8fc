import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

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


class AlphabetModel:
    """Says the letter after the last one; counts its forward passes, and can be made to wait."""

    def __init__(self):
        self.tokenizer, self.device, self.n_forward = BytesTokenizer(), "cpu", 0
        self.config = SimpleNamespace(n_ctx_train=64, n_vocab=257)
        self.may_go = threading.Semaphore(10**6)

    def new_cache(self, n_ctx=None):
        return SimpleNamespace(n_ctx=n_ctx, n_past=0)

    def forward(self, token_ids, cache, last_only=False):
        assert self.may_go.acquire(timeout=10)
        cache.n_past += len(token_ids)
        self.n_forward += 1
        logits = np.zeros((1, 257), np.float32)
        logits[0, (token_ids[-1] + 1) % 256] = 9
        logits[0, (token_ids[-1] + 2) % 256] = 8
        if token_ids[-1] == ord("!"):
            raise RuntimeError("no more <b>letters</b>")
        return logits


@pytest.fixture
def panel():
    return SamplingPanel(AlphabetModel(), "ab", n_tokens=5)


def test_controls_start_with_the_given_settings():
    params = SamplingParams(temperature=3.5, top_k=500, top_p=0.3, min_p=0.2, seed=7)
    assert SamplingPanel(AlphabetModel(), params=params).params == params


def test_moving_a_slider_redraws_without_inference(panel):
    before, n_forward = bytes(panel.bars.value), panel._model.n_forward
    panel.top_p.value = 0.5
    assert panel.next_token.n_kept == 1
    assert bytes(panel.bars.value) != before and bytes(panel.bars.value)[1:4] == b"PNG"
    assert panel._model.n_forward == n_forward == 1
    assert "top_p(p=0.5)" in panel.stages.value


def test_a_new_prompt_runs_the_model_once(panel):
    panel.prompt.value = "xy"
    assert panel._model.n_forward == 2
    assert panel.next_token.pieces[0] == "z"


def test_generate_draws_the_text_with_the_sliders_settings(panel):
    panel.top_k.value = 1
    panel.generate(wait=True)
    assert (panel.text.text, panel.text.stop) == ("cdefg", "max_tokens")
    assert panel.text_view.value.count("<span title=") == 5
    assert (panel.generate_button.disabled, panel.stop_button.disabled) == (False, True)


def test_the_same_seed_gives_the_same_text_and_another_seed_another(panel):
    texts = []
    panel.temperature.value = 2
    panel.n_tokens.value = 30
    for seed in (1, 1, 2):
        panel.seed.value = seed
        panel.generate(wait=True)
        texts.append(panel.text.text)
    assert texts[0] == texts[1] != texts[2]


def test_stop_ends_the_text_within_one_token(panel):
    panel.top_k.value, panel.n_tokens.value = 1, 40
    panel._model.may_go = gate = threading.Semaphore(0)
    panel.generate_button.click()
    gate.release(3)
    panel.stop_button.click()
    gate.release(1)
    panel._thread.join(timeout=10)
    assert not panel._thread.is_alive()
    assert panel.text.n_tokens <= 4 and panel.text.stop is None
    assert panel.generate_button.disabled is False


def test_a_slider_moved_while_generating_changes_bars_but_not_the_running_text(panel):
    panel.top_k.value = 1
    panel._model.may_go = gate = threading.Semaphore(0)
    panel.generate()
    panel.generate()  # one at a time: this does nothing
    panel.top_k.value = 40
    gate.release(10)
    panel.generate(wait=True)
    assert panel.text.text == "cdefg"
    assert panel.next_token.n_kept == 2


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
    assert "the prompt does not fit; expected at most n_ctx = 64 tokens" in panel.error


def test_summary_and_repr_are_stable_text(panel):
    panel.top_k.value = 1
    panel.generate(wait=True)
    assert panel.summary().splitlines() == [
        "prompt 'ab'",
        "temperature 0.8, top_k 1, top_p 0.95, min_p 0.05, seed 0",
        "1 of 257 tokens left, entropy 0.80 -> 0.00 nats",
        "best: c 0.715 -> 1.000, d 0.263 -> 0.000, \\x00 0.000 -> 0.000",
        "5 tokens, stop max_tokens: 'cdefg'",
    ]
    assert repr(panel).startswith("SamplingPanel(prompt='ab', params=SamplingParams(")
    assert panel._repr_mimebundle_()["text/plain"] == repr(panel)


def test_no_pyplot_figure_is_left_behind(panel):
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
