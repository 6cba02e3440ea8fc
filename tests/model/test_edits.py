"""Changed activations: what they do to all that follows, and what an edit may not do."""

import numpy as np
import pytest

from tests.model.tiny import f32_cache, load, metadata, tensors
from workbench.errors import ParameterError
from workbench.model import ActivationTrace
from workbench.ops import cpu

IDS = np.array([3, 1, 4, 1, 5])
LONG = np.random.default_rng(4).integers(0, 40, 30)
SAME = 2e-5  # float32 sums in another order


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(tmp_path_factory.mktemp("edits"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return load(tmp_path_factory.mktemp("other"), weights=tensors(seed=1))


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    keys = metadata(expert_count=5, expert_used_count=2)
    return load(tmp_path_factory.mktemp("experts"), keys, tensors(n_expert=5))


def run(model, trace=None, ids=IDS, **arguments):
    return model.forward(ids, f32_cache(model), trace=trace, **arguments)


def recorded(model, names, ids=IDS):
    trace = ActivationTrace(names)
    run(model, trace, ids)
    return trace


def test_an_edit_changes_what_follows_and_nothing_before(model):
    trace = ActivationTrace(["l_out-0", "ffn_inp-0"]).edit("l_out-0", lambda x: x * 2)
    logits = run(model, trace)
    plain = recorded(model, ["l_out-0", "ffn_inp-0"])
    np.testing.assert_array_equal(trace["l_out-0"], plain["l_out-0"] * 2)  # kept as edited
    np.testing.assert_array_equal(trace["ffn_inp-0"], plain["ffn_inp-0"])
    assert abs(logits - run(model)).max() > 0.1


@pytest.mark.parametrize("name", ["inp_embd", "Qcur-0", "Vcur-1", "ffn_up-0", "result_norm"])
def test_changing_in_place_and_returning_are_the_same(model, name):
    def in_place(x):
        x *= 0.5

    np.testing.assert_array_equal(
        run(model, ActivationTrace().edit(name, in_place)),
        run(model, ActivationTrace().edit(name, lambda x: x * np.float32(0.5))),
    )


def test_an_edit_that_changes_nothing_changes_no_logit(model, experts):
    for each in (model, experts):
        trace = ActivationTrace().edit("*", lambda x: None)
        np.testing.assert_allclose(run(each, trace), run(each), 0, SAME)


@pytest.mark.parametrize(("positions", "rows"), [(1, [1]), ([1, 3], [1, 3]), (-1, [4])])
def test_positions_choose_the_rows_that_fn_sees(model, positions, rows):
    seen = []
    trace = ActivationTrace(["l_out-1"]).edit("l_out-1", lambda x: seen.append(x.copy()), positions)
    run(model, trace)
    np.testing.assert_array_equal(seen[0], trace["l_out-1"][rows])
    zero = ActivationTrace(["l_out-1"]).edit("l_out-1", lambda x: 0 * x, positions)
    run(model, zero)
    changed = abs(zero["l_out-1"]).max(axis=1) == 0
    np.testing.assert_array_equal(np.flatnonzero(changed), rows)


def test_positions_count_from_the_start_of_the_sequence(model):
    cache, trace = f32_cache(model), ActivationTrace(["l_out-1"])
    model.forward(IDS, cache)
    model.forward([7, 8], cache, trace=trace.edit("l_out-1", lambda x: 0 * x, positions=6))
    assert trace.n_past == 5
    np.testing.assert_array_equal(abs(trace["l_out-1"]).max(axis=1) == 0, [False, True])


def test_what_comes_before_an_edited_position_does_not_change(model):
    logits = run(model, ActivationTrace().edit("l_out-0", lambda x: -x, positions=3))
    np.testing.assert_allclose(logits[:3], run(model)[:3], 0, SAME)
    assert abs(logits[4] - run(model)[4]).max() > 1e-3


def test_a_long_prompt_is_edited_in_pieces_as_if_at_once(model, monkeypatch):
    def trace():
        changed = ActivationTrace().edit("l_out-0", lambda x: x + 1, positions=[2, 9, 29])
        return changed.ablate_heads(1, 2)

    at_once = run(model, trace(), LONG)
    monkeypatch.setattr(cpu, "TOKENS_AT_ONCE", 8)
    np.testing.assert_allclose(run(model, trace(), LONG), at_once, 0, SAME)


def test_edits_of_one_activation_follow_each_other(model):
    trace = ActivationTrace(["l_out-0"])
    trace.edit("l_out-0", lambda x: x + 1).edit("l_out-*", lambda x: x * 2)
    run(model, trace)
    expected = (recorded(model, ["l_out-0"])["l_out-0"] + 1) * 2
    np.testing.assert_array_equal(trace["l_out-0"], expected)


def test_an_array_of_the_users_is_not_touched(model):
    mine = np.ones((5, 32), np.float32)
    run(model, ActivationTrace().edit("ffn_inp-0", lambda x: mine))
    np.testing.assert_array_equal(mine, 1)


def test_edited_keys_and_values_are_what_the_cache_holds(model):
    cache = f32_cache(model)
    model.forward(IDS, cache, trace=ActivationTrace().edit("[KV]cur-1", lambda x: 0 * x))
    assert not cache.k(1).any() and not cache.v(1).any() and cache.k(0).any()


def test_edited_attention_is_what_the_values_are_weighed_with(model):
    def only_itself(probs):  # (H, T, S)
        probs[:] = np.eye(5)

    trace = ActivationTrace(["kqv_out-0", "Vcur-0", "kq_soft_max-0"])
    run(model, trace.edit("kq_soft_max-0", only_itself))
    values = np.repeat(trace["Vcur-0"], 2, axis=1).reshape(5, 32)  # head h reads KV head h // 2
    np.testing.assert_allclose(trace["kqv_out-0"], values, 0, SAME)


def test_edited_scores_go_through_the_softmax_and_its_mask(model):
    trace = ActivationTrace(["kq_soft_max-1"])
    run(model, trace.edit("kq-1", lambda x: 0 * x))
    uniform = np.tri(5) / np.arange(1, 6)[:, None]
    np.testing.assert_allclose(trace["kq_soft_max-1"], np.tile(uniform, (4, 1, 1)), 0, SAME)


def test_ablated_heads_give_nothing_to_the_matrix_behind_them(model):
    trace = ActivationTrace(["kqv_out-1"]).ablate_heads(1, [0, 3])
    run(model, trace)
    heads = trace["kqv_out-1"].reshape(5, 4, 8)
    plain = recorded(model, ["kqv_out-1"])["kqv_out-1"].reshape(5, 4, 8)
    assert not heads[:, [0, 3]].any()
    np.testing.assert_array_equal(heads[:, [1, 2]], plain[:, [1, 2]])


def test_ablation_by_mean_and_by_numbers(model):
    plain = recorded(model, ["kqv_out-0"])["kqv_out-0"].reshape(5, 4, 8)
    numbers = np.arange(16).reshape(2, 8)
    for to, expected in (("mean", plain[:, 1:3].mean(axis=0)), (numbers, numbers)):
        trace = ActivationTrace(["kqv_out-0"]).ablate_heads(0, [1, 2], to=to)
        run(model, trace)
        heads = trace["kqv_out-0"].reshape(5, 4, 8)[:, 1:3]
        np.testing.assert_allclose(heads, np.tile(expected, (5, 1, 1)), 0, SAME)


def test_ablating_all_heads_leaves_the_residual_stream_alone(model):
    trace = ActivationTrace(["inp_embd", "ffn_inp-0"]).ablate_heads(0, range(4))
    run(model, trace)
    np.testing.assert_array_equal(trace["ffn_inp-0"], trace["inp_embd"])


@pytest.mark.parametrize(
    ("layer", "heads", "message"),
    [
        (0, 4, "no head 4; expected from 0 to 3"),
        (0, [0, -1], "no head -1"),
        (2, 0, "'kqv_out-2' matches no activation of this llama model of 2 layers"),
    ],
)
def test_a_head_that_the_model_lacks_is_refused(model, layer, heads, message):
    with pytest.raises(ParameterError, match=message):
        run(model, ActivationTrace().ablate_heads(layer, heads))


@pytest.mark.parametrize("arguments", [("0", 1), (0, "1"), (0, []), (0, 1.5), (0, None), (0, True)])
def test_what_is_no_layer_or_head_is_refused(arguments):
    with pytest.raises(ParameterError, match="not a layer and its heads"):
        ActivationTrace().ablate_heads(*arguments)
    with pytest.raises(ParameterError, match="expected to='zero', 'mean' or numbers, got 'max'"):
        ActivationTrace().ablate_heads(0, 0, to="max")


def test_a_patch_of_everything_that_enters_the_head_makes_the_other_models_logits(model, other):
    source = recorded(other, ["result_output", "l_out-*"])
    logits = run(model, ActivationTrace().patch("result_output", source))
    np.testing.assert_array_equal(logits, source["result_output"])
    trace = ActivationTrace(["l_out-0"]).patch("l_out-0", source)
    run(model, trace)
    np.testing.assert_array_equal(trace["l_out-0"], source["l_out-0"])


def test_a_patch_of_its_own_activations_changes_nothing(model):
    source = recorded(model, ["*"])
    for pattern in ("l_out-0", "l_out-*", "kq_soft_max-1", "Vcur-*"):
        logits = run(model, ActivationTrace().patch(pattern, source))
        np.testing.assert_allclose(logits, run(model), 0, SAME)


@pytest.mark.parametrize("positions", [2, [1, 4], -1])
def test_a_patch_goes_only_to_its_positions(model, other, positions):
    trace = ActivationTrace(["l_out-0"]).patch("l_out-0", recorded(other, "l_out-0"), positions)
    run(model, trace)
    chosen = np.isin(np.arange(5), np.asarray(positions) % 5)[:, None]
    ours, theirs = (recorded(m, "l_out-0")["l_out-0"] for m in (model, other))
    np.testing.assert_array_equal(trace["l_out-0"], np.where(chosen, theirs, ours))


def test_a_patch_from_an_array_with_a_row_for_each_position(model):
    rows = np.arange(64, dtype=np.float32).reshape(2, 32)
    for positions in ([1, 3], [3, 1], [-2, 0]):
        trace = ActivationTrace(["l_out-0"]).patch("l_out-0", rows, positions)
        run(model, trace)
        np.testing.assert_array_equal(trace["l_out-0"][positions], rows)


def test_a_patch_finds_its_rows_by_position_in_a_later_call(model, other):
    source = recorded(other, ["l_out-0"], np.r_[IDS, 7, 8])
    cache, trace = f32_cache(model), ActivationTrace(["l_out-0"]).patch("l_out-0", source)
    model.forward(IDS, cache)
    model.forward([7, 8], cache, trace=trace)
    np.testing.assert_array_equal(trace["l_out-0"], source["l_out-0"][5:])


def test_a_patch_in_pieces_is_a_patch_at_once(model, other, monkeypatch):
    source = recorded(other, ["l_out-0"], LONG)
    at_once = run(model, ActivationTrace().patch("l_out-0", source, [3, 17, 29]), LONG)
    monkeypatch.setattr(cpu, "TOKENS_AT_ONCE", 8)
    pieces = run(model, ActivationTrace().patch("l_out-0", source, [3, 17, 29]), LONG)
    np.testing.assert_allclose(pieces, at_once, 0, SAME)


def test_a_patch_recorded_in_float16_is_widened(model, other):
    source = ActivationTrace(["l_out-0"], dtype="float16")
    run(other, source)
    trace = ActivationTrace(["l_out-0"]).patch("l_out-0", source)
    run(model, trace)
    np.testing.assert_array_equal(trace["l_out-0"], source["l_out-0"].astype(np.float32))


@pytest.mark.parametrize(
    ("source", "positions", "message"),
    [
        (np.zeros((5, 31), np.float32), None, r"expected \(32,\) numbers a token, got .*\(5, 31\)"),
        (
            np.zeros((3, 32), np.float32),
            None,
            "lacks a row for some position; .* 0 to 4, got 0 to 2",
        ),
        (np.zeros(32, np.float32), None, r"got an array of shape \(32,\)"),
        (7, None, "nothing to take activations from"),
        (np.zeros((5, 32), np.float32), 5, "position 5 is not among those that l_out-0 has"),
        (np.zeros((5, 32), np.float32), "all", "not positions; expected an integer"),
        (np.zeros((5, 32), np.float32), [], "not positions"),
        (np.zeros((5, 32), np.float32), 1.5, "not positions"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(model, source, positions, message):
    with pytest.raises(ParameterError, match=message):
        run(model, ActivationTrace().patch("l_out-0", source, positions))


def test_a_patch_from_a_trace_that_lacks_the_name_is_refused(model, other):
    source = recorded(other, ["l_out-0"])
    with pytest.raises(ParameterError, match="'l_out-1' matches no activation of the source"):
        ActivationTrace().patch("l_out-1", source)
    with pytest.raises(ParameterError, match="the source did not capture l_out-1"):
        run(model, ActivationTrace().patch("l_out-*", source))


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (
            lambda x: x[:4],
            r"edit 'l_out-0' at l_out-0: .*expected float32 \(5, 32\), got float32 \(4",
        ),
        (lambda x: x.astype(np.float64), r"expected float32 \(5, 32\), got float64"),
        (lambda x: x.tolist(), r"expected float32 \(5, 32\), got \[\["),
        (lambda x: 0.0, r"got 0.0; return one of the same shape and dtype"),
        (lambda x: 1 // 0, "at l_out-0: the function failed; .* got ZeroDivisionError: integer"),
        (lambda x, y: x, "got TypeError"),
    ],
)
def test_an_edit_that_fails_names_its_place_and_leaves_the_cache(model, fn, message):
    cache = f32_cache(model)
    model.forward(IDS, cache)
    before = cache.k(1).copy()
    with pytest.raises(ParameterError, match=message):
        model.forward(IDS, cache, trace=ActivationTrace().edit("l_out-0", fn))
    assert cache.n_past == 5
    np.testing.assert_array_equal(cache.k(1), before)


def test_an_edit_needs_a_name_a_function_and_positions_of_the_call(model):
    with pytest.raises(ParameterError, match=r"'lout-4' matches no activation.*did you mean l_out"):
        ActivationTrace().edit("lout-4", abs)
    with pytest.raises(ParameterError, match="edit 'l_out-0': not a function"):
        ActivationTrace().edit("l_out-0", 7)
    with pytest.raises(ParameterError, match="'l_out-5' matches no activation of this llama"):
        run(model, ActivationTrace().edit("l_out-5", abs))
    with pytest.raises(ParameterError, match=r"position 0 is not among .* expected from 4 to 4"):
        run(model, ActivationTrace().edit("result_output", abs, positions=0), last_only=True)


def test_an_edited_choice_of_experts_is_the_one_that_is_used(experts):
    def others(ids):
        ids[:] = [3, 1]

    trace = ActivationTrace(["ffn_moe_topk-0", "ffn_moe_probs-0", "ffn_moe_weights-0"])
    logits = run(experts, trace.edit("ffn_moe_topk-0", others))
    np.testing.assert_array_equal(trace["ffn_moe_topk-0"], np.tile([3, 1], (5, 1)))
    np.testing.assert_array_equal(trace["ffn_moe_weights-0"], trace["ffn_moe_probs-0"][:, [3, 1]])
    assert abs(logits - run(experts)).max() > 1e-3


def test_edited_router_logits_choose_the_experts(experts):
    def favour(logits):
        logits[:, 4] = 100

    trace = ActivationTrace(["ffn_moe_topk-1"]).edit("ffn_moe_logits-1", favour)
    run(experts, trace)
    np.testing.assert_array_equal(trace["ffn_moe_topk-1"][:, 0], 4)


def test_edited_weights_of_experts_are_used(experts):
    trace = ActivationTrace(["ffn_moe_out-0"]).edit("ffn_moe_weights_norm-0", lambda w: 0 * w)
    run(experts, trace)
    assert not trace["ffn_moe_out-0"].any()


@pytest.mark.parametrize("expert", [5, -1])
def test_an_expert_that_the_model_lacks_is_refused(experts, expert):
    with pytest.raises(ParameterError, match="no such expert; expected ids from 0 to 4, got"):
        run(experts, ActivationTrace().edit("ffn_moe_topk-0", lambda ids: 0 * ids + expert))


def test_positions_of_attention_are_its_second_axis(model):
    seen = []
    trace = ActivationTrace(["kq_soft_max-1"])
    run(model, trace.edit("kq_soft_max-1", lambda x: seen.append(x.copy()), positions=[1, 3]))
    assert seen[0].shape == (4, 2, 5)
    np.testing.assert_allclose(seen[0], trace["kq_soft_max-1"][:, [1, 3]], 0, SAME)
