"""What a smaller KV cache costs: KL against bytes, for policies that forget and for types.

    eviction_table   each policy at each budget: fewer positions
    kv_type_table    each cache type: fewer bits of each number
    kv_frontier      the rows of either that no other beats in both bytes and KL

Source: our own; KL as in llama.cpp tools/perplexity/perplexity.cpp.
Left out: both at once; speed, which none of this measures.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ..errors import ParameterError
from ..model import Model, to_numpy
from ..model.kv_checks import demand_instance
from .kv_eviction import EvictionResult, checked_eviction, full_logits, run_eviction
from .kv_policies import EVICTION_POLICIES, Policy, eviction_policy, full
from .kv_stats import cache_effect, checked_list, checked_text

__all__ = ["eviction_table", "kv_frontier", "kv_type_table"]

BUDGETS = (32, 64, 128)

CacheType = str | tuple[Any, Any]


def eviction_table(
    model: Model,
    ids: str | Sequence[int],
    policies: Iterable[str | Policy] | None = None,
    budgets: Iterable[int] = BUDGETS,
    n_prompt: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """Send a text through the model under every policy at every budget.

    ids: the text, or its token ids. policies: by default all of EVICTION_POLICIES. budgets:
    positions that a token sees. n_prompt, seed: as for `run_eviction`. A progress bar shows where
    it takes more than a second.
    Returns: a row each: policy, budget, kl (mean, nats), kl_max, top1 (share of tokens after which
    the best next token is the same), ppl, bytes (held after the last token); the full cache first,
    without a budget. Raises: ParameterError, before anything runs.
    """
    ids = checked_text(model, ids)
    policies = list(EVICTION_POLICIES) if policies is None else policies
    policies = checked_list("policies", policies, "policies")
    pairs = [(x, b) for x in policies for b in checked_list("budgets", budgets, "budgets")]
    for policy, budget in [("full", 1), *pairs]:
        checked_eviction(policy, budget, n_prompt, len(ids), seed)
    base = full_logits(model, ids)
    first = run_eviction(model, ids, "full", len(ids), n_prompt, base=base).to_row()
    pairs = [pair for pair in pairs if eviction_policy(pair[0])[1] is not full]
    rows = [{**first, "budget": pd.NA}]
    for policy, budget in _with_bar(pairs, "caches that forget"):
        result: EvictionResult = run_eviction(model, ids, policy, budget, n_prompt, seed, base)
        rows.append(result.to_row())
    return pd.DataFrame(rows).astype({"budget": "Int64"})


def kv_type_table(
    model: Model,
    ids: str | Sequence[int],
    types: Iterable[CacheType],
    rotate: bool | None = None,
) -> pd.DataFrame:
    """Send a text through the model with caches of other types.

    ids: the text, or its token ids. types: each a name for keys and values alike, such as "q8_0",
    or a pair of what `new_cache` takes as type_k and type_v. rotate: as for `new_cache`.
    Returns: a row each: type_k, type_v, and against the full float16 cache kl, kl_max, top1, ppl,
    and bytes, as in `eviction_table`. Raises: ParameterError, also for a type that the model's
    cache cannot have.
    """
    ids = checked_text(model, ids)
    pairs = [_pair(kind) for kind in checked_list("types", types, "types of caches")]
    for type_k, type_v in pairs:
        model.new_cache(
            1, type_k, type_v, rotate=rotate
        )  # refused now, not after the others have run
    base = to_numpy(model.forward(ids, model.new_cache(len(ids))))
    rows = []
    for type_k, type_v in _with_bar(pairs, "cache types"):
        cache = model.new_cache(len(ids), type_k, type_v, rotate=rotate)
        effect = cache_effect(base, to_numpy(model.forward(ids, cache)), ids, cache.nbytes)
        rows.append({"type_k": _said(type_k), "type_v": _said(type_v), **effect.to_row()})
    return pd.DataFrame(rows)


def kv_frontier(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other row beats in both bytes and KL, fewest bytes first.

    table: from `eviction_table` or `kv_type_table`, or both one after the other.
    Raises: ParameterError for a table without these columns.
    """
    demand_instance("table", table, pd.DataFrame, "eviction_table or kv_type_table")
    if not {"bytes", "kl"} <= set(table.columns):
        raise ParameterError(
            f"table: no measured caches; expected columns bytes and kl, got "
            f"{', '.join(map(str, table.columns))}; take eviction_table or kv_type_table"
        )
    ordered = table.sort_values(["bytes", "kl"], kind="stable")
    before = ordered["kl"].cummin().shift(fill_value=float("inf"))
    return ordered[ordered["kl"] < before].reset_index(drop=True)


def _pair(kind: CacheType) -> tuple[Any, Any]:
    if isinstance(kind, str):
        return kind, kind
    if isinstance(kind, Sequence) and len(kind) == 2:
        return kind[0], kind[1]
    raise ParameterError(
        f"types: not a type of a cache; expected a name or a pair (type_k, type_v), got {kind!r}"
    )


def _said(kind: Any) -> str:
    """A type, or those of all layers, as one word of a table."""
    return kind if isinstance(kind, str) else " ".join(map(str, kind))


def _with_bar(pairs: list, what: str) -> Iterable:
    hidden = bool(os.environ.get("TQDM_DISABLE"))  # which tqdm's bar for notebooks overlooks
    return tqdm(pairs, what, delay=1, leave=False, disable=hidden)
