"""Where the bytes of one token go: what a model must read and write to say the next one.

    family        what                                              bytes grow with
    embedding     the token's row                                   —
    attn_qkv      matrices to queries, keys and values              width
    kv_read       keys and values of the positions before           depth (up to a window)
    kv_write      its own keys and values                           —
    attn_output   matrix behind the heads                           width
    ffn_router    which experts to ask                              experts
    ffn_gate_up   matrices into the feed-forward network            width, experts asked
    ffn_down      matrix out of it                                  width, experts asked
    norms         weights of norms                                  —
    output        the head, of a tied model the embedding           vocabulary
    other         what is none of these, such as rope's divisors    —
    activations   vectors into and out of every matrix, float32     width; stay in caches

A single token asks two operations or so of each weight, far fewer than any machine could do in the
time the weight needs to arrive: so bytes over bandwidth is a floor of its time, and near it.
Source: tensor names as in gguf-py's constants (`TENSOR_NAMES`), the cache of `model/kv_cache.py`.
Left out: what is read twice, such as keys by several thread blocks, and prompts, where arithmetic
counts.
"""

import re
from collections.abc import Mapping
from math import prod
from typing import Any

import pandas as pd

from ..errors import ParameterError
from ..model.config import ModelConfig
from ..quants import codec_of
from .file_map import role_of

__all__ = [
    "FAMILIES",
    "WEIGHT_FAMILIES",
    "budget_by_family",
    "cache_slot_nbytes",
    "kv_positions",
    "multiplied_weights",
    "token_budget",
]

FAMILIES = (
    *("embedding", "attn_qkv", "kv_read", "kv_write", "attn_output", "ffn_router", "ffn_gate_up"),
    *("ffn_down", "norms", "output", "other", "activations"),
)
WEIGHT_FAMILIES = tuple(
    family for family in FAMILIES if family not in ("kv_read", "kv_write", "activations")
)
VECTOR_LAUNCHES = 3  # of a layer: the network's activation, and two sums with the stream
COLUMNS = ["layer", "family", "nbytes", "floor_us", "launches"]

# The first pattern found in a role says which family it belongs to.
_PATTERNS = (
    ("norms", re.compile(r"norm")),
    ("embedding", re.compile(r"^(token_embd|position_embd|per_layer_token_embd)$")),
    ("attn_output", re.compile(r"^attn_(output|gate)$")),
    ("attn_qkv", re.compile(r"^attn_(q|k|v|qkv)(_|$)")),
    ("ffn_router", re.compile(r"^(ffn_gate_inp|exp_probs)")),
    ("ffn_gate_up", re.compile(r"^ffn_(gate|up)")),
    ("ffn_down", re.compile(r"^ffn_down")),
    ("output", re.compile(r"^output$")),
)


def token_budget(
    config: ModelConfig,
    tensors: Mapping[str, Any],
    n_past: int = 0,
    type_k: str = "f16",
    type_v: str = "f16",
    bandwidth: float | None = None,
) -> pd.DataFrame:
    """List what one token reads and writes, by layer and family.

    config, tensors: of a model (`model.config`, `model.gguf.tensors`); n_past: positions in the
    cache before it; type_k, type_v: of the cache; bandwidth: bytes per second of the memory.

    Returns: DataFrame: layer (<NA> outside of layers), family (of FAMILIES), nbytes, floor_us =
    nbytes / bandwidth in microseconds (NaN without one), launches: kernels, if each operation
    were one. Of an embedding one row counts, of the experts those asked.
    Raises: ParameterError for a negative n_past, an unknown type or a bandwidth that is none.
    """
    _check(n_past, bandwidth)
    counted: dict[tuple[int | None, str], list[int]] = {}

    def add(layer: int | None, family: str, nbytes: int, launches: int = 0) -> None:
        row = counted.setdefault((layer, family), [0, 0])
        row[0] += nbytes
        row[1] += launches

    tied = "output.weight" not in tensors
    for name, info in tensors.items():
        layer, role = role_of(name)
        if layer is not None and layer >= config.n_layer:
            continue  # it guesses tokens ahead, which is no part of the forward pass
        for family, nbytes in _reads(config, role, info, tied and name == "token_embd.weight"):
            add(layer, family, nbytes, int(name.endswith(".weight") and family != "other"))
        add(layer, "activations", _vector_nbytes(config, role, info))
    for layer in range(config.n_layer):
        slot = cache_slot_nbytes(config, layer, type_k, type_v)
        add(layer, "kv_read", kv_positions(config, layer, n_past) * slot, 1)  # attention
        add(layer, "kv_write", slot, 2)
        add(layer, "attn_qkv", 0, 2 if config.of_layer(layer).rope else 0)
        add(layer, "activations", 0, VECTOR_LAUNCHES)
    return _frame(counted, bandwidth)


