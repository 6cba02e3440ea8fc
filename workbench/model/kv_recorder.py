"""Takes down what the KV cache sees: for each token, layer and head, where it looks, what stays.

    recorder = KVRecorder(model)
    for step in generate(model, prompt, recorder=recorder): …       or  recorder.forward(ids, cache)
    recorder.run.save(path)                                          a KVRun, opened without a model

The prompt is recorded as well, a row for each of its tokens.
Source: our own. Leaves out: what the numbers mean (`kv_run.py`), samplers (`records.Recorder`).
"""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NO_DECODE_GRAPH, ParameterError
from ..ops.token_shares import TokenShares
from .kv_checks import checked_flag, is_integer
from .kv_run import N_RECENT, N_SINK, KVRun
from .load import Model
from .trace import ActivationTrace
from .transformer import checked_token_ids, demand_own_cache

if TYPE_CHECKING:
    from .kv_cache import KVCache

__all__ = ["MAX_BYTES", "KVRecorder"]

MAX_BYTES = 1 << 30
TRACE_BYTES = 64 << 20  # maps of one piece of a prompt, which are let go once they are summed up
WATCHED = ("kq_soft_max-*", "Kcur-*", "Vcur-*")


class KVRecorder:
    """Records one text; `run` is what was recorded so far.

    Shares of attention are kept as float16, two bytes for each token, layer, head and position
    before it: 64 heads and 400 tokens take 10 MB, and four times that for twice the text. The
    bytes are counted before anything runs (`nbytes`), and refused above max_bytes. With
    per_head=False the heads of a layer are kept as their mean, which takes a number of heads fewer
    bytes.

    A GPU's decode graph brings the numbers of a token by itself, where it covers the model (else a
    warning says why each token takes the plain pass); they are put away while the GPU works on the
    next one. A recorded token takes longer, on an NVIDIA H200 by 12 % of an 8B model (Q4_0, every
    head, behind 512 positions) and by 42 % of the built-in one, whose token takes 0.2 ms; on a CPU,
    of the built-in model, by 40 % behind 20 positions, 60 % behind 200 and 75 % behind 400.
    """

    def __init__(self, model: Model, per_head: bool = True, max_bytes: int = MAX_BYTES):
        """model: whose tokens are recorded. max_bytes: most that the run may take.

        Raises: ParameterError for what is no model, no flag, or no positive number.
        """
        if not isinstance(model, Model):
            raise ParameterError(
                f"recorder: no model to record; expected one from load_model, got {model!r:.80}"
            )
        if not is_integer(max_bytes) or max_bytes <= 0:
            raise ParameterError(
                f"max_bytes: no limit; expected a whole number of bytes from 1 up, got "
                f"{max_bytes!r}"
            )
        self.model, self.max_bytes = model, int(max_bytes)
        self.per_head = checked_flag("per_head", per_head)
        config = model.config
        layers = [config.of_layer(layer) for layer in range(config.n_layer)]
        self._n_head = np.array([layer.n_head for layer in layers], np.int64)
        self._n_head_kv = np.array([layer.n_head_kv for layer in layers], np.int64)
        rows = self._n_head if self.per_head else np.ones_like(self._n_head)
        self._n_shares = int(rows.sum())  # of a token, for each position
        numbers = int(self._n_head.max() + 2 * rows.max() + 2 * self._n_head_kv.max())
        self._token_bytes = len(layers) * (4 * numbers + 8) + 4  # without its shares
        self._trace = _Watch(WATCHED, max_bytes=None)
        self._graph: Any = None
        self._slot_bytes = np.zeros((1, 0), np.int64)  # of the graph's cache
        self._is_loose = False  # whether the last row lies in the graph's memory
        self._first, self._ids, self._rows = 0, [], []

    def __repr__(self) -> str:
        return f"KVRecorder({self.n_tokens} tokens, {self.nbytes(0)} of {self.max_bytes} bytes)"

    def __enter__(self) -> "KVRecorder":
        return self

    def __exit__(self, *exc_info) -> None:
        self._graph = None

    @property
    def n_tokens(self) -> int:
        """Tokens recorded."""
        return len(self._ids)

    def nbytes(self, n_tokens: int, n_past: int = 0) -> int:
        """Bytes of the run once n_tokens more are recorded.

        n_past: positions held before the first of them; counts only before anything is recorded.
        Raises: ParameterError for what is no number of tokens.
        """
        for name, value in (("n_tokens", n_tokens), ("n_past", n_past)):
            if not is_integer(value) or value < 0:
                raise ParameterError(
                    f"{name}: no number of tokens; expected an integer from 0 up, got {value!r}"
                )
        first = self._first if self._ids else n_past
        n, seen = self.n_tokens + n_tokens, first + self.n_tokens + n_tokens
        n_shares = self._n_shares * (seen * (seen + 1) - first * (first + 1)) // 2
        return 2 * n_shares + n * self._token_bytes + 16 * len(self._n_head)

    def begin(self, model: Model, n_tokens: int, cache: "KVCache") -> None:
        """Say before a run that n_tokens at most come next; for `generate`.

        Raises: ParameterError for another model than the recorder's, a cache that does not go on
        where the recorded text ends, or more bytes than allowed.
        """
        if model is not self.model:
            raise ParameterError(
                f"recorder: made for another model; expected {self.model!r}, got {model!r}; take "
                "KVRecorder(model) of the model that writes"
            )
        demand_own_cache(cache, model.config)
        self._demand_going_on(cache)
        self.demand_room(n_tokens, cache.n_past)

    def demand_room(self, n_tokens: int, n_past: int = 0) -> None:
        """Raises: ParameterError if n_tokens more would take more than max_bytes."""
        needed = self.nbytes(n_tokens, n_past)
        if needed > self.max_bytes:
            raise ParameterError(
                f"recorder: the run takes too much memory; expected up to max_bytes "
                f"{self.max_bytes}, got {needed} for {self.n_tokens + n_tokens} tokens; record "
                "fewer tokens, per_head=False, or with a larger max_bytes"
            )

    def forward(self, token_ids: Any, cache: "KVCache", last_only: bool = False) -> Any:
        """Send tokens through the model, as `model.forward` does, and record them.

        Returns: the logits, as there. Raises: as there, and ParameterError if the cache does not
        go on where the recorded text ends, or for more bytes than allowed.
        """
        ids = checked_token_ids(token_ids, self.model.config.n_vocab)
        if not self._graph or self._graph.cache is not cache:
            demand_own_cache(cache, self.model.config)
        self._demand_going_on(cache)
        self.demand_room(len(ids), cache.n_past)
        if len(ids) == 1 and self._on_graph(cache):
            return self._one_token(int(ids[0]), cache)
        return self._pieces(ids, cache, last_only)

    @property
    def run(self) -> KVRun:
        """What was recorded so far. Raises: ParameterError before a first token."""
        if not self._ids:
            raise ParameterError(
                "run: nothing was recorded; expected at least one token, got none; pass the "
                "recorder to generate as recorder=…, or call its forward"
            )
        self._settle()
        piece_of = self.model.tokenizer.piece
        pieces = tuple(piece_of(i).decode("utf-8", "replace") for i in self._ids)
        metadata, columns = self.model.gguf.metadata, zip(*self._rows, strict=True)
        masses, *numbers = (list(column) for column in columns)
        return KVRun(
            str(metadata.get("general.name", self.model.config.architecture)),
            self._first,
            self.per_head,
            pieces,
            np.array(self._ids, np.int32),
            self._n_head,
            self._n_head_kv,
            np.concatenate(masses),
            *(np.concatenate(rows) for rows in numbers),
        )

    def _pieces(self, ids: np.ndarray, cache: "KVCache", last_only: bool) -> Any:
        """The plain pass, in pieces whose maps of attention stay within TRACE_BYTES."""
        self._settle()
        before, n_rows, logits = cache.n_past, len(self._rows), []
        a_row = 4 * int(self._n_head.sum()) * (before + len(ids))
        n_piece = max(1, TRACE_BYTES // a_row)
        try:
            with cache.undoing(len(ids)):  # all of the text, or none
                for start in range(0, len(ids), n_piece):
                    piece = ids[start : start + n_piece]
                    made = self.model.forward(piece, cache, self._trace, last_only)
                    logits = [made] if last_only else [*logits, made]
                    self._rows.append(self._row(cache, len(piece)))
        except BaseException:
            del self._rows[n_rows:]
            raise
        self._note(before, ids.tolist())
        ops = self.model.network.ops
        return logits[0] if len(logits) == 1 else ops.concatenate(logits)

    def _row(self, cache: "KVCache", n_tokens: int) -> tuple[np.ndarray, ...]:
        """Masses and the other arrays of KVRun, of the tokens that just went through."""
        layers, trace, n_past = range(len(self._n_head)), self._trace, cache.n_past - n_tokens
        shares = _padded([trace[f"kq_soft_max-{i}"] for i in layers])  # (L, H, T, S)
        entropy, there = _entropy(shares), np.arange(shares.shape[1]) < self._n_head[:, None]
        if not self.per_head:
            shares = np.nanmean(shares, axis=1, keepdims=True)
            there = np.ones((len(there), 1), bool)
        norms = (
            _padded([_norm(trace[f"{name}-{i}"]) for i in layers]).transpose(2, 0, 1)
            for name in ("Kcur", "Vcur")
        )
        return (
            _ragged(shares[there], n_past),
            entropy,
            shares[..., :N_SINK].sum(axis=3).transpose(2, 0, 1),
            _recent(shares, n_past),
            *norms,
            np.tile(_bytes_a_position(cache), (n_tokens, 1)),
        )

    def _on_graph(self, cache: "KVCache") -> bool:
        """Whether the GPU's decode graph takes a token; a warning where it should and cannot."""
        if self.model.device == "cpu" or self._graph is False:
            return False
        if self._graph is None or self._graph.cache is not cache:
            from .decode_graph import DecodeGraph  # imports cupy, which only a GPU needs

            try:
                self._graph = DecodeGraph(self.model.network, cache, with_stats=True)
                self._slot_bytes = _bytes_a_position(cache)[None]
            except NO_DECODE_GRAPH as error:
                self._graph = False
                warnings.warn(f"recorder: tokens take the plain pass, as {error}", stacklevel=4)
        return self._graph is not False

    def _one_token(self, token_id: int, cache: "KVCache") -> Any:
        before = cache.n_past
        taken = self._graph.record(token_id, self.per_head, self._settle)
        logits = self._graph.logits.copy()[None]
        self._rows.append(self._graph_row(taken))
        self._is_loose = True
        self._note(before, [token_id])
        return logits

    def _graph_row(self, taken: TokenShares) -> tuple[np.ndarray, ...]:
        """As `_row`, in memory that the graph's token after the next writes over."""
        numbers = (taken.entropy, taken.first, taken.last, taken.k_norm, taken.v_norm)
        return taken.shares.reshape(-1), *(x[None] for x in numbers), self._slot_bytes

    def _settle(self) -> None:
        """Give the last row memory of its own."""
        if self._is_loose:
            self._rows[-1] = tuple(x.copy() for x in self._rows[-1])
            self._is_loose = False

    def _demand_going_on(self, cache: "KVCache") -> None:
        if self._ids and not cache.goes_on(self._first, self._ids):
            end = self._first + self.n_tokens
            got = f"n_past {cache.n_past}" if cache.n_past != end else "other tokens"
            raise ParameterError(
                f"recorder: the cache does not go on where the recorded text ends; expected its "
                f"tokens up to n_past {end}, got {got}; take a new KVRecorder for another text"
            )

    def _note(self, before: int, token_ids: list[int]) -> None:
        if not self._ids:
            self._first = before
        self._ids.extend(token_ids)


class _Watch(ActivationTrace):
    """A trace that finds its names once and not for every token, which takes a third of a token."""

    def begin(self, network: Any, n_tokens: int, n_past: int, last_only: bool = False) -> None:
        if self._network is not network:
            super().begin(network, n_tokens, n_past, last_only)
        self._n_tokens, self._n_past, self._last_only = n_tokens, n_past, last_only
        self._captured = {}


def _padded(layers: list[np.ndarray]) -> np.ndarray:
    """(n, …) of each layer -> (L, most n, …) float32, NaN where a layer has fewer."""
    most = max(len(x) for x in layers)
    if all(len(x) == most for x in layers):
        return np.stack(layers)
    out = np.full((len(layers), most, *layers[0].shape[1:]), np.nan, np.float32)
    for layer, x in enumerate(layers):
        out[layer, : len(x)] = x
    return out


def _ragged(shares: np.ndarray, n_past: int) -> np.ndarray:
    """Maps (heads of all layers, T, S) as the float16 shares of one token after another."""
    shares = shares.astype(np.float16)
    n_tokens = shares.shape[1]
    return np.concatenate([shares[:, i, : n_past + i + 1].ravel() for i in range(n_tokens)])


def _recent(shares: np.ndarray, n_past: int) -> np.ndarray:
    """(L, H, T, S) -> (T, L, H): what falls on the last positions of each token."""
    positions = np.arange(n_past, n_past + shares.shape[2])[:, None]
    recent = positions - np.arange(shares.shape[3]) < N_RECENT
    return (shares * recent).sum(axis=3).transpose(2, 0, 1)


def _entropy(shares: np.ndarray) -> np.ndarray:
    """(L, H, T, S) shares -> (T, L, H) nats."""
    logs = np.log(np.where(shares > 0, shares, 1))
    return -np.einsum("lhts,lhts->tlh", shares, logs)


def _norm(x: np.ndarray) -> np.ndarray:
    """(T, K, D) -> (K, T)."""
    return np.sqrt(np.einsum("tkd,tkd->kt", x, x))


def _bytes_a_position(cache: "KVCache") -> np.ndarray:
    """(L,) int64: bytes of one slot of each layer, key and value."""
    pairs = (cache.buffers(layer) for layer in range(cache.n_layer))
    return np.array([sum(x.nbytes // len(x) for x in pair) for pair in pairs], np.int64)
