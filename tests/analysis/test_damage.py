"""Silenced heads, two models' drift, and patches that heal one with the other."""

import numpy as np
import pytest

from tests.analysis.inside import IDS, models, run
from tests.model.tiny import f32_cache
from workbench import analysis
from workbench.errors import ParameterError
from workbench.model import ActivationTrace

SAME = 1e-6  # nats


def test_kl_is_zero_for_the_same_logits_and_right_by_hand():
    x = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    np.testing.assert_allclose(analysis.kl_by_position(x, x + 3), 0, atol=1e-12)
    uniform = np.zeros((2, 3))
    expected = [(np.exp(p) * (p + np.log(3))).sum() for p in x]
    np.testing.assert_allclose(analysis.kl_by_position(x, uniform), expected)


def test_every_head_is_silenced_in_turn():
    model = models()[0]
    result = analysis.ablate_each_head(model, IDS)
    whole = model.forward(IDS, f32_cache(model))[-1:]
    for layer, head in ((0, 0), (1, 3)):
        trace = ActivationTrace().ablate_heads(layer, head)
        without = model.forward(IDS, f32_cache(model), trace=trace)[-1:]
        expected = analysis.kl_by_position(whole, without)[0]
        assert result.kl[layer, head] == pytest.approx(expected, abs=SAME)
    assert result.token_id == whole.argmax() and result.kl.shape == (2, 4)
    table = result.to_frame()
    assert table["kl"].is_monotonic_decreasing and len(table) == 8


def test_layers_can_be_chosen():
    whole, one = (analysis.ablate_each_head(models()[0], IDS, layers=x) for x in (None, [1]))
    np.testing.assert_allclose(one.kl, whole.kl[1:], atol=SAME)
    assert set(one.to_frame()["layer"]) == {1}


def test_two_distributions_are_listed_by_the_larger_probability():
    before, after = np.log([[0.7, 0.2, 0.06, 0.04], [0.1, 0.2, 0.1, 0.6]])
    change = analysis.next_token_change(before, after, models()[0].tokenizer, n_top=3)
    np.testing.assert_array_equal(change.ids, [0, 3, 1])
    assert change.pieces == ("@", "C", "A") and (change.best_before, change.best_after) == (
        "@",
        "C",
    )
    np.testing.assert_allclose(change.to_frame()[["before", "after"]],
                               [[0.7, 0.1], [0.04, 0.6], [0.2, 0.2]])  # fmt: skip
    assert change.kl == pytest.approx(0.7 * np.log(7) + 0.06 * np.log(0.6) + 0.04 * np.log(1 / 15))


def test_divergence_by_hand():
    base = {"a": np.array([[3.0, 4.0], [1.0, 0.0]]), "b": np.ones((2, 1))}
    other = {"a": np.array([[3.0, 4.0], [0.0, 1.0]]), "c": np.ones(1)}
    result = analysis.layer_divergence(base, other)
    assert result.names == ("a",)
    np.testing.assert_allclose(result.nmse, 2 / 26)
    np.testing.assert_allclose((result.cosine[0], result.worst_cosine[0]), (0.5, 0.0))
    assert list(result.to_frame()["name"]) == ["a"]


def test_traces_that_cannot_be_compared_are_refused():
    with pytest.raises(ParameterError, match="share no name"):
        analysis.layer_divergence({"a": np.ones((1, 1))}, {"b": np.ones((1, 1))})
    with pytest.raises(ParameterError, match=r"a differs in shape; .*\(2, 1\), got \(3, 1\)"):
        analysis.layer_divergence({"a": np.ones((2, 1))}, {"a": np.ones((3, 1))})


def test_the_steps_of_a_patch_scan_add_up_to_the_whole_damage():
    model, damaged = models()
    clean, logits = run(model)
    scan = analysis.patch_by_layer(damaged, clean, IDS, logits)
    assert scan.stages == ("embedding", "layer 0", "layer 1", "head")
    expected = analysis.kl_by_position(logits, run(damaged)[1]).mean()
    assert scan.kl_before == pytest.approx(expected, abs=SAME)
    assert scan.damage.sum() == pytest.approx(scan.kl_before)
    assert scan.kl_left[-1] == 0 < scan.kl_left[-2]  # the output norm and head are damaged too
    np.testing.assert_allclose(scan.to_frame()["share"].sum(), 1)


def test_a_model_patched_with_its_own_stream_stays_what_it_is():
    model = models()[0]
    clean, logits = run(model)
    scan = analysis.patch_by_layer(model, clean, IDS, logits)
    np.testing.assert_allclose([scan.kl_before, *scan.kl_left], 0, atol=SAME)


def test_patching_the_last_position_last_heals_all_that_the_head_leaves():
    model, damaged = models()
    clean, logits = run(model)
    healing = analysis.patch_by_position(damaged, clean, IDS, logits, "abcdef")
    assert healing.kl_left.shape == (3, 6) and healing.pieces == tuple("abcdef")
    assert healing.kl_left[-1, -1] < healing.kl_before / 2  # what the head's own damage leaves
    np.testing.assert_allclose(healing.kl_left[-1, :-1], healing.kl_before, atol=SAME)
    np.testing.assert_allclose(healing.healed, 1 - healing.kl_left / healing.kl_before)


def test_fewer_stages_are_taken_evenly():
    model, damaged = models()
    clean, logits = run(model)
    healing = analysis.patch_by_position(damaged, clean, IDS, logits, n_stages=2)
    assert healing.stages == ("embedding", "layer 1")
