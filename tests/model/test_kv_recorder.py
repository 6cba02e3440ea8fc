"""What a KV recorder takes down, against traces and the cache; runs saved, opened, refused."""

import json
import resource
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import workbench as wb
from tests.conftest import BUILTIN_MODEL
from tests.model.test_inside_architectures import model_of
from workbench.errors import ContextFullError, ParameterError, UnsupportedError
from workbench.model import kv_recorder
from workbench.model.decode_stats import plain_decode_stats
from workbench.model.decode_tables import shares_layout
from workbench.model.kv_run import ARRAYS
from workbench.ops.token_shares import token_shares

SAME = 1e-5  # float32 sums in another order
HALF = 6e-4  # shares up to 1 as float16
PROMPT = "Once upon a time there was a dog who liked to run in the park with his ball"


@pytest.fixture(scope="module")
def model():
    with wb.load_model(BUILTIN_MODEL, device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def ids(model):
    return model.tokenizer.encode(PROMPT)


@pytest.fixture(scope="module")
def run(model, ids):
    return recorded(model, ids, 6)


def recorded(model, ids, n_prompt, **arguments):
    """A run of a prompt at once, and then token by token."""
    recorder, cache = wb.KVRecorder(model, **arguments), model.new_cache(64, "f32", "f32")
    recorder.forward(ids[:n_prompt], cache)
    for token_id in ids[n_prompt:]:
        recorder.forward([token_id], cache)
    return recorder.run


def assert_same(run, other, atol=0.0):
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(run, name), getattr(other, name), 0, atol, err_msg=name)


def test_masses_are_the_shares_that_a_trace_of_the_whole_text_has(model, ids, run):
    trace = wb.ActivationTrace(["kq_soft_max-*"])
    model.forward(ids, model.new_cache(64, "f32", "f32"), trace=trace)
    assert (run.n_tokens, run.n_layer) == (len(ids), model.config.n_layer)
    for layer in range(run.n_layer):
        probs = trace[f"kq_soft_max-{layer}"]
        np.testing.assert_allclose(run.maps(layer), probs, 0, HALF)
        for step in (0, 5, 6, len(ids) - 1):
            np.testing.assert_allclose(run.mass(step, layer), probs[:, step, : step + 1], 0, HALF)
            np.testing.assert_allclose(run.mass(step, layer).sum(1, np.float32), 1, 0, 2e-3)


def test_the_numbers_of_a_row_are_those_of_its_shares(run):
    for step in (0, 3, 17):
        for layer in (0, 4):
            shares = run.mass(step, layer).astype(np.float64)
            sink, recent = shares[:, :4].sum(1), shares[:, -16:].sum(1)
            np.testing.assert_allclose(run.sink_share[step, layer], sink, 0, 2e-3)
            np.testing.assert_allclose(run.recent_share[step, layer], recent, 0, 2e-3)
            logs = np.log(np.where(shares > 0, shares, 1))
            np.testing.assert_allclose(run.entropy[step, layer], -(shares * logs).sum(1), 0, 1e-2)
    assert run.entropy[0].max() == 0  # one position to look at


def test_norms_and_bytes_are_those_of_the_cache(model, ids, run):
    cache = model.new_cache(64, "f32", "f32")
    model.forward(ids, cache)
    for layer in range(run.n_layer):
        for norms, rows in ((run.k_norm, cache.k(layer)), (run.v_norm, cache.v(layer))):
            np.testing.assert_allclose(norms[:, layer], np.linalg.norm(rows, axis=2), 1e-3)
    assert run.bytes_written.sum() * cache.n_ctx == cache.nbytes * run.n_tokens


@pytest.mark.parametrize("types", [("q8_0", "q4_0"), (["f16"] * 4 + ["q5_1"] * 4, "f32")])
def test_bytes_of_quantized_types_are_those_of_their_blocks(model, ids, types):
    recorder, cache = wb.KVRecorder(model), model.new_cache(64, *types)
    recorder.forward(ids, cache)
    assert recorder.run.bytes_written.sum() * cache.n_ctx == cache.nbytes * len(ids)


