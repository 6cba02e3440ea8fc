"""Look at activations inside the forward pass, by the names they have in llama.cpp's graph.

    token ─ inp_embd ─► layer 0 … L-1 ─► result_norm ─► result_output

    layer   attn_norm ─► Qcur Kcur Vcur ─► kq ─► kq_soft_max ─► kqv_out ─► attn_out
            ffn_inp ─► ffn_norm ─► ffn_gate ffn_up ─► ffn_swiglu ─► ffn_out ─► l_out
       or              ffn_norm ─► ffn_moe_logits … ffn_moe_weights_norm ─► ffn_moe_out ─► l_out

Names of a layer carry its number: "l_out-3". Qcur and Kcur are those that attention uses, rotated.
Source: the `cb` calls in llama.cpp src/models/llama.cpp and src/llama-graph.cpp.
Left out: changing activations, and shapes of batches (rows are the tokens of one call).
"""

import difflib
import fnmatch
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..errors import ParameterError
from .config import ModelConfig

__all__ = ["NO_TRACE", "ActivationTrace", "tap_names"]

_MODEL_TAPS = ("inp_embd", "result_norm", "result_output")
_ATTENTION_TAPS = (
    *("attn_norm", "Qcur", "Kcur", "Vcur", "kq", "kq_soft_max", "kqv_out", "attn_out"),
    *("ffn_inp", "ffn_norm"),
)
_DENSE_TAPS = ("ffn_gate", "ffn_up", "ffn_swiglu", "ffn_out")
_EXPERT_TAPS = (
    *("ffn_moe_logits", "ffn_moe_probs", "ffn_moe_topk", "ffn_moe_weights"),
    *("ffn_moe_weights_norm", "ffn_moe_out"),
)
_LAYERS_TRIED = 512  # of a pattern before a model is known; no model has more layers


def tap_names(config: ModelConfig) -> list[str]:
    """All names that can be traced in a model, in the order of its graph."""
    of_layer = _ATTENTION_TAPS + (_EXPERT_TAPS if config.n_expert else _DENSE_TAPS) + ("l_out",)
    layers = [f"{name}-{layer}" for layer in range(config.n_layer) for name in of_layer]
    return [_MODEL_TAPS[0], *layers, *_MODEL_TAPS[1:]]


class ActivationTrace:
    """Copies of the activations whose names match, from the latest forward pass it was given to.

    trace["l_out-3"] is a NumPy array, float32 (expert ids: integers), its first axis the tokens of
    the call, but (H, T, S) for kq and kq_soft_max. kq is before the scale and the causal mask.

    >>> trace = ActivationTrace(["l_out-*", "kq_soft_max-3"])
    >>> model.forward(token_ids, cache, trace=trace)
    >>> trace["kq_soft_max-3"]
    """

    def __init__(self, patterns: Iterable[str]):
        """patterns: names or globs with * ? [ ], such as "Qcur-0", "l_out-*", "result_output".

        Raises: ParameterError for a pattern that no model's names can match.
        """
        patterns = [patterns] if isinstance(patterns, str) else list(patterns)
        for pattern in patterns:
            if not isinstance(pattern, str) or not _can_match(pattern):
                raise ParameterError(_no_match(pattern, _every_name(layers=1), "any model"))
        self.patterns: tuple[str, ...] = tuple(patterns)
        self._wanted: frozenset[str] = frozenset()
        self._captured: dict[str, np.ndarray] = {}

    def __repr__(self) -> str:
        return f"ActivationTrace({list(self.patterns)}, {len(self._captured)} captured)"

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._captured:
            raise ParameterError(
                f"trace: {name!r} was not captured; expected one of {len(self._captured)} names, "
                f"got {name!r}; {_advice(str(name), self.names)}"
            )
        return self._captured[name]

    def __contains__(self, name: object) -> bool:
        return name in self._captured

    def __iter__(self) -> Iterator[str]:
        return iter(self._captured)

    def __len__(self) -> int:
        return len(self._captured)

    @property
    def names(self) -> list[str]:
        """Names captured, in the order of the graph."""
        return list(self._captured)

    def begin(self, config: ModelConfig) -> None:
        """Forget what was captured and find the names to capture in this model.

        Raises: ParameterError for a pattern that matches nothing in it.
        """
        available = tap_names(config)
        wanted: set[str] = set()
        for pattern in self.patterns:
            matches = _matching(pattern, available)
            if not matches:
                model = f"this {config.architecture} model of {config.n_layer} layers"
                raise ParameterError(_no_match(pattern, available, model))
            wanted.update(matches)
        self._wanted, self._captured = frozenset(wanted), {}

    def wants(self, name: str, layer: int | None = None) -> bool:
        """Whether an activation is to be captured."""
        return _full_name(name, layer) in self._wanted

    def visit(self, name: str, layer: int | None, x: Any, ops: Any) -> Any:
        """Keep a copy of an activation if it is wanted; ops: of the device it is on.

        Returns: the activation that the forward pass goes on with.
        """
        full_name = _full_name(name, layer)
        if full_name in self._wanted:
            self._captured[full_name] = np.array(ops.to_numpy(x))
        return x


class _NoTrace:
    """What the forward pass holds when nobody looks."""

    def wants(self, name: str, layer: int | None = None) -> bool:
        return False

    def visit(self, name: str, layer: int | None, x: Any, ops: Any) -> Any:
        return x


NO_TRACE = _NoTrace()


def _full_name(name: str, layer: int | None) -> str:
    return name if layer is None else f"{name}-{layer}"


def _matching(pattern: str, names: Iterable[str]) -> list[str]:
    match = re.compile(fnmatch.translate(pattern)).match
    return [name for name in names if match(name)]


def _every_name(layers: int) -> Iterator[str]:
    """Names of all kinds of models, for so many layers."""
    yield from _MODEL_TAPS
    for layer in range(layers):
        for name in (*_ATTENTION_TAPS, *_DENSE_TAPS, *_EXPERT_TAPS, "l_out"):
            yield f"{name}-{layer}"


def _can_match(pattern: str) -> bool:
    match = re.compile(fnmatch.translate(pattern)).match
    return any(match(name) for name in _every_name(_LAYERS_TRIED))


def _no_match(pattern: Any, names: Iterable[str], model: str) -> str:
    names = list(names)
    return (
        f"trace: {pattern!r} matches no activation of {model}; expected a name or glob such as "
        f"'l_out-*', got {pattern!r}; {_advice(str(pattern), names)}"
    )


def _advice(name: str, names: list[str]) -> str:
    stems = list(dict.fromkeys(known.split("-")[0] for known in names))
    stem = re.split(r"[-*?\[]", name)[0]
    near = difflib.get_close_matches(name, names, n=3) or difflib.get_close_matches(stem, stems, 3)
    return f"did you mean {' or '.join(near)}?" if near else f"names are {', '.join(stems)}"
