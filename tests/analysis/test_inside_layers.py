"""Attention in numbers, the stream and its parts, the logit lens, a logit taken apart."""

import numpy as np
import pytest

from tests.analysis.inside import IDS, models, run
from tests.model.tiny import load, metadata, tensors
from workbench import analysis
from workbench.errors import ParameterError

ROUNDING = 1e-5  # float32 activations, summed in float64


def made_up(*heads):
    return {"kq_soft_max-3": np.array(heads, np.float32), "l_out-3": np.zeros((3, 2))}


def test_heads_that_look_at_one_place_are_told_apart():
    first = [[1, 0, 0], [1, 0, 0], [1, 0, 0]]
    previous = [[1, 0, 0], [1, 0, 0], [0, 1, 0]]
    itself = np.eye(3)
    even = np.tri(3) / np.arange(1, 4)[:, None]
    nowhere = np.zeros((3, 3))  # all of it to a sink
    maps = analysis.attention_maps(made_up(first, previous, itself, even, nowhere))
    np.testing.assert_allclose(maps.to_first, [1, 0.5, 0, (1 / 2 + 1 / 3) / 2, 0], atol=1e-7)
    np.testing.assert_allclose(maps.to_previous, [0.5, 1, 0, (1 / 2 + 1 / 3) / 2, 0], atol=1e-7)
    np.testing.assert_allclose(maps.to_itself, [0, 0, 1, (1 / 2 + 1 / 3) / 2, 0], atol=1e-7)
    np.testing.assert_allclose(maps.to_sink, [0, 0, 0, 0, 1], atol=1e-7)
    np.testing.assert_allclose(maps.distance, [1.5, 1, 0, 0.75, 0], atol=1e-7)
    entropy = (np.log(2) + np.log(3)) / 2
    np.testing.assert_allclose(maps.entropy, [0, 0, 0, entropy, 0], atol=1e-6)
    assert maps.best("to_previous") == (3, 1) and maps.best("to_sink") == (3, 4)
    assert list(maps.to_frame()["head"]) == [0, 1, 2, 3, 4]


def test_maps_of_later_tokens_count_positions_from_the_start():
    probs = np.array([[[0, 0, 1, 0], [0, 0, 1, 0]]], np.float32)  # positions 2 and 3 of 4
    maps = analysis.attention_maps({"kq_soft_max-0": probs})
    assert (maps.to_itself[0], maps.to_previous[0], maps.distance[0]) == (0.5, 0.5, 0.5)
    assert maps.pieces == ("0", "1", "2", "3")


def test_maps_of_a_model_have_a_row_a_head_and_full_shares():
    trace, _ = run(models()[0])
    maps = analysis.attention_maps(trace, "abcdef")
    assert len(maps.layers) == 8 and maps.maps[1].shape == (4, 6, 6)
    np.testing.assert_allclose(maps.to_sink, 0, atol=1e-6)


def test_wrong_maps_are_refused():
    with pytest.raises(
        ParameterError, match="no attention maps; expected kq_soft_max-N, got l_out-0"
    ):
        analysis.attention_maps({"l_out-0": np.zeros((2, 2))})
    with pytest.raises(ParameterError, match="a text for each of the 3 positions, got 2"):
        analysis.attention_maps(made_up(np.eye(3)), ["a", "b"])
    with pytest.raises(ParameterError, match="no such number of a head"):
        analysis.attention_maps(made_up(np.eye(3))).best("kl")


def test_the_parts_of_the_stream_are_what_attention_and_network_put_out():
    trace, _ = run(models()[0], ["*"])
    norms = analysis.residual_norms(trace)
    for layer in range(2):
        for ours, name in ((norms.attention, "attn_out"), (norms.ffn, "ffn_out")):
            expected = np.linalg.norm(trace[f"{name}-{layer}"], axis=1)
            np.testing.assert_allclose(ours[layer], expected, 1e-5)
    np.testing.assert_allclose(norms.stream[0], np.linalg.norm(trace["inp_embd"], axis=1), 1e-6)
    assert list(norms.to_frame().columns) == ["layer", "stream", "attention", "ffn"]


@pytest.mark.parametrize("function", [analysis.residual_norms, analysis.layer_divergence])
def test_missing_activations_are_named(function):
    one = {"attn_out-0": np.zeros((2, 2))}
    with pytest.raises(ParameterError, match="activations: "):
        function(one) if function is analysis.residual_norms else function(one, {})
    with pytest.raises(
        ParameterError, match=r"inp_embd is missing; .* trace of analysis\.stream_taps"
    ):
        analysis.residual_norms({"l_out-0": np.zeros((2, 2))})


