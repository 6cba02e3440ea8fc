"""Prompt -> text: prefill, then one token a step, each step a record of what was chosen and why.

Source: the loop of examples/simple/simple.cpp in llama.cpp. As there, the last token drawn needs
no slot in the cache, so a context of n_ctx positions ends with one token beyond it.

    host   forward ▶ sampler chain ▶ Step      one token after another
    GPU    graph ▶ graph ▶ graph ▶ …           tokens are drawn there (`sampling/device.py`);
                 Step ◀ Step ◀ …               the host reads behind and makes the texts

Leaves out: chats (`chat_session.py`), batches of several prompts, drafts (`speculative.py`).
"""

import codecs
import numbers
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import NO_DECODE_GRAPH, ContextFullError, ParameterError
from .model import KVRecorder, to_numpy
from .sampling import Candidates, SamplerChain, SamplingParams
from .sampling.device import DecodeGraph, Draw, device_draws, why_not_on_device

if TYPE_CHECKING:
    from .model import KVCache, Model
    from .records import Recorder

# tokens before a new one that its text may depend on; cleaning up reaches over a few bytes
WINDOW = 8
# an end that the next token may still change: " ?" -> "?", " ' " -> "'" (" ' ?" -> " '?"), " 've"
UNSETTLED = re.compile(rb"(?: (?:'[rv]?)?|')?\Z")


@dataclass(frozen=True, eq=False)
class Step:
    """One generated token.

    token_id: the token. text: the characters it completes; "" while a character still lacks bytes,
    and for the end-of-generation token. logprob: natural log of its probability under the softmax
    of all logits, before any sampler. candidates: what it was drawn from. position: its index in
    the sequence. stop: None, or on the last step "eog", "max_tokens" or "n_ctx".
    """

    token_id: int
    text: str
    logprob: float
    candidates: Candidates
    position: int
    stop: str | None = None


def generate(
    model: "Model",
    prompt: str | Sequence[int],
    params: SamplingParams | SamplerChain | None = None,
    max_tokens: int = 100,
    cache: "KVCache | None" = None,
    record: "Recorder | None" = None,
    recorder: KVRecorder | None = None,
) -> Iterator[Step]:
    """Continue a prompt, yielding one Step per token; closing the iterator stops at once.

    prompt: text, encoded with its special tokens when the cache is empty and without BOS when it
    continues one; or token ids. params: settings, by default those that the file recommends; or a
    chain of your own (its generator goes on from where it is). max_tokens: >= 0. cache: continue
    from its n_past tokens, which the samplers see too; by default a new one, large enough for
    prompt and max_tokens within the model's n_ctx_train. Afterwards the cache holds prompt and new
    tokens but the last. record: a `records.Recorder` that takes the run down (every token then
    waits for the host). recorder: a `KVRecorder` of this model that takes down what the KV cache
    sees, prompt and all.

    On a GPU tokens are drawn there, some steps ahead of the text (the same tokens; samplers without
    a kernel, and models without a decode graph, go step by step, with a warning that says why).

    The texts joined are what the new tokens add to the decoded prompt; bytes that are not UTF-8
    become U+FFFD.

    Raises, when called and not at the first step: ParameterError for a bad argument or an empty
    prompt, ContextFullError when the prompt does not fit.
    """
    if not isinstance(max_tokens, numbers.Integral) or isinstance(max_tokens, bool):
        raise ParameterError(
            f"max_tokens: not a whole number; expected 0 or more, got {max_tokens!r}"
        )
    if max_tokens < 0:
        raise ParameterError(f"max_tokens: negative; expected 0 or more, got {max_tokens}")
    settings = None if isinstance(params, SamplerChain) else _settings(params, model)
    chain = params if settings is None else SamplerChain(settings, tokenizer=model.tokenizer)
    n_past = 0 if cache is None else cache.n_past
    ids = prompt_ids(model.tokenizer, prompt, continues=n_past > 0)
    n_ctx = model.config.n_ctx_train if cache is None else cache.n_ctx
    if n_past + len(ids) > n_ctx:
        raise ContextFullError(
            f"generate: the prompt does not fit; expected at most n_ctx = {n_ctx} tokens, got "
            f"n_prompt = {len(ids)}"
            + (f" after {n_past} in the cache" if n_past else "")
            + "; shorten the prompt or make a larger cache with model.new_cache(n_ctx=...)"
        )
    if cache is None:
        cache = model.new_cache(n_ctx=max(1, min(n_ctx, len(ids) + int(max_tokens))))
    if record is not None:
        record.begin(model, ids, chain, settings)
    if recorder is not None:
        _begin(recorder, model, len(ids) + max(int(max_tokens) - 1, 0), cache)
    return _steps(model, ids, chain, int(max_tokens), cache, record, recorder)


