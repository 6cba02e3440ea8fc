"""Records of runs: what is taken down, saved and reopened, and replayed with other samplers."""

import numpy as np
import pytest

import workbench as wb

PARAMS = wb.SamplingParams(seed=3)


@pytest.fixture(scope="module")
def model():
    with wb.load_model(wb.builtin_model_path(), device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def record(model):
    return run(model, PARAMS)


def run(model, params, n_top=64, max_tokens=40):
    recorder = wb.Recorder(n_top)
    list(wb.generate(model, "Once upon a time", params, max_tokens, record=recorder))
    return recorder.record


def test_a_record_holds_the_text_that_is_generated_without_it(model, record):
    steps = list(wb.generate(model, "Once upon a time", PARAMS, 40))
    assert record.text == "".join(step.text for step in steps)
    np.testing.assert_array_equal(record.token_ids, [step.token_id for step in steps])
    np.testing.assert_array_equal(record.logprobs, [step.logprob for step in steps])


def test_recorded_logits_and_tail_give_the_logprob_back(record):
    whole = np.logaddexp.reduce(
        np.column_stack([record.top_logits.astype(np.float64), record.tail]), axis=1
    )
    chosen = record.top_logits[record.top_ids == record.token_ids[:, None]]
    np.testing.assert_allclose(chosen - whole, record.logprobs, atol=1e-6)


def test_a_reopened_record_is_the_saved_one_bit_for_bit(record, tmp_path):
    again = wb.RunRecord.load(record.save(tmp_path / "run.npz"))
    assert (again.params, again.texts, again.model) == (PARAMS, record.texts, record.model)
    for name in ("prompt_ids", "token_ids", "logprobs", "top_ids", "top_logits", "tail", "drawn"):
        np.testing.assert_array_equal(getattr(again, name), getattr(record, name))


def test_equal_settings_replay_to_the_same_tokens(record):
    assert wb.replay(record, PARAMS).fork is None


@pytest.mark.parametrize(
    "changes", [{"temperature": 1.5}, {"seed": 4}, {"top_p": 0.4}, {"penalty_repeat": 1.3}]
)
def test_a_replay_forks_where_a_new_run_does(model, record, changes):
    params = wb.SamplingParams(**{"seed": 3, **changes})
    fork = wb.replay(record, params).fork
    other = run(model, params)
    n = min(other.n_tokens, record.n_tokens)
    differs = np.flatnonzero(other.token_ids[:n] != record.token_ids[:n])
    assert fork.step == differs[0]
    assert (fork.old_id, fork.new_id) == (
        record.token_ids[fork.step],
        other.token_ids[fork.step],
    )


def test_all_logits_let_any_settings_be_replayed(model):
    everything = run(model, PARAMS, n_top=10**6, max_tokens=5)
    assert everything.n_top == model.config.n_vocab
    params = wb.SamplingParams(top_k=0, top_p=1, min_p=0, temperature=2, seed=3)
    other = run(model, params, max_tokens=5)
    fork = wb.replay(everything, params).fork
    assert fork.new_id == other.token_ids[fork.step]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": 0}, "need more than the 64 of 4096 logits"),
        ({"top_k": 65}, "top_k 65 needs more than"),
        ({"top_n_sigma": 1.0}, "need more than"),
        ({"logit_bias": {7: 2.0}}, "token 0 the penalties or biases may let in"),
        ({"penalty_repeat": 0.5}, "token 0 the penalties or biases may let in"),
    ],
)
def test_settings_that_need_unrecorded_logits_are_refused(record, settings, message):
    with pytest.raises(wb.ParameterError, match=message):
        wb.replay(record, wb.SamplingParams(**settings))


def test_damaged_files_are_refused_in_one_sentence(record, tmp_path):
    path = record.save(tmp_path / "run.npz")
    raw = path.read_bytes()
    for name, content in {"cut": raw[: len(raw) // 2], "empty": b"", "text": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(wb.ParameterError, match="not a record of a run"):
            wb.RunRecord.load(tmp_path / name)
    with pytest.raises(wb.ParameterError, match="no such file"):
        wb.RunRecord.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(wb.ParameterError, match="not a record of a run"):
        wb.RunRecord.load(tmp_path / "other.npz")


def test_an_unused_recorder_and_a_bad_n_top_are_refused():
    with pytest.raises(wb.ParameterError, match="nothing was taken down"):
        _ = wb.Recorder().record
    with pytest.raises(wb.ParameterError, match="n_top: expected a whole number"):
        wb.Recorder(0)
