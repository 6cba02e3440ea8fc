"""Activations by their names: what is captured, its shapes, and names that do not exist."""

from pathlib import Path

import numpy as np
import pytest

from tests.model.tiny import f32_cache, load, metadata, tensors
from workbench.errors import ParameterError
from workbench.model import ActivationTrace, load_model, tap_names
from workbench.ops import cpu

DATA = Path(__file__).resolve().parents[1] / "data"
LONG = np.random.default_rng(4).integers(0, 40, 30)
SAME = 2e-5  # float32 sums in another order

IDS = [3, 1, 4, 1, 5]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(tmp_path_factory.mktemp("trace"))


def traced(model, patterns, ids=IDS):
    trace = ActivationTrace(patterns)
    logits = model.forward(ids, f32_cache(model), trace=trace)
    return trace, logits


def test_everything_can_be_captured_in_the_order_of_the_graph(model):
    trace, _ = traced(model, ["*"])
    assert trace.names == tap_names(model)
    assert trace.names[0] == "inp_embd" and trace.names[-1] == "result_output"


def test_a_trace_does_not_change_the_logits(model):
    _, logits = traced(model, ["*"])
    np.testing.assert_allclose(logits, model.forward(IDS, f32_cache(model)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("inp_embd", (5, 32)),
        ("Qcur-0", (5, 4, 8)),
        ("Kcur-1", (5, 2, 8)),
        ("kq-0", (4, 5, 5)),
        ("kq_soft_max-1", (4, 5, 5)),
        ("kqv_out-0", (5, 32)),
        ("ffn_gate-0", (5, 48)),
        ("l_out-1", (5, 32)),
        ("result_output", (5, 40)),
    ],
)
def test_shapes_have_the_tokens_of_the_call(model, name, shape):
    trace, _ = traced(model, [name])
    assert trace.names == [name] and trace[name].shape == shape
    assert trace[name].dtype == np.float32


def test_globs_choose_layers_and_names(model):
    assert traced(model, ["l_out-*"])[0].names == ["l_out-0", "l_out-1"]
    assert traced(model, ["ffn_[gu]*-1"])[0].names == ["ffn_up-1", "ffn_gate-1"]


def test_the_pieces_fit_together(model):
    trace, logits = traced(model, ["*"])
    np.testing.assert_array_equal(trace["result_output"], logits)
    np.testing.assert_allclose(
        trace["ffn_inp-0"], trace["inp_embd"] + trace["attn_out-0"], atol=1e-6
    )
    np.testing.assert_allclose(trace["l_out-1"], trace["ffn_inp-1"] + trace["ffn_out-1"], atol=1e-6)
    np.testing.assert_allclose(trace["kq_soft_max-1"].sum(-1), np.ones((4, 5)), atol=1e-6)


def test_copies_stay_what_they_were_when_the_model_goes_on(model):
    trace, _ = traced(model, ["l_out-0"])
    kept = trace["l_out-0"]
    before = kept.copy()
    model.forward([9, 9], f32_cache(model), trace=trace)
    np.testing.assert_array_equal(kept, before)
    assert trace["l_out-0"].shape == (2, 32)


def test_a_decode_step_sees_all_positions_before_it(model):
    cache, trace = f32_cache(model), ActivationTrace(["kq_soft_max-0"])
    model.forward(IDS, cache)
    model.forward([2], cache, trace=trace)
    assert trace["kq_soft_max-0"].shape == (4, 1, 6)


def test_experts_show_their_routing(tmp_path):
    model = load(tmp_path, metadata(expert_count=5, expert_used_count=2), tensors(n_expert=5))
    trace, _ = traced(model, ["ffn_moe_*-0"])
    assert trace["ffn_moe_topk-0"].shape == (5, 2) and trace["ffn_moe_topk-0"].dtype.kind == "i"
    np.testing.assert_allclose(trace["ffn_moe_weights_norm-0"].sum(-1), np.ones(5), atol=1e-6)
    chosen = np.take_along_axis(trace["ffn_moe_probs-0"], trace["ffn_moe_topk-0"], axis=-1)
    np.testing.assert_array_equal(chosen, trace["ffn_moe_weights-0"])


@pytest.mark.parametrize(
    ("pattern", "advice"),
    [
        ("lout-3", "did you mean l_out"),
        ("Qcurr-*", "did you mean Qcur"),
        ("kq_softmax-3", "did you mean kq_soft_max"),
        ("l_out", "did you mean l_out-0"),
        ("zzz", "names are inp_embd"),
        ("", "names are inp_embd"),
        (7, "names are inp_embd"),
    ],
)
def test_a_name_of_no_model_is_refused_with_the_nearest(pattern, advice):
    with pytest.raises(ParameterError, match=f"matches no activation of any model.*{advice}"):
        ActivationTrace([pattern])


@pytest.mark.parametrize("pattern", ["l_out-2", "ffn_moe_*"])
def test_a_name_of_other_models_is_refused_when_it_is_used(model, pattern):
    trace, cache = ActivationTrace([pattern]), f32_cache(model)
    with pytest.raises(ParameterError, match="of this llama model of 2 layers"):
        model.forward(IDS, cache, trace=trace)
    assert cache.n_past == 0


@pytest.mark.parametrize("trace", [["l_out-0"], "l_out-0", []])
def test_names_alone_are_no_trace(model, trace):
    with pytest.raises(ParameterError, match="trace: not an ActivationTrace"):
        model.forward(IDS, f32_cache(model), trace=trace)


