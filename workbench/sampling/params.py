"""The sampling settings of one run, under llama.cpp's names and defaults.

    logit_bias ▶ penalties ▶ dry ▶ top_n_sigma ▶ top_k ▶ typ_p ▶ top_p ▶ min_p ▶ xtc ▶ temperature
                 └──────────────────── the order of `samplers` ───────────────────────────────┘

Source: struct common_params_sampling, common/common.h in llama.cpp. Differences: its `temp` is
called `temperature` here, the default seed is 0 instead of a random one, so that a notebook gives
the same text twice, and the three `entropy` settings are ours (`stages.entropy_guided`).
Leaves out: what the stages do (`stages/`) and which are built (`assembly.py`).
"""

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import ParameterError, UnsupportedError
from .parameters import LARGEST_INT, Parameter, check_number, number, parameters_of

DEFAULT_SAMPLERS = (
    "penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature",
)  # fmt: skip
SAMPLERS = (*DEFAULT_SAMPLERS, "adaptive_p", "entropy_guided")
OTHER_NAMES = {  # which llama.cpp takes too
    "top-k": "top_k", "top-p": "top_p", "nucleus": "top_p", "top-n-sigma": "top_n_sigma",
    "typical-p": "typ_p", "typical_p": "typ_p", "typical": "typ_p", "typ-p": "typ_p",
    "typ": "typ_p", "min-p": "min_p", "temp": "temperature", "adaptive-p": "adaptive_p",
}  # fmt: skip
NO_INFILL = (
    "samplers: 'infill' merges pieces of fill-in-the-middle models and is not in this package; "
    "expected other samplers, got 'infill'; top_k and top_p stand in for it"
)


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is chosen.

    Every number is described by `workbench.sampling.PARAMETERS[name]`; the others are
    dry_sequence_breakers: texts behind which DRY begins anew; logit_bias: {token id: what is added
    to its logit}, -inf bans it; samplers: their order, by llama.cpp's names.

    Raises ParameterError when a value is outside its range, UnsupportedError for infill.
    """

    temperature: float = number(
        0.80, 0, math.inf, 1.0, "Divides the logits: below 1 sharpens, above 1 flattens, 0 always "
        "takes the most probable token.", "0 is greedy, 0.8 the default",
    )  # fmt: skip
    top_k: int = number(
        40, 0, LARGEST_INT, 0, "Keeps the k most probable tokens.",
        "0 keeps the whole vocabulary",
    )  # fmt: skip
    top_p: float = number(
        0.95, 0, 1, 1.0, "Keeps the fewest tokens whose probabilities together reach p."
    )
    min_p: float = number(
        0.05, 0, 1, 0.0, "Keeps tokens at least min_p times as probable as the best one."
    )
    typ_p: float = number(
        1.0, 0, 1, 1.0, "Keeps tokens whose surprise is nearest to the entropy until their "
        "probabilities together exceed p.",
    )  # fmt: skip
    top_n_sigma: float = number(
        -1.0, -1, math.inf, -1.0, "Keeps logits within n standard deviations of the largest one."
    )
    xtc_probability: float = number(
        0.0, 0, 1, 0.0, "The chance with which the most probable tokens are left out."
    )
    xtc_threshold: float = number(
        0.10, 0, 1, 1.0, "Of the tokens at least so probable XTC leaves only the last one; above "
        "0.5 it is off.",
    )  # fmt: skip
    dynatemp_range: float = number(
        0.0, 0, math.inf, 0.0, "The temperature moves by so much up or down, with the entropy."
    )
    dynatemp_exponent: float = number(
        1.0, 0, math.inf, None, "How entropy maps to that temperature: entropy share ** exponent."
    )
    penalty_last_n: int = number(64, 0, LARGEST_INT, 0, "So many of the last tokens are penalized.")
    penalty_repeat: float = number(
        1.0, 0.01, math.inf, 1.0, "Divides a positive logit, or multiplies a negative one, of "
        "each of the last tokens.",
    )  # fmt: skip
    penalty_freq: float = number(
        0.0,
        -100,
        100,
        0.0,
        "Is subtracted from a logit for each time the token is one of the last.",
    )
    penalty_present: float = number(
        0.0, -100, 100, 0.0, "Is subtracted from a logit once if the token is one of the last."
    )
    dry_multiplier: float = number(
        0.0, 0, math.inf, 0.0, "Lowers tokens that would go on with a repeat, by multiplier * "
        "base ** (length - allowed length).",
    )  # fmt: skip
    dry_base: float = number(
        1.75, 0, math.inf, 0.0, "How fast that grows with the length; below 1 it is off."
    )
    dry_allowed_length: int = number(2, 0, LARGEST_INT, None, "Repeats shorter than this are free.")
    dry_penalty_last_n: int = number(
        64, 0, LARGEST_INT, 0, "So many of the last tokens are searched for repeats."
    )
    mirostat: int = number(
        0, 0, 2, 0, "Chooses by Mirostat 1 or 2 instead of all samplers but temperature.",
    )  # fmt: skip
    mirostat_tau: float = number(
        5.0, 0, math.inf, None, "The surprise in bits that Mirostat aims at."
    )
    mirostat_eta: float = number(
        0.10, 0, math.inf, None, "How fast Mirostat learns.",
    )  # fmt: skip
    adaptive_target: float = number(
        -1.0, -1, 1, -1.0, "Favours tokens near this probability (adaptive-p); negative is off."
    )
    adaptive_decay: float = number(
        0.90, 0, 0.99, None, "How long adaptive-p remembers: about 1 / (1 - decay) tokens."
    )
    entropy_threshold: float = number(
        0.0, 0, math.inf, 0.0, "Entropy in nats from which on the model is unsure (entropy-guided "
        "sampling).", "0 turns it off, 2.5 is a good start",
    )  # fmt: skip
    varentropy_threshold: float = number(
        2.5, 0, math.inf, None, "Varentropy in nats squared from which on it is of two minds."
    )
    entropy_strength: float = number(
        0.5, 0, math.inf, None, "There the temperature is multiplied or divided by 1 + strength."
    )
    min_keep: int = number(
        0, 0, LARGEST_INT, 0, "top_p, min_p, typ_p and xtc leave at least so many tokens."
    )
    seed: int = number(
        0, 0, 2**32 - 1, None, "Starts the random generator; every value is used as it is.",
        "any such number gives its own text",
    )  # fmt: skip
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    samplers: tuple[str, ...] = DEFAULT_SAMPLERS

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.name in PARAMETERS:
                check = PARAMETERS[f.name]
                check_number(f.name, getattr(self, f.name), check, f.metadata["hint"])
        set_ = object.__setattr__  # the instance is frozen
        breakers = _texts("dry_sequence_breakers", self.dry_sequence_breakers)
        set_(self, "dry_sequence_breakers", breakers)
        set_(self, "logit_bias", checked_bias("logit_bias", self.logit_bias))
        set_(self, "samplers", sampler_names("samplers", self.samplers))

    @classmethod
    def from_gguf(cls, gguf: Any, **changes: Any) -> "SamplingParams":
        """Settings that a file recommends in `general.sampling.*`, llama.cpp's where it does not.

        gguf: an open GGUF file, or its metadata. changes: settings that override both.
        Raises: ParameterError when a recommendation has a wrong type or is out of range.
        Source: common_init_sampler_from_model, common/common.cpp in llama.cpp.
        """
        from .recommended import recommended_settings  # it reads this module's names

        return cls(**{**recommended_settings(gguf, skip=frozenset(changes)), **changes})


PARAMETERS: Mapping[str, Parameter] = parameters_of(SamplingParams)


def sampler_names(place: str, names: object) -> tuple[str, ...]:
    """Names of samplers under llama.cpp's first name for each; another one is refused."""
    known = []
    for name in _texts(place, names):
        name = OTHER_NAMES.get(name, name)
        if name == "infill":
            raise UnsupportedError(NO_INFILL)
        if name not in SAMPLERS:
            known_names = ", ".join(SAMPLERS)
            raise ParameterError(
                f"{place}: no such sampler; expected some of {known_names}, got {name!r:.40}"
            )
        if name in known:
            raise ParameterError(f"{place}: expected every sampler once, got {name!r} twice")
        known.append(name)
    return tuple(known)


def checked_bias(place: str, bias: object) -> dict[int, float]:
    """{token id: finite number or -inf}; anything else is refused."""
    if not isinstance(bias, Mapping):
        raise ParameterError(
            f"{place}: expected a mapping of token id to number, got {type(bias).__name__}; "
            "for example {13: -1.5}"
        )
    for token_id, value in bias.items():
        whole = isinstance(token_id, numbers.Integral) and not isinstance(token_id, bool)
        if not whole or not 0 <= token_id <= LARGEST_INT:
            raise ParameterError(f"{place}: expected token ids from 0 up, got {token_id!r:.40}")
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not real or not value < math.inf:  # NaN fails too
            raise ParameterError(
                f"{place}: token {token_id}: expected a finite number, or -inf to ban it, "
                f"got {value!r:.40}"
            )
    return {int(token_id): float(value) for token_id, value in bias.items()}


def _texts(place: str, value: object) -> tuple[str, ...]:
    good = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if not good or not all(isinstance(text, str) for text in value):
        raise ParameterError(f"{place}: expected a list of texts, got {value!r:.80}")
    return tuple(value)
