"""One prompt, many settings: how temperature and top_p change what is written.

    distinct-n       different n-grams / all n-grams of a text       (Li et al., arXiv:1510.03055)
    repetition       tokens that were among the 32 before / all tokens
    mean logprob     nats, under the model before any sampler

Source: our own. Leaves out: judging whether a text is good.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ParameterError
from ..generate import prompt_ids
from ..model import Model
from ..sampling import SamplerChain, SamplingParams
from .generated_text import GeneratedText, generated_text
from .token_tree import PrefixReader, continued

__all__ = ["SWEEP_MEASURES", "SamplingSweep", "distinct", "repetition", "sampling_sweep"]

WINDOW = 32
SWEEP_MEASURES = ("distinct_1", "distinct_2", "distinct_3", "mean_logprob", "repetition")


@dataclass(frozen=True, eq=False)
class SamplingSweep:
    """Texts of one prompt with A temperatures and B values of top_p.

    temperatures, top_ps: the settings. texts: A tuples of B texts. distinct_1, distinct_2,
    distinct_3, mean_logprob, repetition: (A, B) float64.
    """

    prompt: str
    temperatures: tuple[float, ...]
    top_ps: tuple[float, ...]
    texts: tuple[tuple[GeneratedText, ...], ...]
    distinct_1: np.ndarray
    distinct_2: np.ndarray
    distinct_3: np.ndarray
    mean_logprob: np.ndarray
    repetition: np.ndarray

    def table(self) -> Any:
        """A DataFrame with one row a setting."""
        import pandas as pd  # half a second, which `import workbench` need not pay

        rows = [
            {
                "temperature": t,
                "top_p": p,
                "n_tokens": self.texts[i][j].n_tokens,
                **{name: float(getattr(self, name)[i, j]) for name in SWEEP_MEASURES},
            }
            for i, t in enumerate(self.temperatures)
            for j, p in enumerate(self.top_ps)
        ]
        return pd.DataFrame(rows).set_index(["temperature", "top_p"])


def sampling_sweep(
    model: Model,
    prompt: str,
    temperatures: Sequence[float] = (0.2, 0.6, 1.0, 1.4),
    top_ps: Sequence[float] = (0.5, 0.8, 0.95, 1.0),
    n_tokens: int = 60,
    seed: int = 0,
    **others: Any,
) -> SamplingSweep:
    """Write a text with every pair of temperature and top_p, all from the same seed.

    others: more of `SamplingParams`; top_k and min_p are off unless given, so that top_p alone
    cuts. The prompt goes through the model once.
    Raises: ParameterError for settings out of range, or none.
    """
    if not len(temperatures) or not len(top_ps):
        raise ParameterError("sampling_sweep: expected at least one temperature and one top_p")
    from tqdm.auto import tqdm  # a tenth of a second, which `import workbench` need not pay

    ids = prompt_ids(model.tokenizer, prompt)
    fixed = {"top_k": 0, "min_p": 0.0, "seed": seed, **others}
    settings = [
        SamplingParams(temperature=float(t), top_p=float(p), **fixed)
        for t in temperatures
        for p in top_ps
    ]
    reader, texts = PrefixReader(model), []
    hidden = bool(os.environ.get("TQDM_DISABLE"))  # which tqdm's bar for notebooks overlooks
    for params in tqdm(settings, "settings", leave=False, disable=hidden):
        chain = SamplerChain(params, tokenizer=model.tokenizer)
        texts.append(generated_text(continued(model, reader, ids, chain, n_tokens), prompt))
    n = len(top_ps)
    rows = tuple(tuple(texts[i : i + n]) for i in range(0, len(texts), n))
    measures = {}
    for name in SWEEP_MEASURES:
        measures[name] = np.array([[_measure(name, text) for text in row] for row in rows])
    return SamplingSweep(prompt, tuple(temperatures), tuple(top_ps), rows, **measures)


def _measure(name: str, text: GeneratedText) -> float:
    if name == "mean_logprob":
        return text.mean_logprob
    if name == "repetition":
        return repetition(text.token_ids)
    return distinct(text.token_ids, int(name[-1]))


def distinct(token_ids: np.ndarray, n: int) -> float:
    """Share of different n-grams among all, NaN where there are none. token_ids: (N,) integers."""
    if len(token_ids) < n:
        return float("nan")
    grams = np.lib.stride_tricks.sliding_window_view(token_ids, n)
    return len(np.unique(grams, axis=0)) / len(grams)


def repetition(token_ids: np.ndarray, window: int = WINDOW) -> float:
    """Share of tokens that are among the `window` before them. token_ids: (N,) integers."""
    ids = np.asarray(token_ids)
    if not len(ids):
        return float("nan")
    repeats = [i in ids[max(0, at - window) : at] for at, i in enumerate(ids)]
    return float(np.mean(repeats))