def test_the_lens_after_the_last_layer_is_the_model():
    model = models()[0]
    trace, logits = run(model)
    lens = analysis.logit_lens(model, trace, IDS)
    assert lens.stages == ("embedding", "layer 0", "layer 1") and lens.pieces[0] == "C"
    np.testing.assert_array_equal(lens.top_ids[-1], logits.argmax(axis=1))
    probs = np.exp(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
    np.testing.assert_allclose(lens.top_probs[-1], probs.max(axis=1), 1e-4)
    np.testing.assert_allclose(lens.final_probs[-1], lens.top_probs[-1])
    np.testing.assert_array_equal(lens.final_ranks[-1], 0)
    np.testing.assert_allclose(lens.kl[-1], 0, atol=1e-12)
    assert (lens.kl[0] > 0).all() and list(lens.to_frame()["stage"]) == list(lens.stages)


def test_the_stage_from_which_on_the_answer_stands():
    ranks = np.array([[0, 3, 0], [1, 0, 0], [0, 0, 0]])
    lens = analysis.LogitLens(("a", "b", "c"), ("x",) * 3, ranks, (), ranks, ranks, ranks, ranks)
    np.testing.assert_array_equal(lens.decided, [2, 1, 0])


@pytest.mark.parametrize("position", [-1, 2])
def test_the_parts_of_a_logit_add_up_to_it(position):
    model = models()[0]
    trace, logits = run(model)
    parts = analysis.logit_attribution(model, trace, token_id=7, position=position)
    assert parts.total == pytest.approx(parts.logit, abs=ROUNDING)
    assert parts.logit == pytest.approx(logits[position, 7], abs=ROUNDING)
    np.testing.assert_allclose(parts.attention_rest, 0, atol=ROUNDING)  # there are no biases
    assert parts.to_frame()["logits"].sum() == pytest.approx(parts.total, abs=ROUNDING)
    assert parts.piece == "G" and parts.heads.shape == (2, 4)


def test_the_parts_of_a_lead_are_differences_of_two_logits():
    model = models()[0]
    trace, logits = run(model)
    best, second = np.argsort(-logits[-1])[:2]
    lead = analysis.logit_attribution(model, trace, best, against=second)
    one, two = (analysis.logit_attribution(model, trace, token) for token in (best, second))
    assert analysis.logit_attribution(model, trace).token_id == best
    np.testing.assert_allclose(lead.heads, one.heads - two.heads, atol=ROUNDING)
    np.testing.assert_allclose(lead.ffn, one.ffn - two.ffn, atol=ROUNDING)
    assert lead.total == pytest.approx(logits[-1, best] - logits[-1, second], abs=ROUNDING)
    assert lead.heads[lead.best_head] == lead.heads.max()


def test_a_bias_behind_the_heads_is_the_rest(tmp_path):
    rng = np.random.default_rng(5)
    bias = {"blk.1.attn_output.bias": rng.standard_normal(32).astype(np.float32)}
    model = load(tmp_path, metadata(), tensors() | bias)
    model.__dict__["tokenizer"] = models()[0].tokenizer
    trace, logits = run(model)
    parts = analysis.logit_attribution(model, trace, 3)
    assert abs(parts.attention_rest[1]) > 0.01 > abs(parts.attention_rest[0])
    assert parts.total == pytest.approx(logits[-1, 3], abs=ROUNDING)


def test_a_head_turned_off_has_no_share():
    model = models()[0]
    trace, _ = run(model)
    trace.ablate_heads(1, 2)
    model.forward(IDS, model.new_cache(), trace=trace)
    parts = analysis.logit_attribution(model, trace)
    assert parts.heads[1, 2] == 0 and (parts.heads[1, [0, 1, 3]] != 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"token_id": 40}, "token_id: no such token; expected an id from 0 to 39, got 40"),
        ({"against": -1}, "token_id: no such token"),
        ({"position": 6}, "position: no such row; expected from -6 to 5, got 6"),
        ({"position": None}, "position: no such row"),
    ],
)
def test_a_logit_that_is_not_there_is_refused(arguments, message):
    model = models()[0]
    with pytest.raises(ParameterError, match=message):
        analysis.logit_attribution(model, run(model)[0], **arguments)