def test_a_prompt_in_pieces_and_token_by_token_gives_the_same_run(model, ids, run, monkeypatch):
    assert_same(recorded(model, ids, len(ids)), run, HALF)
    monkeypatch.setattr(kv_recorder, "TRACE_BYTES", 4 * 64 * len(ids) * 4)  # four tokens at once
    assert_same(recorded(model, ids, len(ids)), run, HALF)


def test_logits_are_those_of_forward(model, ids):
    for last_only in (False, True):
        got = wb.KVRecorder(model).forward(ids, model.new_cache(64), last_only)
        want = model.forward(ids, model.new_cache(64), last_only=last_only)
        np.testing.assert_allclose(got, want, 1e-3, 1e-3)


def test_without_heads_the_shares_are_their_mean(model, ids, run):
    mean = recorded(model, ids, 6, per_head=False)
    np.testing.assert_allclose(mean.mass(9, 2)[0], run.mass(9, 2).mean(0, np.float32), 0, HALF)
    np.testing.assert_allclose(mean.sink_share[..., 0], run.sink_share.mean(2), 0, SAME)
    np.testing.assert_allclose(mean.entropy, run.entropy, 0, SAME)
    assert mean.masses.nbytes * model.config.n_head == run.masses.nbytes


class PlainGraph:
    """Stands for a GPU's decode graph: the same statistics, from the plain pass."""

    def __init__(self, network, cache, with_stats):
        assert with_stats
        self.network, self.cache = network, cache

        self.memory = [{}, {}]

    def record(self, token_id, per_head, meanwhile):
        self.logits, stats = plain_decode_stats(self.network, token_id, self.cache)
        with np.errstate(divide="ignore"):
            scores = np.log2(stats.shares)
        ends = np.tile(np.float32([0, 1]), stats.entropy.size)
        norms = np.stack([stats.k_norm, stats.v_norm], axis=1)
        buffers = {"scores": scores, "ends": ends, "norms": norms}
        layout = shares_layout(self.network.config)
        taken = token_shares(layout, buffers, stats.position + 1, per_head, np.float16)
        meanwhile()
        for array in self.memory[0].values():  # the memory of the last token but one
            array.fill(77)
        self.memory = [self.memory[1], vars(taken)]
        return taken


@pytest.mark.parametrize("per_head", [True, False])
def test_a_decode_graph_leaves_the_same_run(model, ids, run, monkeypatch, per_head):
    graph = SimpleNamespace(DecodeGraph=PlainGraph)
    monkeypatch.setitem(sys.modules, "workbench.model.decode_graph", graph)
    monkeypatch.setattr(model, "device", "cuda:0")
    got = recorded(model, ids, 6, per_head=per_head)
    monkeypatch.undo()
    assert_same(got, recorded(model, ids, 6, per_head=per_head), HALF)


def test_a_graph_that_does_not_cover_a_model_is_said_and_ids_that_are_none_refused(
    model, ids, monkeypatch
):
    def refuse(*arguments, with_stats):
        raise UnsupportedError("the graph has no kernel for it")

    graph = SimpleNamespace(DecodeGraph=refuse)
    monkeypatch.setitem(sys.modules, "workbench.model.decode_graph", graph)
    monkeypatch.setattr(model, "device", "cuda:0")
    with pytest.warns(UserWarning, match="take the plain pass, as the graph has no kernel for it"):
        recorded(model, ids, 6, per_head=False)
    recorder = wb.KVRecorder(model, per_head=False)
    for bad in (99999, -1, 2.5):
        with pytest.raises(ParameterError, match="token_ids"):
            recorder.forward([bad], model.new_cache(8))


@pytest.mark.parametrize("per_head", [True, False])
def test_the_bytes_told_before_are_those_taken(model, ids, per_head):
    recorder = wb.KVRecorder(model, per_head)
    told = recorder.nbytes(len(ids))
    recorder.forward(ids, model.new_cache(64))
    assert told == recorder.nbytes(0) == recorder.run.nbytes


def test_generate_records_prompt_and_text_and_writes_the_same(model):
    params, recorder = wb.SamplingParams(seed=4), wb.KVRecorder(model)
    steps = [*wb.generate(model, "Once upon a time", params, 20, recorder=recorder)]
    plain = [*wb.generate(model, "Once upon a time", params, 20)]
    assert [step.token_id for step in steps] == [step.token_id for step in plain]
    prompt = model.tokenizer.encode("Once upon a time")
    new = [step.token_id for step in steps]
    assert recorder.run.token_ids.tolist() == [*prompt, *new[:-1]]  # the last was not read
    assert recorder.run.pieces[-1] == steps[-2].text


