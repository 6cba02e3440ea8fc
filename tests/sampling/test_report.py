"""The sentences of `explain`."""

import numpy as np
import pytest

from workbench.errors import ParameterError
from workbench.sampling import SamplerChain, SamplingParams, stages

LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.3, 0.15], np.float32))


def effects(settings, history=(), logits=LOGITS):
    return [report.effect for report in SamplerChain(settings).explain(logits, history)]


def test_stages_that_are_off_say_why():
    reports = SamplerChain(SamplingParams()).explain(LOGITS)
    assert [r.effect for r in reports if not r.active] == [
        "penalty_repeat 1, penalty_freq 0, penalty_present 0: off",
        "dry_multiplier 0: off",
        "top_n_sigma -1: off",
        "typ_p 1: off",
        "xtc_probability 0: off",
    ]
    assert all(r.before is r.after and not r.removed.size for r in reports if not r.active)


@pytest.mark.parametrize(
    ("settings", "effect"),
    [
        ({"penalty_last_n": 0}, "penalty_last_n 0: off"),
        ({"dry_multiplier": 1, "dry_penalty_last_n": 0}, "dry_penalty_last_n 0: off"),
        ({"dry_multiplier": 1, "dry_base": 0.5}, "dry_base 0.5: off"),
        ({"xtc_probability": 1, "xtc_threshold": 0.6}, "xtc_threshold 0.6: off"),
        ({"top_k": 0}, "top_k 0: off"),
        ({"top_p": 1}, "top_p 1: off"),
        ({"min_p": 0}, "min_p 0: off"),
        ({"temperature": 1}, "temperature 1: off"),
        ({"samplers": ["adaptive_p"]}, "adaptive_target -1: off"),
        ({"samplers": ["entropy_guided"]}, "entropy_threshold 0: off"),
    ],
)
def test_the_reason_names_the_setting(settings, effect):
    assert effect in effects(SamplingParams(**settings))


def test_a_stage_that_is_off_is_not_the_one_that_left_the_tokens():
    made = [stages.top_p(0.6), stages.min_p(0), stages.top_k(4)]
    assert effects(made)[1:] == ["min_p 0: off", "top_k 4 after top_p left 2: no effect"]


def test_penalties_count_the_tokens_that_they_lower():
    (effect,) = effects([stages.penalties(64, repeat=1.5)], [0, 0, 1, 4, 77])
    assert effect.startswith("penalties: lowered 3 tokens of the last 5, entropy 1.392 -> ")
    (effect,) = effects([stages.penalties(2, present=-1.0)], [0, 0, 1, 1])
    assert effect.startswith("penalties: raised 1 token of the last 2, entropy")
    assert effects([stages.penalties(64, repeat=1.5)]) == ["penalties on 5 tokens: no effect"]


def test_penalties_behind_a_cut_are_counted_too():
    made = [stages.top_k(3), stages.penalties(64, present=1.0)]
    assert effects(made, [0, 1, 2, 3])[1].startswith("penalties: lowered 2 tokens of the last 4")


def test_dry_and_bias_say_what_they_moved():
    (effect,) = effects([stages.dry(1.0, breakers=())], [0, 1, 2, 3, 0, 1, 2])
    assert effect.startswith("dry: lowered 1 token that would go on with a repeat, entropy")
    (effect,) = effects([stages.logit_bias({0: 1.0, 1: -1.0, 99: 1.0})])
    assert effect.startswith("logit_bias: moved 2 tokens of 3 in it, entropy")
    (effect,) = effects([stages.logit_bias({1: -np.inf})])
    assert effect == "logit_bias: kept 4 of 5 tokens, removed 40.00% of the probability"


def test_stages_that_decide_by_themselves_say_what_they_found():
    assert effects([stages.mirostat_v2(tau=1.0)]) == [
        "mirostat_v2 (mu 2.00 bits): kept 2 of 5 tokens, removed 30.00% of the probability"
    ]
    (effect,) = effects([stages.entropy_guided(1.0, 1.0)])
    assert effect == "entropy_guided (open: entropy 1.39, varentropy 0.35) on 5 tokens: no effect"
    (effect,) = effects([stages.xtc(1.0, 0.1)])
    assert effect == "xtc: kept 2 of 5 tokens, removed 85.00% of the probability"


@pytest.mark.parametrize("method", ["apply", "explain", "sample"])
def test_a_stage_that_leaves_nothing_is_named(method):
    chain = SamplerChain([stages.logit_bias(dict.fromkeys(range(5), -np.inf)), stages.top_k(2)])
    with pytest.raises(ParameterError, match="logit_bias: leaves no token that can be drawn"):
        getattr(chain, method)(LOGITS)
