import json
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import REFERENCE, needs_reference
from workbench.errors import ContextFullError, ParameterError, UnsupportedError
from workbench.generate import Step, TextStream, generate, logprob_of
from workbench.model import load_model
from workbench.ops.sampling_layout import DrawnToken
from workbench.quants.file import open_gguf
from workbench.sampling import SamplerChain, SamplingParams, stages
from workbench.tokenizer import load_tokenizer

BOS, EOG = 256, 257
GREEDY = SamplingParams(temperature=0)


class BytesTokenizer:
    """One token per byte, then BOS and EOG; drops a space at the very start, as SPM does."""

    n_vocab, bos_id, eos_id, eog_ids = 258, BOS, EOG, frozenset({EOG})

    def __init__(self, add_bos=True):
        self.add_bos, self.rules = add_bos, SimpleNamespace(clean_spaces=False)

    def encode(self, text, add_special=True, parse_special=False):
        assert not parse_special
        return [BOS] * (add_special and self.add_bos) + list(text.encode())

    def decode_bytes(self, ids):
        raw = bytes(i for i in ids if i < 256)
        return raw[1:] if raw[:1] == b" " and ids[0] < 256 else raw

    def decode(self, ids):
        return self.decode_bytes(ids).decode(errors="replace")


class FakeCache:
    def __init__(self, n_ctx, token_ids=()):
        self.n_ctx, self.token_ids = n_ctx, np.array([*token_ids], np.int32)

    @property
    def n_past(self):
        return len(self.token_ids)

    @contextmanager
    def appending(self, token_ids):
        assert self.n_past + len(token_ids) <= self.n_ctx
        yield
        self.token_ids = np.append(self.token_ids, token_ids)


class ScriptModel:
    """Says the next token of its script, whatever it reads; records what it was asked."""

    def __init__(self, script, n_ctx_train=64, add_bos=True):
        self.script, self.calls = list(script), []
        self.tokenizer, self.device = BytesTokenizer(add_bos), "cpu"
        self.config, self.gguf = SimpleNamespace(n_ctx_train=n_ctx_train), {}

    def new_cache(self, n_ctx=None):
        return FakeCache(n_ctx)

    def forward(self, token_ids, cache, last_only=False):
        assert last_only
        with cache.appending(token_ids):
            self.calls.append([int(i) for i in token_ids])
        logits = np.zeros((1, 258), np.float32)
        logits[0, self.script[len(self.calls) - 1]] = 5
        return logits


def run(script, prompt="Hi", params=GREEDY, **kwargs):
    model = ScriptModel(script)
    return model, list(generate(model, prompt, params, **kwargs))


def test_the_prompt_goes_in_at_once_and_then_one_token_a_step():
    model, steps = run(b"abc", max_tokens=3)
    assert model.calls == [[BOS, *b"Hi"], [*b"a"], [*b"b"]]
    assert [s.text for s in steps] == ["a", "b", "c"]
    assert [s.position for s in steps] == [3, 4, 5]
    assert [s.stop for s in steps] == [None, None, "max_tokens"]


def test_end_of_generation_is_a_last_step_without_text():
    _, steps = run([*b"ab", EOG, *b"c"])
    assert [(s.token_id, s.text, s.stop) for s in steps[-2:]] == [
        (98, "b", None),
        (EOG, "", "eog"),
    ]


def test_a_full_context_ends_the_text_without_an_error():
    model = ScriptModel(b"abcdefgh")
    cache = FakeCache(5)
    steps = list(generate(model, "Hi", GREEDY, cache=cache))
    assert "".join(s.text for s in steps) == "abc"  # slots: BOS H i a b; c needs none
    assert (steps[-1].stop, cache.n_past) == ("n_ctx", 5)


def test_a_prompt_that_fills_the_context_still_gives_one_token():
    steps = list(generate(ScriptModel(b"abc"), "Hi", GREEDY, cache=FakeCache(3)))
    assert [(s.text, s.stop) for s in steps] == [("a", "n_ctx")]