def _begin(recorder: KVRecorder, model: "Model", n_tokens: int, cache: "KVCache") -> None:
    if not isinstance(recorder, KVRecorder):
        raise ParameterError(
            f"recorder: not one of a KV cache; expected a KVRecorder, got {recorder!r:.80}; a "
            "Recorder of tokens is passed as record"
        )
    recorder.begin(model, min(n_tokens, cache.n_ctx - cache.n_past), cache)


def prompt_ids(tokenizer, prompt: str | Sequence[int], continues: bool = False) -> list[int]:
    """Token ids of a prompt: text is encoded, ids are checked.

    continues: the text goes on after other tokens, so it gets no BOS.
    Raises ParameterError when there is no token, or an id outside the vocabulary.
    """
    if isinstance(prompt, str):
        ids = tokenizer.encode(prompt, add_special=not continues, parse_special=False)
    else:
        ids = _checked_ids(prompt, tokenizer.n_vocab)
    if not ids:
        raise ParameterError(
            "prompt: empty, and the model adds no BOS token; expected at least one token; "
            "write a first word"
        )
    return ids


def stop_reason(tokenizer, token_id: int, last: bool, full: bool) -> str | None:
    """Why a text ends with this token, as `Step.stop`; None where it goes on.

    last: it is the last that was asked for; full: the context has no place for another.
    """
    if token_id in tokenizer.eog_ids:
        return "eog"
    if last:
        return "max_tokens"
    return "n_ctx" if full else None


def logprob_of(logits: np.ndarray, token_id: int) -> float:
    """Natural log of a token's probability under the softmax of (n_vocab,) float32 logits."""
    shifted = logits.astype(np.float64) - float(logits.max())
    return float(shifted[token_id] - np.log(np.exp(shifted).sum()))


def _steps(
    model: "Model",
    ids: list[int],
    chain: SamplerChain,
    max_tokens: int,
    cache: "KVCache",
    record: "Recorder | None",
    recorder: KVRecorder | None,
) -> Iterator[Step]:
    if max_tokens == 0:
        return
    text = TextStream(model.tokenizer, ids)
    draws = _draws(model, ids, chain, max_tokens, cache, record, recorder)
    with closing(draws):
        for n_new, draw in enumerate(draws, 1):
            full = cache.n_past >= cache.n_ctx
            stop = stop_reason(model.tokenizer, draw.token_id, n_new == max_tokens, full)
            piece = text.last_push(draw.token_id, stop) if stop else text.push(draw.token_id)
            if record is not None:
                record.add_text(piece)
            yield Step(draw.token_id, piece, draw.logprob, draw.candidates, cache.n_past, stop)
            if stop is not None:
                return


def _draws(
    model: "Model",
    ids: list[int],
    chain: SamplerChain,
    max_tokens: int,
    cache: "KVCache",
    record: "Recorder | None",
    recorder: KVRecorder | None,
) -> Iterator[Draw]:
    """Tokens without an end in sight, from where the model computes; a warning where that is slow.

    A token is in the cache once the one after it is asked for.
    """
    observers = (record, recorder)
    if model.device == "cpu" or max_tokens == 1 or observers != (None, None):
        return _host_draws(model, ids, chain, cache, *observers)
    reason = why_not_on_device(chain, model.tokenizer.n_vocab)
    if reason is None:
        try:
            graph = model.decode_graph(cache)
        except NO_DECODE_GRAPH as error:
            reason = str(error)
        else:
            return _device_draws(model, graph, ids, chain, max_tokens, cache)
    warnings.warn(f"generate: every token waits for the host, as {reason}", stacklevel=3)
    return _host_draws(model, ids, chain, cache)