def test_a_run_that_begins_in_the_middle_counts_positions_from_there(model, ids, run):
    cache, recorder = model.new_cache(64, "f32", "f32"), wb.KVRecorder(model)
    model.forward(ids[:5], cache)
    told = recorder.nbytes(len(ids) - 5, n_past=5)
    recorder.forward(ids[5:], cache)
    rest = recorder.run
    assert (rest.first, rest.nbytes) == (5, told)
    np.testing.assert_allclose(rest.mass(0, 3), run.mass(5, 3), 0, HALF)


@pytest.mark.parametrize("name", ["openelm", "gpt-oss", "gemma2", "deepseek2-lite"])
def test_layers_of_other_heads_windows_and_sinks_are_recorded(name, tmp_path):
    model = model_of(name, tmp_path)
    ids = np.arange(40) % model.config.n_vocab
    recorder, trace = wb.KVRecorder(model), wb.ActivationTrace(["kq_soft_max-*"])
    recorder.forward(ids, model.new_cache(64, "f32", "f32"))
    model.forward(ids, model.new_cache(64, "f32", "f32"), trace=trace)
    run = recorder.run
    assert run.nbytes == recorder.nbytes(0)
    for layer in range(run.n_layer):
        n_head = model.config.of_layer(layer).n_head
        np.testing.assert_allclose(run.maps(layer), trace[f"kq_soft_max-{layer}"], 0, HALF)
        assert np.isnan(run.entropy[0, layer]).sum() == run.entropy.shape[2] - n_head
    assert len(run.summary("head")) == sum(run.n_head)


def test_a_saved_run_is_opened_bit_for_bit_the_same(run, tmp_path):
    again = wb.KVRun.load(run.save(tmp_path / "run.npz"))
    for name in ARRAYS:
        a, b = getattr(run, name), getattr(again, name)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    assert (again.model, again.first, again.per_head, again.pieces) == (
        run.model, run.first, run.per_head, run.pieces
    )  # fmt: skip
    assert repr(again) == repr(run)


def test_the_summary_has_a_row_for_each_layer_head_or_step(run):
    sizes = {by: len(run.summary(by)) for by in ("layer", "head", "step")}
    assert sizes == {"layer": 8, "head": 64, "step": run.n_tokens}
    table = run.summary()
    np.testing.assert_allclose(table["entropy"], run.entropy.mean((0, 2)), 1e-5)
    np.testing.assert_allclose(table["v_norm"], run.v_norm.mean((0, 2)), 1e-5)
    heads = run.summary("head")
    np.testing.assert_allclose(heads["k_norm"][5], run.k_norm[:, 0, 2].mean(), 1e-5)  # 5 // 2
    with pytest.raises(ParameterError, match=r"by: no such grouping; .* layer, head, step, got"):
        run.summary("token")


def test_more_bytes_than_allowed_are_refused_before_anything_runs(model, ids):
    recorder, cache = wb.KVRecorder(model, max_bytes=20_000), model.new_cache(64)
    with pytest.raises(ParameterError, match=r"too much memory; expected up to max_bytes 20000"):
        recorder.forward(ids, cache)
    assert (cache.n_past, recorder.n_tokens) == (0, 0)
    with pytest.raises(ParameterError, match="too much memory"):
        wb.generate(model, "Once", max_tokens=200, recorder=recorder)
    with pytest.raises(ParameterError, match="max_bytes: no limit; expected a whole number"):
        wb.KVRecorder(model, max_bytes=0)


def test_a_limit_on_tokens_beyond_the_context_counts_only_what_fits(model):
    recorder, cache = wb.KVRecorder(model, max_bytes=1_000_000), model.new_cache(32)
    steps = wb.generate(model, "Once", max_tokens=10**9, cache=cache, recorder=recorder)
    assert sum(1 for _ in steps) <= 33


