"""Attention against its definition, written out: windows, chunks, caps, sinks, slopes, tiles."""

import numpy as np
import pytest

from workbench.ops import cpu_attention
from workbench.ops.cpu_attention import (
    AttentionRules,
    attention,
    attention_probs,
    attention_scores,
    attention_values,
)
from workbench.ops.cpu_attention_row import reads

RNG = np.random.default_rng(11)
SAME = 2e-6  # float32 sums in another order, of numbers about 1
SINKS, SLOPES = (RNG.standard_normal(6).astype(np.float32) for _ in range(2))
RULES = {
    "plain": {},
    "window": {"window": 5},
    "window of one": {"window": 1},
    "chunk": {"window": 7, "chunked": True},
    "soft cap": {"softcap": 2.0},
    "sinks": {"sinks": SINKS},
    "slopes": {"slopes": abs(SLOPES)},
    "all": {"window": 9, "softcap": 3.0, "sinks": SINKS, "slopes": abs(SLOPES)},
}


def inputs(t, s, dtype=np.float32):
    q = RNG.standard_normal((t, 6, 8)).astype(np.float32)
    k, v = (RNG.standard_normal((s, 2, d)).astype(dtype) for d in (8, 4))
    return q, k, v


def by_definition(q, k, v, rules, position):
    """Query by query, head by head, in float64."""
    first, out = position - (len(k) - len(q)), []
    for i, heads in enumerate(q.astype(np.float64)):
        p = position + i
        keys = [j for j in range(len(k)) if first + j <= p]
        if rules.window and rules.chunked:
            keys = [j for j in keys if (first + j) // rules.window == p // rules.window]
        elif rules.window:
            keys = [j for j in keys if p - (first + j) < rules.window]
        row = []
        for h, query in enumerate(heads):
            x = np.array([query @ k[j, h // 3].astype(np.float64) for j in keys])
            x = rules.softcap * np.tanh(x / rules.softcap) if rules.softcap else x
            x = x * rules.scale
            if rules.slopes is not None:
                x -= rules.slopes[h] * (p - first - np.array(keys))
            weights = np.exp(x)
            sink = 0 if rules.sinks is None else np.exp(np.float64(rules.sinks[h]))
            row.append(weights / (weights.sum() + sink) @ v[keys, h // 3].astype(np.float64))
        out.append(np.concatenate(row))
    return np.array(out)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("t", "s", "position"), [(20, 20, 0), (1, 20, 19), (6, 20, 33)])
@pytest.mark.parametrize("tile", [1 << 18, 40])
def test_attention_is_its_definition(name, t, s, position, tile, monkeypatch):
    monkeypatch.setattr(cpu_attention, "SCORES_PER_TILE", tile)
    monkeypatch.setattr(cpu_attention, "HISTORY_PER_TILE", tile * 4)
    (q, k, v), rules = inputs(t, s), AttentionRules(0.3, **RULES[name])
    expected = by_definition(q, k, v, rules, position)
    np.testing.assert_allclose(attention(q, k, v, rules, position), expected, 0, SAME)
    probs = attention_probs(attention_scores(q, k), rules, position)
    np.testing.assert_allclose(attention_values(probs, v), expected, 0, SAME)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("d", "dv"), [(16, 16), (48, 80), (64, 128)])
@pytest.mark.parametrize("s", [1, 31, 70])
def test_one_token_reads_a_float16_cache_as_it_lies(name, d, dv, s):
    q = RNG.standard_normal((1, 6, d)).astype(np.float32)
    k, v = (RNG.standard_normal((s + 3, 4, n)).astype(np.float16)[3:, ::2] for n in (d, dv))
    rules, position = AttentionRules(0.1, **RULES[name]), s + 11
    assert reads(k) and reads(v)
    expected = by_definition(q, k, v, rules, position)
    np.testing.assert_allclose(attention(q, k, v, rules, position), expected, 0, 4 * SAME)


def test_the_matrices_of_one_token_come_from_the_cache_as_it_lies():
    rng = np.random.default_rng(5)
    q = rng.standard_normal((1, 4, 32)).astype(np.float32)
    k, v = rng.standard_normal((2, 9, 2, 32)).astype(np.float16)
    scores = attention_scores(q, k)
    np.testing.assert_allclose(scores, attention_scores(q, k.astype(np.float32)), 0, 1e-5)
    shares = np.asfortranarray(attention_probs(scores, AttentionRules(0.2), 8))
    mixed = attention_values(shares.astype(np.float64), v)
    np.testing.assert_allclose(mixed, attention_values(shares, v.astype(np.float32)), 0, 1e-5)


def test_other_caches_are_widened_first():
    k = np.zeros((3, 2, 16), np.float16)
    assert not reads(k[:, :, :8]) and not reads(k[:, :, ::-1]) and not reads(k[:0])
    assert not reads(k.astype(np.float32)) and not reads(k.astype(">f2"))


def test_scores_are_raw_and_shares_hide_the_future():
    q, k, _ = inputs(4, 9)
    raw = np.einsum("thd,shd->hts", q, np.repeat(k, 3, axis=1))
    scores = attention_scores(q, k)
    np.testing.assert_allclose(scores, raw, 0, SAME)
    probs = attention_probs(scores, AttentionRules(0.3), 5)
    np.testing.assert_allclose(scores, raw, 0, SAME)  # not changed
    np.testing.assert_allclose(probs.sum(-1), 1, 0, SAME)
    assert not probs[:, 0, 6:].any()


def test_sinks_take_a_share_that_nobody_gets():
    q, k, v = inputs(4, 9)
    rules = AttentionRules(0.3, sinks=np.full(6, 50, np.float32))
    assert abs(attention(q, k, v, rules, 5)).max() < 1e-6


def test_half_precision_keys_and_values_are_widened():
    q, k, v = inputs(5, 9, np.float16)
    rules = AttentionRules(0.3)
    wide = attention(q, k.astype(np.float32), v.astype(np.float32), rules, 4)
    np.testing.assert_array_equal(attention(q, k, v, rules, 4), wide)


def test_attention_of_two_positions_by_hand():
    # The second query scores ln 3 with the first key and 0 with itself: shares 3/4 and 1/4.
    q = np.array([[[5.0]], [[1.0]]], np.float32)
    k = np.array([[[np.log(3)]], [[0.0]]], np.float32)
    v = np.array([[[4.0]], [[8.0]]], np.float32)
    np.testing.assert_allclose(attention(q, k, v, AttentionRules(1.0), 0), [[4], [5]], rtol=1e-6)


def test_attention_with_shared_kv_heads_equals_repeated_ones():
    (q, k, v), rules = inputs(5, 9), AttentionRules(0.3)
    repeated = attention(q, np.repeat(k, 3, axis=1), np.repeat(v, 3, axis=1), rules, 4)
    np.testing.assert_allclose(attention(q, k, v, rules, 4), repeated, 0, SAME)


def test_the_first_position_that_is_seen():
    assert [AttentionRules(1.0).oldest(p) for p in (0, 7)] == [0, 0]
    assert [AttentionRules(1.0, window=3).oldest(p) for p in (0, 2, 3, 7)] == [0, 0, 1, 5]
    assert [AttentionRules(1.0, window=3, chunked=True).oldest(p) for p in (2, 3, 7)] == [0, 3, 6]