def test_asking_for_what_was_not_captured_names_what_was(model):
    trace, _ = traced(model, ["l_out-0"])
    with pytest.raises(ParameterError, match=r"'l_out-1' was not captured.*did you mean l_out-0"):
        trace["l_out-1"]
    assert "l_out-0" in trace and "l_out-1" not in trace and len(trace) == 1


def test_activations_agree_with_llama_cpp_under_its_names():
    golden, prompt = np.load(DATA / "context.npz"), np.load(DATA / "llama-tied.npz")["tokens"]
    names = [name.removeprefix("tap_") for name in golden if name.startswith("tap_")]
    model, trace = load_model(DATA / "llama-tied.gguf"), ActivationTrace(names)
    model.forward(prompt[:6], f32_cache(model), trace=trace)
    assert len(names) == 15
    for name in names:
        expected = golden[f"tap_{name}"]
        if name == "kq-1":  # llama.cpp multiplies the future too, in the order of its slots
            seen = np.tri(6, dtype=bool)
            np.testing.assert_allclose(trace[name][:, seen], expected[:, seen], 0, 1e-4)
        else:
            np.testing.assert_allclose(trace[name], expected, 0, 1e-4, err_msg=name)


def test_the_bytes_are_told_before_the_run_and_are_those_taken(model):
    for dtype in ("float32", "float16", "float64"):
        trace = ActivationTrace(["*"], dtype=dtype)
        cache = f32_cache(model)
        model.forward(IDS, cache)
        sizes = trace.sizes(model, n_tokens=3, n_past=5)
        model.forward([1, 2, 3], cache, trace=trace)
        assert sizes == {name: trace[name].nbytes for name in trace}
        assert trace.nbytes(model, 3, 5) == sum(sizes.values())
        assert f"{len(sizes)} captured, {sum(sizes.values())} bytes" in repr(trace)
    assert sizes["kq-0"] == 8 * 4 * 3 * 8  # float64 (H 4, T 3, S 8)


def test_too_many_bytes_are_refused_before_anything_runs(model):
    cache, trace = f32_cache(model), ActivationTrace(["l_out-*"], max_bytes=1279)
    with pytest.raises(ParameterError, match="up to max_bytes 1279, got 1280 for 2 activations"):
        model.forward(IDS, cache, trace=trace)
    assert cache.n_past == 0
    for allowed in (1280, None):
        model.forward(IDS, cache, trace=ActivationTrace(["l_out-*"], max_bytes=allowed))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_dtypes_hold_the_same_numbers(model, dtype):
    trace = ActivationTrace(["l_out-1"], dtype=dtype)
    model.forward(IDS, f32_cache(model), trace=trace)
    assert trace["l_out-1"].dtype == dtype
    np.testing.assert_array_equal(
        trace["l_out-1"], traced(model, "l_out-1")[0]["l_out-1"].astype(dtype)
    )


def test_numbers_too_large_for_float16_are_refused(model):
    trace = ActivationTrace(["l_out-1"], dtype="float16")
    trace.edit("l_out-1", lambda x: x * 0 + np.float32(70000))
    with pytest.raises(ParameterError, match=r"l_out-1 does not fit into float16.*got 70000"):
        model.forward(IDS, f32_cache(model), trace=trace)


@pytest.mark.parametrize("arguments", [{"dtype": "int8"}, {"dtype": None}, {"to": "disk"}])
def test_other_dtypes_and_places_are_refused(arguments):
    with pytest.raises(ParameterError, match="trace: no such"):
        ActivationTrace(["l_out-0"], **arguments)


@pytest.mark.parametrize("to", ["host", "device"])
def test_a_long_prompt_is_captured_piece_by_piece_as_if_at_once(model, monkeypatch, to):
    at_once, _ = traced(model, ["*"], LONG)
    monkeypatch.setattr(cpu, "TOKENS_AT_ONCE", 8)
    pieces = ActivationTrace(["*"], to=to)
    model.forward(LONG, f32_cache(model), trace=pieces)
    assert pieces.names == at_once.names
    for name in at_once:
        expected = at_once[name]
        if name.startswith("kq-"):
            seen = np.isfinite(pieces[name])
            assert seen[:, np.tri(30, dtype=bool)].all() and not seen[:, 0, 8:].any()
            np.testing.assert_allclose(pieces[name][seen], expected[seen], 0, SAME)
        else:
            np.testing.assert_allclose(pieces[name], expected, 0, SAME, err_msg=name)


@pytest.mark.parametrize("step", [1, 8, 512])
def test_with_the_last_logits_only_the_result_has_one_row(model, monkeypatch, step):
    monkeypatch.setattr(cpu, "TOKENS_AT_ONCE", step)
    trace = ActivationTrace(["result_*", "l_out-1"])
    logits = model.forward(LONG, f32_cache(model), trace=trace, last_only=True)
    np.testing.assert_array_equal(trace["result_output"], logits)
    assert trace["result_norm"].shape == (1, 32) and trace["l_out-1"].shape == (30, 32)


def test_a_forward_pass_without_a_trace_asks_nobody(model, monkeypatch):
    monkeypatch.setattr(ActivationTrace, "visit", lambda *_: 1 / 0)
    model.forward(IDS, f32_cache(model))