def test_another_model_or_a_cache_that_does_not_go_on_is_refused(model, ids):
    recorder, cache = wb.KVRecorder(model), model.new_cache(64)
    with (
        wb.load_model(BUILTIN_MODEL, device="cpu") as other,
        pytest.raises(ParameterError, match="recorder: made for another model; expected Model"),
    ):
        wb.generate(other, [1, 2], recorder=recorder)
    with pytest.raises(ParameterError, match=r"expected a KVRecorder, got .*Recorder .* as record"):
        wb.generate(model, "Once", recorder=wb.Recorder())
    recorder.forward(ids[:6], cache)
    cache.truncate(3)
    with pytest.raises(ParameterError, match=r"does not go on .* n_past 6, got n_past 3"):
        recorder.forward(ids[3:], cache)
    model.forward([7, 8, 9], cache)
    with pytest.raises(ParameterError, match=r"does not go on .* n_past 6, got other tokens"):
        recorder.forward(ids[6:], cache)
    assert (recorder.n_tokens, cache.n_past) == (6, 6)


def test_a_pass_that_fails_leaves_cache_and_run_as_they_were(model, ids, monkeypatch):
    monkeypatch.setattr(kv_recorder, "TRACE_BYTES", 4 * 64 * 40)  # some tokens at once
    recorder, cache = wb.KVRecorder(model), model.new_cache(len(ids) + 2)
    recorder.forward(ids, cache)
    with pytest.raises(ContextFullError, match="do not fit into the context"):
        recorder.forward([1, 2, 3, 4], cache)
    with pytest.raises(ParameterError, match=r"token_ids\[1\]: no such token"):
        recorder.forward([5, 99999], cache)
    with pytest.raises(ParameterError, match="token_ids: not a sequence"):
        recorder.forward(None, cache)
    assert cache.n_past == recorder.n_tokens == recorder.run.n_tokens == len(ids)


def test_a_text_that_fails_on_its_way_leaves_windows_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.ops.cpu.TOKENS_AT_ONCE", 16)
    monkeypatch.setattr("workbench.model.kv_slots.PADDING", 4)
    monkeypatch.setattr(kv_recorder, "TRACE_BYTES", 48 * 100 * 8)  # eight tokens at once
    text = [i % 64 for i in range(100)]
    with model_of("gemma2", tmp_path) as gemma:
        cache, recorder, rest = (
            gemma.new_cache(128, swa_full=False),
            wb.KVRecorder(gemma),
            text[30:],
        )
        gemma.forward(text[:30], cache)
        for wrong, error in (([9999], ParameterError), (range(60), ContextFullError)):
            with pytest.raises(error):
                recorder.forward([*rest, *wrong], cache)
        rows = iter([recorder._row] * 5)
        with monkeypatch.context() as patch, pytest.raises(StopIteration):
            patch.setattr(recorder, "_row", lambda *some: next(rows)(*some))
            recorder.forward(rest, cache)
        assert (cache.n_past, recorder.n_tokens) == (30, 0)
        expected = gemma.forward(text, gemma.new_cache(128))[30:]
        np.testing.assert_allclose(recorder.forward(rest, cache), expected, atol=2e-3)


def test_what_fails_after_a_pass_takes_it_back(model, ids, monkeypatch):
    recorder, cache = wb.KVRecorder(model), model.new_cache(64)
    recorder.forward(ids[:5], cache)

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recorder, "_row", stop)
        recorder.forward(ids[5:10], cache)
    assert (recorder.n_tokens, cache.n_past) == (5, 5)
    recorder.forward(ids[5:10], cache)
    assert recorder.run.n_tokens == 10


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda model: wb.KVRecorder(None), "recorder: no model to record; .* got None"),
        (lambda model: wb.KVRecorder(model, max_bytes=True), "max_bytes: no limit"),
        (lambda model: wb.KVRecorder(model, per_head="no"), "per_head: not a flag"),
        (lambda model: wb.KVRecorder(model).nbytes(-5), "n_tokens: no number of tokens"),
        (lambda model: wb.KVRecorder(model).forward({1}, None), "token_ids: not a sequence"),
        (lambda model: wb.KVRecorder(model).forward([1], None), "cache: not a KVCache"),
        (lambda model: wb.KVRecorder(model).begin(model, 3, None), "cache: not a KVCache"),
    ],
)
def test_what_is_no_argument_is_refused(model, call, message):
    with pytest.raises(ParameterError, match=message):
        call(model)