def _host_draws(
    model: "Model",
    ids: list[int],
    chain: SamplerChain,
    cache: "KVCache",
    record: "Recorder | None" = None,
    recorder: KVRecorder | None = None,
) -> Iterator[Draw]:
    """One token after another, each drawn on the host."""
    tokens, new = [*cache.token_ids.tolist(), *ids], ids
    forward = model.forward if recorder is None else recorder.forward
    while True:
        logits = to_numpy(forward(np.array(new, np.int32), cache, last_only=True))[-1]
        token_id, candidates = chain.sample(logits, tokens)
        logprob = logprob_of(logits, token_id)
        if record is not None:
            record.step(logits, token_id, logprob, chain.drawn)
        yield Draw(token_id, logprob, candidates)
        tokens.append(token_id)
        new = [token_id]


def _device_draws(
    model: "Model",
    graph: DecodeGraph,
    ids: list[int],
    chain: SamplerChain,
    max_tokens: int,
    cache: "KVCache",
) -> Iterator[Draw]:
    """The same tokens, drawn on the GPU some steps ahead of the host."""
    logits = model.forward(np.array(ids, np.int32), cache, last_only=True)[-1]
    n_most = min(max_tokens, cache.n_ctx - cache.n_past + 1)
    stop_ids = sorted(model.tokenizer.eog_ids)
    yield from device_draws(graph, logits, chain, cache, n_most, stop_ids)


class TextStream:
    """Token ids in, settled characters out: together they are what `decode` makes of the tokens.

    Bytes wait here until they make a UTF-8 character, and where the tokenizer cleans up spaces,
    until the next token tells whether a space or apostrophe stays.
    prompt: token ids that came before; their text is not repeated.
    """

    def __init__(self, tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._decoder.decode(tokenizer.decode_bytes(prompt))
        self._prompt_is_cut = bool(self._decoder.getstate()[0])  # it ends inside a character
        self._window = list(prompt[-WINDOW:])
        self._waiting = b""

    def push(self, token_id: int) -> str:
        """The characters that this token settles."""
        # Decoded behind its neighbours: what happens at the very start of a text (SPM drops a
        # space) must not happen to a token in the middle. Both texts share that start.
        before = self._tokenizer.decode_bytes(self._window)
        both = self._tokenizer.decode_bytes([*self._window, token_id])
        settled = min(len(before) - len(self._waiting), _n_shared(before, both))
        self._window = [*self._window, token_id][-WINDOW:]
        self._waiting = b""
        if self._tokenizer.rules.clean_spaces:
            self._waiting = UNSETTLED.search(both, settled).group()
        return self._characters(both[settled : len(both) - len(self._waiting)])

    def last_push(self, token_id: int, stop: str) -> str:
        """The characters of the last token, and all that waited; nothing of its own for "eog"."""
        return ("" if stop == "eog" else self.push(token_id)) + self.flush()

    def flush(self) -> str:
        """What still waits; bytes that never became a character are U+FFFD."""
        waiting, self._waiting = self._waiting, b""
        return self._characters(waiting, final=True)

    def _characters(self, raw: bytes, final: bool = False) -> str:
        text = self._decoder.decode(raw, final)
        if text and self._prompt_is_cut:
            self._prompt_is_cut = False
            text = text.removeprefix("\ufffd")  # the prompt's own text shows this mark
        return text


def _n_shared(a: bytes, b: bytes) -> int:
    """Length of the common beginning."""
    pairs = zip(a, b, strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


def _settings(params: SamplingParams | None, model: "Model") -> SamplingParams:
    if params is None:
        return SamplingParams.from_gguf(model.gguf)
    if isinstance(params, SamplingParams):
        return params
    raise ParameterError(
        "params: not sampling settings; expected SamplingParams or SamplerChain, "
        f"got {type(params).__name__}"
    )


def _checked_ids(prompt: Sequence[int], n_vocab: int) -> list[int]:
    try:
        ids = np.asarray(prompt)
    except ValueError:  # a ragged list
        ids = np.array(None)
    if ids.size == 0 and ids.ndim == 1:
        return []
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ParameterError(
            f"prompt: not a prompt; expected str or a list of token ids, got {prompt!r:.80}"
        )
    outside = ids[(ids < 0) | (ids >= n_vocab)]
    if outside.size:
        raise ParameterError(
            f"prompt: unknown token id {outside[0]}; expected ids from 0 to {n_vocab - 1}"
        )
    return [int(i) for i in ids]