def budget_by_family(budget: pd.DataFrame) -> pd.DataFrame:
    """The budget summed over layers: family, nbytes, share of all, floor_us, launches, in order."""
    sums = budget.groupby("family")[["nbytes", "floor_us", "launches"]].sum(min_count=1)
    sums = sums.reindex([family for family in FAMILIES if family in sums.index]).reset_index()
    sums.insert(2, "share", sums.nbytes / sums.nbytes.sum())
    return sums


def multiplied_weights(config: ModelConfig, tensors: Mapping[str, Any]) -> tuple[int, int]:
    """Weights that a token is multiplied with: in the layers, and in the head.

    config, tensors: as for `token_budget`; of the experts those asked count.
    """
    in_layers, in_head, has_head = 0, 0, "output.weight" in tensors
    for name, info in tensors.items():
        layer, role = role_of(name)
        if len(info.shape) < 2 or _family_of(role) == "norms":
            continue
        if layer is None:
            is_head = name == ("output.weight" if has_head else "token_embd.weight")
            in_head += prod(info.shape) if is_head else 0
        elif layer < config.n_layer:
            experts = "_exps" in role
            share = (config.n_expert_used, config.n_expert) if experts else (1, 1)
            in_layers += prod(info.shape) * share[0] // share[1]
    return in_layers, in_head


def kv_positions(config: ModelConfig, layer: int, n_past: int) -> int:
    """Positions before a token that it reads in a layer, n_past being in the cache."""
    own = config.of_layer(layer)
    if not own.n_swa:
        return n_past
    return n_past % own.n_swa if own.swa_is_chunked else min(n_past, own.n_swa - 1)


def cache_slot_nbytes(config: ModelConfig, layer: int, type_k: str, type_v: str) -> int:
    """Bytes of the keys and values of one position in a layer."""
    k, v, _ = config.kv_slots(layer)
    return _row_nbytes(prod(k), type_k) + _row_nbytes(prod(v), type_v)


def _check(n_past: Any, bandwidth: float | None) -> None:
    if not isinstance(n_past, int) or isinstance(n_past, bool) or n_past < 0:
        raise ParameterError(
            f"n_past: no number of positions; expected 0 or more, got {n_past!r}; give how many "
            "tokens the cache holds"
        )
    if bandwidth is not None and not bandwidth > 0:
        raise ParameterError(
            f"bandwidth: not a speed; expected more than 0 bytes per second, got {bandwidth!r}; "
            "measure one with copy_bandwidth"
        )


def _family_of(role: str) -> str:
    return next((family for family, pattern in _PATTERNS if pattern.search(role)), "other")


def _reads(config: ModelConfig, role: str, info: Any, is_head_too: bool) -> list[tuple[str, int]]:
    """(family, bytes) of what one token reads of a tensor; each byte counts once."""
    family = _family_of(role)
    if family == "embedding":
        row = info.nbytes // info.shape[0]
        return [(family, row), ("output", info.nbytes - row)] if is_head_too else [(family, row)]
    if "_exps" in role:
        return [(family, info.nbytes * config.n_expert_used // config.n_expert)]
    return [(family, info.nbytes)]


def _vector_nbytes(config: ModelConfig, role: str, info: Any) -> int:
    """Bytes of the float32 vectors that go into a matrix and come out of it."""
    if len(info.shape) < 2 or _family_of(role) == "norms":
        return 0
    if _family_of(role) == "embedding":
        return 4 * info.shape[1]
    copies = config.n_expert_used if "_exps" in role else 1
    return 4 * copies * (info.shape[-2] + info.shape[-1])


def _row_nbytes(n_numbers: int, type: str) -> int:
    codec = codec_of(type)
    return -(-n_numbers // codec.block_size) * codec.type_size


def _frame(counted: dict, bandwidth: float | None) -> pd.DataFrame:
    """One row for each layer and family that has bytes, those outside of layers where they act."""

    def place(key: tuple[int | None, str]) -> tuple:
        layer, family = key
        if layer is None:
            layer = -1 if family == "embedding" else 1 << 30
        return layer, FAMILIES.index(family)

    rows = [
        (layer, family, nbytes, nbytes / bandwidth * 1e6 if bandwidth else float("nan"), launches)
        for (layer, family), (nbytes, launches) in sorted(
            counted.items(), key=lambda item: place(item[0])
        )
        if nbytes or launches
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.astype({"layer": "Int64"})