def test_a_run_that_cannot_be_written_leaves_the_old_one(run, tmp_path):
    path = run.save(tmp_path / "run.npz")
    whole, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(ParameterError, match=r"run\.npz: cannot be written; .* too large"):
            run.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]
    for place in (tmp_path, tmp_path / "none" / "x", "a\0b", None, 3):
        with pytest.raises(ParameterError, match=r"cannot be written|path: not a path"):
            run.save(place)


def test_damage_anywhere_is_refused_or_changes_no_kind(run, tmp_path):
    whole, rng = bytearray(run.save(tmp_path / "run.npz").read_bytes()), np.random.default_rng(3)
    directory = whole.rfind(b"PK\x01\x02") - 800
    path, refused = tmp_path / "bad.npz", 0
    for _ in range(300):
        damaged = bytearray(whole)
        low = directory if rng.random() < 0.5 else 0
        damaged[rng.integers(low, len(whole))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            again = wb.KVRun.load(path)
        except ParameterError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
        else:
            assert again.n_tokens == run.n_tokens
    assert refused > 100


def test_a_run_without_tokens_and_places_that_are_not_there_are_refused(model, run):
    with pytest.raises(ParameterError, match="run: nothing was recorded"):
        _ = wb.KVRecorder(model).run
    with pytest.raises(ParameterError, match=r"step: not in this run; expected from 0 to \d+"):
        run.mass(run.n_tokens, 0)
    with pytest.raises(ParameterError, match="layer: not in this run; expected from 0 to 7, got 8"):
        run.mass(0, 8)
    with pytest.raises(ParameterError, match=r"layer: not in this run; .* got True"):
        run.maps(True)
    with pytest.raises(ParameterError, match="by: no such grouping"):
        run.summary(["layer"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masses": np.zeros(3, np.float16)}, "array masses is"),
        ({"entropy": np.zeros((2, 2), np.float32)}, "array entropy is float32"),
        ({"n_head": np.zeros(8, np.int64)}, "heads that no model has"),
        ({"token_ids": np.array(["a"])}, "array token_ids is"),
        ({"n_head_kv": np.full(8, 3)}, "heads that no model has"),
        ({"masses": None}, "shares that are none"),
        ({"k_norm": None}, "array k_norm has numbers that no run has"),
        ({"about": np.array("[" * 10**5)}, "not a run of a KV cache"),
        ({"about": np.array("[]")}, "not a run of a KV cache"),
        ({"about": np.array("{}")}, "KeyError: 'model'"),
    ],
)
def test_a_file_that_is_no_run_is_refused(run, tmp_path, change, message):
    with np.load(run.save(tmp_path / "run.npz")) as file:
        arrays = dict(file)
    broken = {name: np.nan if name == "masses" else -1 for name, x in change.items() if x is None}
    change = {**change, **{name: arrays[name] * 0 + value for name, value in broken.items()}}
    np.savez(tmp_path / "bad.npz", **(arrays | change))
    with pytest.raises(ParameterError, match=message):
        wb.KVRun.load(tmp_path / "bad.npz")


def test_a_missing_file_another_file_and_another_version_are_refused(run, tmp_path):
    with pytest.raises(ParameterError, match="no such file; expected a run that KVRun"):
        wb.KVRun.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(ParameterError, match="not a run of a KV cache"):
        wb.KVRun.load(tmp_path / "text.npz")
    with np.load(run.save(tmp_path / "run.npz")) as file:
        arrays = dict(file)
    told = json.loads(str(arrays["about"]))
    for wrong in ({"per_head": "no"}, {"first": 0.5}, {"first": 2**62}, {"pieces": "x" * 19}):
        np.savez(tmp_path / "told.npz", **(arrays | {"about": np.array(json.dumps(told | wrong))}))
        with pytest.raises(ParameterError, match="not a run of a KV cache"):
            wb.KVRun.load(tmp_path / "told.npz")
    for place in (None, 3, [1]):
        with pytest.raises(ParameterError, match="not a run of a KV cache"):
            wb.KVRun.load(place)
    about = told | {"version": 9}
    np.savez(tmp_path / "old.npz", **(arrays | {"about": np.array(json.dumps(about))}))
    with pytest.raises(ParameterError, match="a run of version 9; expected version 1"):
        wb.KVRun.load(tmp_path / "old.npz")