def test_a_prompt_that_does_not_fit_is_refused_before_any_work():
    model = ScriptModel(b"abc", n_ctx_train=4)
    with pytest.raises(ContextFullError, match="n_ctx = 4 tokens, got n_prompt = 6; shorten"):
        generate(model, "Hello")
    with pytest.raises(ContextFullError, match="n_prompt = 1 after 5 in the cache"):
        cache = FakeCache(5, b"Hello")
        generate(model, "H", cache=cache)
    assert model.calls == []


def test_the_cache_made_for_a_run_is_no_larger_than_needed():
    model, sizes = ScriptModel(b"abc" * 9, n_ctx_train=10), []
    model.new_cache = lambda n_ctx: sizes.append(n_ctx) or FakeCache(n_ctx)
    assert list(generate(model, "Hi", GREEDY, max_tokens=2))[-1].stop == "max_tokens"
    assert list(generate(model, "Hi", GREEDY, max_tokens=100))[-1].stop == "n_ctx"
    assert sizes == [5, 10]


def test_zero_tokens_yield_nothing_and_cost_nothing():
    model, steps = run(b"abc", max_tokens=0)
    assert (steps, model.calls) == ([], [])


def test_closing_the_iterator_stops_the_model():
    model = ScriptModel(b"abcdef")
    steps = generate(model, "Hi", GREEDY)
    next(steps), next(steps)
    steps.close()
    assert len(model.calls) == 2


def test_a_continued_cache_gets_no_second_bos():
    model, cache = ScriptModel(b"abcdef"), FakeCache(20)
    list(generate(model, "Hi", GREEDY, max_tokens=2, cache=cache))
    steps = list(generate(model, "!", GREEDY, max_tokens=2, cache=cache))
    assert model.calls[2:] == [[*b"!"], [*b"c"]]
    assert [s.position for s in steps] == [5, 6]


def test_a_character_appears_with_its_last_byte():
    _, steps = run("é€😀".encode(), max_tokens=9)
    assert [s.text for s in steps] == ["", "é", "", "", "€", "", "", "", "😀"]


def test_bytes_that_never_become_a_character_are_flushed_as_one_mark():
    _, steps = run("😀".encode()[:3], max_tokens=3)
    assert [s.text for s in steps] == ["", "", "�"]
    _, steps = run(["😀".encode()[0], EOG], max_tokens=9)
    assert [s.text for s in steps] == ["", "�"]


def test_a_character_split_between_prompt_and_answer_is_whole():
    steps = generate(ScriptModel([0xA9]), [0xC3], GREEDY, max_tokens=1)
    assert [s.text for s in steps] == ["é"]


@given(
    st.one_of(st.text(min_size=1, max_size=12).map(str.encode), st.binary(min_size=1, max_size=12))
)
def test_joined_texts_are_what_the_new_tokens_add_to_the_prompt(raw):
    model, steps = run(raw, max_tokens=len(raw))
    ids = [BOS, *b"Hi"]
    decode = model.tokenizer.decode
    assert "".join(s.text for s in steps) == decode(ids + list(raw)).removeprefix(decode(ids))


def test_a_leading_space_of_a_new_token_is_kept():
    _, steps = run(b" a b", max_tokens=4)
    assert "".join(s.text for s in steps) == " a b"


@needs_reference
@pytest.mark.parametrize("name", ["llama-spm", "gpt-2", "llama-bpe"])
def test_streamed_text_equals_decode_for_real_vocabularies(name):
    with open_gguf(REFERENCE / "vocab" / f"ggml-vocab-{name}.gguf") as gguf:
        tokenizer = load_tokenizer(gguf)
    spaces = [
        i for t in (" ", "'", "?", " '", "s", "'re", "v", "e", ".") for i in plain(tokenizer, t)
    ]
    rng = np.random.default_rng(3)
    for n in range(200):
        ids = rng.choice(spaces, 9) if n % 2 else rng.integers(300, tokenizer.n_vocab, 30)
        prompt, new = ids[: 1 + n % 4].tolist(), ids[1 + n % 4 :].tolist()
        stream = TextStream(tokenizer, prompt)
        text = "".join(stream.push(token_id) for token_id in new) + stream.flush()
        whole, start = tokenizer.decode(prompt + new), tokenizer.decode(prompt)
        assert text == whole[n_shared(whole, start) :], ids


