"""Which numbers of keys and values are large: the share of each channel in a head's squared norm.

    channel      0    1    2    3   …
    before RoPE  ▁    █    ▁    ▁       one channel of a pair that RoPE turns
    after        ▄    ▅    ▁    ▁       both channels of the pair
    Hadamard     ▂    ▂    ▃    ▂       all

Sources: KIVI (https://arxiv.org/abs/2402.02750): keys have large channels at every position, values
have none; KVQuant (2401.18079) looks before RoPE. The threshold is ours.
Left out: large values of single tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..model.kv_checks import demand_instance
from .kv_arrays import KINDS, SPREAD, KVArrays, each_head, each_layer, of_kind

__all__ = ["OutlierChannels", "outlier_channels"]

Array = np.ndarray

OUTLIER_TIMES = 10.0  # a channel's mean square over the median channel's: about three times as long


@dataclass(frozen=True, eq=False)
class OutlierChannels:
    """How each KV head's squared norm is shared out among its channels.

    shares: kind -> an array a layer, (K, D): a row adds up to 1. times: from how many times the
    median channel's mean square on a channel counts as an outlier.
    """

    shares: Mapping[str, tuple[Array, ...]]
    times: float

    def outliers(self, kind: str) -> list[tuple[int, int, int]]:
        """(layer, KV head, channel) of every outlier, the largest share first.

        kind: one of `shares`. Raises: ParameterError for another.
        """
        found = [
            (-float(row[channel]), (layer, head, int(channel)))
            for layer, shares in enumerate(of_kind(self.shares, kind))
            for head, row in enumerate(shares)
            for channel in np.flatnonzero(row > self.times * np.median(row))
        ]
        return [place for _, place in sorted(found)]

    def to_frame(self) -> pd.DataFrame:
        """One row a kind, layer and KV head: the largest channel, and how many carry the norm.

        n_even: 1 / sum of squared shares, D where all channels are alike and 1 where one has all.
        """
        return pd.DataFrame(
            {
                "kind": kind,
                "layer": layer,
                "head": head,
                "channel": int(row.argmax()),
                "share": float(row.max()),
                "times_median": _over(float(row.max()), float(np.median(row))),
                "n_outlier": int((row > self.times * np.median(row)).sum()),
                "n_even": _over(1.0, float((row**2).sum())),
            }
            for kind, layer, head, row in each_head(self.shares)
        )


def outlier_channels(kv: KVArrays, times: float = OUTLIER_TIMES) -> OutlierChannels:
    """Share out each KV head's squared norm among channels, before and after RoPE and Hadamard.

    kv: from `kv_arrays`. times: an outlier has a mean square above so many times the median's.
    Returns: OutlierChannels; kinds whose length is odd have no "_hadamard".
    Raises: ParameterError for times that are no number above 1.
    """
    demand_instance("kv", kv, KVArrays, "analysis.kv_arrays")
    if not isinstance(times, int | float | np.number) or not times > 1:
        raise ParameterError(
            f"times: every other channel would be an outlier; expected a number above 1, got "
            f"{times!r}; 10 is usual"
        )
    return OutlierChannels(each_layer(kv, _channel_shares, _kinds(kv)), float(times))


def _kinds(kv: KVArrays) -> list[str]:
    """All kinds of rows there are, with their Hadamard forms where the length allows."""
    even = {kind: all(rows.shape[-1] % 2 == 0 for rows in kv.of(kind)) for kind in KINDS}
    return [name for kind in KINDS for name in (kind, kind + SPREAD)[: 1 + even[kind]]]


def _channel_shares(rows: Array) -> Array:
    """(S, K, D) -> (K, D): each channel's part of the head's squared norm; even where it is 0."""
    energy = np.square(rows, dtype=np.float64).sum(axis=0)
    total = energy.sum(axis=-1, keepdims=True)
    return np.where(total > 0, energy / np.where(total > 0, total, 1), 1 / rows.shape[-1])


def _over(above: float, below: float) -> float:
    return above / below if below else float("inf")
