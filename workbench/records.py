"""A generated text as a record: saved, opened again without the model, replayed otherwise.

    generate(…, record=recorder)      each step: the token, the n_top largest logits, the rest
          │
    recorder.record.save(path)        one .npz of plain arrays
          │
    replay(RunRecord.load(path), …)   other samplers on the same logits: where would the text fork?

Source: our own. Leaves out: what follows a fork, since no model has seen that text.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from .errors import ParameterError
from .sampling import SamplerChain, SamplingParams
from .sampling.candidates import largest_index

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Fork", "Recorder", "Replay", "RunRecord", "replay"]

VERSION = 1
N_TOP = 64
ARRAYS = {
    "prompt_ids": ("i", 1),
    "token_ids": ("i", 1),
    "logprobs": ("f", 1),
    "top_ids": ("i", 2),
    "top_logits": ("f", 2),
    "tail": ("f", 1),
    "drawn": ("f", 1),
}


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One run of `generate`, P tokens of prompt and N new ones.

    model: its name; n_vocab: its tokens. prompt_ids: (P,) int32; token_ids: (N,) int32; texts: of
    each new token. logprobs: (N,) float64 before any sampler. top_ids, top_logits: (N, n_top) int32
    and float32, largest first; tail: (N,) float64, log of the summed exp of all other logits.
    drawn: (N,) float64, the random number in [0, 1) of each draw, NaN without one.
    settings: the samplers, as one can read them; params: their SamplingParams, None for a chain of
    stages.
    """

    model: str
    n_vocab: int
    settings: str
    params: SamplingParams | None
    texts: tuple[str, ...]
    prompt_ids: np.ndarray
    token_ids: np.ndarray
    logprobs: np.ndarray
    top_ids: np.ndarray
    top_logits: np.ndarray
    tail: np.ndarray
    drawn: np.ndarray

    @property
    def text(self) -> str:
        """All new characters."""
        return "".join(self.texts)

    @property
    def n_tokens(self) -> int:
        """New tokens."""
        return len(self.token_ids)

    @property
    def n_top(self) -> int:
        """Logits kept of each step."""
        return self.top_ids.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(self, name).nbytes for name in ARRAYS)

    def __repr__(self) -> str:
        return (
            f"RunRecord({self.n_tokens} tokens of {self.model}, {self.n_top} of {self.n_vocab} "
            f"logits a token, {self.nbytes} bytes)"
        )

    def save(self, path: str | Path) -> Path:
        """Write one .npz; returns its path."""
        path = Path(path)
        about = {
            "version": VERSION,
            "model": self.model,
            "n_vocab": self.n_vocab,
            "settings": self.settings,
            "params": None if self.params is None else _plain(self.params),
            "texts": self.texts,
        }
        with open(path, "wb") as file:
            arrays = {name: getattr(self, name) for name in ARRAYS}
            np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
        return path

    @classmethod
    def load(cls, path: str | Path) -> "RunRecord":
        """Open what `save` wrote. Raises: ParameterError for any other file."""
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                arrays = {name: file[name] for name in ARRAYS}
            version = about["version"]
            _demand_shapes(arrays, about)
            params = None if about["params"] is None else _params_of(about["params"])
            texts = tuple(map(str, about["texts"]))
            fields = (str(about["model"]), int(about["n_vocab"]), str(about["settings"]))
        except FileNotFoundError:
            raise ParameterError(
                f"{path}: no such file; expected a record that RunRecord.save wrote"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise ParameterError(
                f"{path}: not a record of a run; expected an .npz that RunRecord.save wrote, got "
                f"{type(error).__name__}: {error}"
            ) from error
        if version != VERSION:
            raise ParameterError(
                f"{path}: a record of version {version!r}; expected version {VERSION}; record the "
                "run again"
            )
        return cls(*fields, params, texts, **arrays)


def _plain(params: SamplingParams) -> dict[str, Any]:
    fields = asdict(params)
    fields["logit_bias"] = [[int(i), float(b)] for i, b in dict(params.logit_bias or {}).items()]
    return fields


def _params_of(fields: dict[str, Any]) -> SamplingParams:
    bias = {int(i): float(b) for i, b in fields.pop("logit_bias")}
    lists = {name: tuple(v) for name, v in fields.items() if isinstance(v, list)}
    return SamplingParams(**{**fields, **lists, "logit_bias": bias})


def _demand_shapes(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
    n = len(arrays["token_ids"])
    for name, (kind, ndim) in ARRAYS.items():
        x = arrays[name]
        good = x.ndim == ndim and x.dtype.kind == kind
        if not good or (name != "prompt_ids" and len(x) != n):
            raise ValueError(f"array {name} is {x.dtype} {x.shape}")
    for name in ("prompt_ids", "token_ids", "top_ids"):
        ids = arrays[name]
        if ids.size and not (0 <= ids.min() and ids.max() < about["n_vocab"]):
            raise ValueError(f"array {name} has token ids outside the vocabulary")
    if arrays["top_ids"].shape != arrays["top_logits"].shape or len(about["texts"]) != n:
        raise ValueError("arrays of different lengths")


class Recorder:
    """Takes down a run: pass it to `generate` as `record`, then read `record`.

    n_top: logits kept of each step, at least 1; 8 bytes each.
    """

    def __init__(self, n_top: int = N_TOP):
        if not isinstance(n_top, int | np.integer) or isinstance(n_top, bool) or n_top < 1:
            raise ParameterError(f"n_top: expected a whole number from 1 up, got {n_top!r}")
        self.n_top = int(n_top)
        self._steps: list[tuple] = []
        self._texts: list[str] = []

    def begin(
        self,
        model: "Model",
        prompt_ids: Sequence[int],
        chain: SamplerChain,
        params: SamplingParams | None,
    ) -> None:
        """Start over, with a prompt; params: what the chain was made of, None for a chain alone."""
        self._steps, self._texts = [], []
        self._name = str(model.gguf.metadata.get("general.name", model.config.architecture))
        self._n_vocab, self._prompt = model.tokenizer.n_vocab, list(prompt_ids)
        self._settings, self._params = repr(chain), params

    def step(self, logits: np.ndarray, token_id: int, logprob: float, drawn: float | None) -> None:
        """Take down one token. logits: (n_vocab,) float32; drawn: the number that chose it."""
        top = largest_index(logits, min(self.n_top, logits.size))
        shifted = np.exp(logits.astype(np.float64) - float(logits.max()))
        shifted[top] = 0
        with np.errstate(divide="ignore"):  # nothing is left: the log is -inf
            tail = np.log(shifted.sum()) + float(logits.max())
        number = np.nan if drawn is None else drawn
        self._steps.append((token_id, logprob, top.astype(np.int32), logits[top], tail, number))

    def add_text(self, text: str) -> None:
        """The characters of the last step."""
        self._texts.append(text)

    @property
    def record(self) -> RunRecord:
        """What was taken down so far. Raises: ParameterError before a first token."""
        if not self._texts:
            raise ParameterError(
                "record: nothing was taken down; expected at least one token; pass the recorder "
                "to generate as record=… and run it"
            )
        n = len(self._texts)  # a step whose text was not asked for is left out
        ids, logprobs, top_ids, top_logits, tail, drawn = zip(*self._steps[:n], strict=True)
        about = (self._name, self._n_vocab, self._settings, self._params, tuple(self._texts))
        return RunRecord(
            *about,
            np.array(self._prompt, np.int32),
            np.array(ids, np.int32),
            np.array(logprobs, np.float64),
            np.stack(top_ids),
            np.stack(top_logits).astype(np.float32),
            np.array(tail, np.float64),
            np.array(drawn, np.float64),
        )


@dataclass(frozen=True)
class Fork:
    """The first step at which other settings choose another token.

    step: from 0; old_id, new_id: tokens; old_prob, new_prob: of each, after the new settings'
    samplers; raw_prob: of the new token before any sampler.
    """

    step: int
    old_id: int
    new_id: int
    old_prob: float
    new_prob: float
    raw_prob: float


@dataclass(frozen=True, eq=False)
class Replay:
    """A record with other settings: fork is None where every token is the same.

    n_same: tokens before the fork; settings: those replayed.
    """

    record: RunRecord
    settings: str
    n_same: int
    fork: Fork | None

    def __str__(self) -> str:
        if self.fork is None:
            return f"the same {_tokens(self.n_same)}"
        shared = f"the same {_tokens(self.n_same)}, then" if self.n_same else "from the start"
        return (
            f"{shared} token {self.fork.new_id} (probability {self.fork.new_prob:.3f}) instead of "
            f"{self.fork.old_id} ({self.fork.old_prob:.3f})"
        )


def _tokens(n: int) -> str:
    return "1 token" if n == 1 else f"{n} tokens"


def replay(
    record: RunRecord, params: SamplingParams | SamplerChain, tokenizer: Any = None
) -> Replay:
    """Run other samplers over the logits of a record, up to the first other token.

    params: settings, or a chain (a fork of it is used, from its seed). tokenizer: for DRY.
    Raises: ParameterError where the settings need logits that were not recorded: top_k must be
        from 1 to n_top (or the record hold all logits), and nothing may raise other tokens.
    """
    if isinstance(params, SamplerChain):
        chain = params.fork()
        chain.reset()
    else:
        chain = SamplerChain(params, tokenizer=tokenizer)
    history = record.prompt_ids.tolist()
    whole = np.full(record.n_vocab, -np.inf, np.float32)
    _demand_known_before(record, chain)
    for step, old_id in enumerate(record.token_ids.tolist()):
        ids, logits = record.top_ids[step], record.top_logits[step]
        whole[ids] = logits
        _demand_recorded(record, chain, whole, history, step)
        new_id, left = chain.sample(whole, history)
        if new_id != old_id:
            return Replay(record, repr(chain), step, _fork(record, step, new_id, left))
        whole[ids] = -np.inf
        history.append(old_id)
    return Replay(record, repr(chain), record.n_tokens, None)


def _fork(record: RunRecord, step: int, new_id: int, left: Any) -> Fork:
    old_id = int(record.token_ids[step])
    probs = dict(zip(left.ids.tolist(), left.probs.tolist(), strict=True))
    total = np.logaddexp.reduce([*record.top_logits[step].astype(np.float64), record.tail[step]])
    raw = float(record.top_logits[step][record.top_ids[step] == new_id][0])
    return Fork(
        step, old_id, new_id, probs.get(old_id, 0.0), probs[new_id], float(np.exp(raw - total))
    )


BEFORE_TOP_K = frozenset({"penalties", "dry", "logit_bias"})  # they change single tokens


def _demand_known_before(record: RunRecord, chain: SamplerChain) -> None:
    """Raises: ParameterError for stages that look at logits which were not recorded."""
    if record.n_top >= record.n_vocab:
        return
    kept = f"the {record.n_top} of {record.n_vocab} logits that were recorded"
    for stage in chain.stages:
        if stage.off:
            continue
        if stage.name == "top_k":
            if stage.params["k"] <= record.n_top:
                return
            raise ParameterError(
                f"replay: top_k {stage.params['k']} needs more than {kept}; expected from 1 to "
                f"{record.n_top}; lower it, or record with a larger n_top"
            )
        if stage.name not in BEFORE_TOP_K:
            break
    raise ParameterError(
        f"replay: these samplers need more than {kept}; expected top_k from 1 to {record.n_top} "
        f"before all that look at probabilities, got {chain!r}; set top_k, or record with a "
        "larger n_top"
    )


def _demand_recorded(
    record: RunRecord, chain: SamplerChain, logits: np.ndarray, history: list[int], step: int
) -> None:
    """Raises: ParameterError where an unrecorded token might be among the top_k.

    All of them have at most the smallest recorded logit, and only bias and penalties move them.
    """
    if record.n_top >= record.n_vocab:
        return
    reports = chain.explain(logits, history)
    top_k = next(i for i, report in enumerate(reports) if report.name == "top_k" and report.active)
    least_kept = reports[top_k].after.logits.min()
    if all(not report.active for report in reports[:top_k]):
        return
    if least_kept < record.top_logits[step].min() or _may_raise(chain):
        raise ParameterError(
            f"replay: at token {step} the penalties or biases may let in tokens beyond the "
            f"{record.n_top} recorded; expected changes that leave top_k among them; lower top_k, "
            "or record with a larger n_top"
        )


def _may_raise(chain: SamplerChain) -> bool:
    """Whether a stage before top_k may lift a token that was not recorded."""
    for stage in chain.stages:
        p = stage.params
        if stage.name == "logit_bias" and any(bias > 0 for _, bias in p["bias"]):
            return True
        if stage.name == "penalties" and not stage.off:
            if p["repeat"] < 1 or p["freq"] < 0 or p["present"] < 0:
                return True
    return False