def n_shared(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(b))


def plain(tokenizer, text):
    return tokenizer.encode(text, add_special=False)


def test_logprob_is_of_the_full_softmax_and_not_of_the_samplers():
    _, (step,) = run(b"a", params=SamplingParams(top_k=1), max_tokens=1)
    np.testing.assert_allclose(step.logprob, 5 - np.log(np.exp(5) + 257), rtol=1e-12)
    np.testing.assert_array_equal(step.candidates.ids, [97])
    np.testing.assert_allclose(np.exp(logprob_of(np.zeros(4, np.float32), 2)), 0.25)


def test_the_seed_decides_and_parameters_are_reproducible():
    def texts(seed):
        params = SamplingParams(temperature=3, top_k=0, top_p=1, min_p=0, seed=seed)
        return [s.token_id for s in run([97] * 20, params=params, max_tokens=20)[1]]

    assert texts(1) == texts(1) != texts(2)


def test_a_chain_can_stand_in_for_the_parameters():
    _, steps = run(b"ab", params=SamplerChain([stages.top_k(1)]), max_tokens=2)
    assert [s.text for s in steps] == ["a", "b"]


def test_the_chain_sees_prompt_and_new_tokens_as_history():
    seen = []

    def spy(candidates, history):
        seen.append(list(history))
        return candidates

    chain = SamplerChain([stages.Stage("spy", {}, spy), stages.temp(0)])
    run(b"ab", params=chain, max_tokens=2)
    assert seen == [[BOS, *b"Hi"], [BOS, *b"Hi", *b"a"]]


class GraphOfScript:
    """Draws on a device of Python what the script says, AHEAD of the host; and holds the logits."""

    stream = None

    def __init__(self, model, chain):
        self.model, self.chain, self.sampler, self.drawn = model, chain, self, []

    def begin(self, logits, settings, generator, token, position, stream):
        self.position = position
        self._draw(logits)

    def launch(self):
        self._draw(self.model.logits_at(len(self.drawn)))

    def _draw(self, logits):
        self.drawn.append((*SamplerChain(self.chain.stages).sample(logits), logits))

    def wait(self, step, stream):
        token_id, left, logits = self.drawn[step]
        logprob = logprob_of(logits, token_id)
        return DrawnToken(
            token_id, logprob, left.ids, left.logits, 0.0, len(left), True, True, False
        )

    def stop(self, stream):
        self.model.stopped = True


class DeviceModel(ScriptModel):
    """The script on a device with a decode graph, or without one for a reason."""

    def __init__(self, script, why_not=None):
        super().__init__(script)
        self.device, self.why_not, self.stopped = "cuda:0", why_not, False

    def logits_at(self, step):
        logits = np.zeros(258, np.float32)
        logits[self.script[step] if step < len(self.script) else 0] = 5
        return logits

    def decode_graph(self, cache):
        if self.why_not:
            raise UnsupportedError(self.why_not)
        self.graph = GraphOfScript(self, SamplerChain(GREEDY))
        return self.graph


@pytest.mark.parametrize("script", [b"abcdef", [*"né".encode(), EOG, 97, 98]])
def test_steps_from_a_device_are_those_of_the_host(script):
    on_host, on_device = ScriptModel(script), DeviceModel(script)
    want = list(generate(on_host, "Hi", GREEDY, max_tokens=5))
    got = list(generate(on_device, "Hi", GREEDY, max_tokens=5))
    for a, b in zip(got, want, strict=True):
        assert (a.token_id, a.text, a.logprob, a.position, a.stop) == (
            b.token_id,
            b.text,
            b.logprob,
            b.position,
            b.stop,
        )
        np.testing.assert_array_equal(a.candidates.ids, b.candidates.ids)
    assert on_device.calls == [[BOS, *b"Hi"]] and on_device.stopped
    assert on_device.graph.position == 2


def test_a_device_ends_the_text_where_the_context_is_full():
    model, cache = DeviceModel(b"abcdefgh"), FakeCache(5)
    steps = list(generate(model, "Hi", GREEDY, cache=cache))
    assert "".join(s.text for s in steps) == "abc" and steps[-1].stop == "n_ctx"
    assert cache.n_past == 5 and len(model.graph.drawn) == 3


def test_closing_the_iterator_stops_the_device_at_once():
    model, cache = DeviceModel(b"abcdefgh" * 9), FakeCache(60)
    steps = generate(model, "Hi", GREEDY, cache=cache)
    next(steps), next(steps)
    steps.close()
    assert model.stopped and cache.n_past == 4 and len(model.graph.drawn) < 12


@pytest.mark.parametrize(
    ("why_not", "chain", "message"),
    [
        ("gpt2 has no decode graph", None, "every token waits for the host, as gpt2 has no"),
        (None, [stages.temp(0), stages.top_k(1)], "as the GPU runs top_k -> top_p -> min_p"),
    ],
)
def test_a_device_without_a_fast_path_says_so(why_not, chain, message):
    model = DeviceModel(b"abc", why_not)
    params = GREEDY if chain is None else SamplerChain(chain)
    with pytest.warns(UserWarning, match=message):
        steps = list(generate(model, "Hi", params, max_tokens=3))
    assert "".join(s.text for s in steps) == "abc" and len(model.calls) == 3


@pytest.mark.parametrize(
    ("prompt", "kwargs", "message"),
    [
        ("Hi", {"max_tokens": -1}, "max_tokens: negative; expected 0 or more, got -1"),
        ("Hi", {"max_tokens": 1.5}, "max_tokens: not a whole number"),
        ("Hi", {"max_tokens": True}, "max_tokens: not a whole number"),
        ("Hi", {"params": {"top_k": 1}}, "params: not sampling settings; .*got dict"),
        ([], {}, "prompt: empty"),
        ([1, 258], {}, "prompt: unknown token id 258; expected ids from 0 to 257"),
        ([-1], {}, "prompt: unknown token id -1"),
        ([1.5], {}, "prompt: not a prompt; expected str or a list of token ids"),
        ([[1], [2, 3]], {}, "prompt: not a prompt"),
        (None, {}, "prompt: not a prompt"),
        (b"Hi", {}, "prompt: not a prompt"),
    ],
)
def test_bad_arguments_are_refused_when_called(prompt, kwargs, message):
    with pytest.raises(ParameterError, match=message):
        generate(ScriptModel(b"abc"), prompt, **kwargs)


def test_an_empty_prompt_needs_a_bos():
    assert next(generate(ScriptModel(b"abc"), "", GREEDY)).text == "a"
    with pytest.raises(ParameterError, match="prompt: empty, and the model adds no BOS"):
        generate(ScriptModel(b"abc", add_bos=False), "")


def test_a_step_is_frozen():
    step: Step = run(b"a", max_tokens=1)[1][0]
    with pytest.raises(AttributeError):
        step.text = "b"


@needs_reference
@pytest.mark.parametrize(
    ("file", "golden", "type_kv"),
    [
        ("f32", "f32", "f32"),
        ("f32", "f32", "f16"),
        ("q8_0", "q8_0_dequant", "f32"),
        ("q4_0", "q4_0_dequant", "f32"),
    ],
)
def test_greedy_text_of_stories260k_is_llama_cpps(file, golden, type_kv):
    folder = REFERENCE / "models"
    runs = json.loads((folder / "stories260K-greedy.json").read_text())["results"]
    with load_model(folder / f"stories260K-{file}.gguf", weights="float32") as model:
        for run in [run for run in runs if run["model"] == golden]:
            cache = model.new_cache(type_k=type_kv, type_v=type_kv)
            steps = list(generate(model, run["prompt"], GREEDY, max_tokens=80, cache=cache))
            assert [s.token_id for s in steps] == run["tokens"]
            # llama_detokenize of the new tokens alone drops their leading space
            assert "".join(s.text for s in steps).removeprefix(" ") == run["text"]
