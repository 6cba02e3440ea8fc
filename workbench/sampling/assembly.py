"""Which stages llama.cpp builds from its settings, and in which order.

    mirostat 0:  logit_bias ▶ the samplers in their order ▶ dist, or adaptive_p
    mirostat 1:  logit_bias ▶ temp ▶ mirostat              2: logit_bias ▶ temp ▶ mirostat_v2

Source: common_sampler_init, common/sampling.cpp in llama.cpp. Two differences: adaptive_p picks
also where only its target is set and `samplers` does not list it, and our own `entropy_guided`, if
it is on and not listed, comes before the temperature. Leaves out: the grammar, which comes after
the draw (`chain.py`).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from . import stages
from .params import SamplingParams
from .stages import Stage

if TYPE_CHECKING:
    from ..tokenizer.tokenizer import Tokenizer

MIROSTAT_M = 100


def stages_of(
    params: SamplingParams, tokenizer: "Tokenizer | None" = None
) -> tuple[tuple[Stage, ...], Stage]:
    """The stages that llama.cpp builds from these settings, in its order, and the one that picks.

    tokenizer: finds the breakers of DRY, if it is on.
    """
    bias = (stages.logit_bias(params.logit_bias),) if params.logit_bias else ()
    if params.mirostat:
        return (*bias, stages.temp(params.temperature)), _mirostat(params)
    made = [MAKE[name](params, tokenizer) for name in _order(params)]
    if "adaptive_p" in params.samplers or params.adaptive_target >= 0:
        last = stages.adaptive_p(params.adaptive_target, params.adaptive_decay, params.seed)
    else:
        last = stages.dist(params.seed)
    return (*bias, *made), last


def _order(params: SamplingParams) -> list[str]:
    names = [name for name in params.samplers if name != "adaptive_p"]  # it is always the last
    if params.entropy_threshold > 0 and "entropy_guided" not in names:
        at = names.index("temperature") if "temperature" in names else len(names)
        names.insert(at, "entropy_guided")
    return names


def _mirostat(params: SamplingParams) -> Stage:
    if params.mirostat == 2:
        return stages.mirostat_v2(params.seed, params.mirostat_tau, params.mirostat_eta)
    return stages.mirostat(params.seed, params.mirostat_tau, params.mirostat_eta, MIROSTAT_M)


def _penalties(p: SamplingParams, tokenizer: "Tokenizer | None") -> Stage:
    return stages.penalties(p.penalty_last_n, p.penalty_repeat, p.penalty_freq, p.penalty_present)


def _dry(p: SamplingParams, tokenizer: "Tokenizer | None") -> Stage:
    return stages.dry(
        p.dry_multiplier,
        p.dry_base,
        p.dry_allowed_length,
        p.dry_penalty_last_n,
        p.dry_sequence_breakers,
        tokenizer,
    )


def _temperature(p: SamplingParams, tokenizer: "Tokenizer | None") -> Stage:
    if p.dynatemp_range == 0:
        return stages.temp(p.temperature)
    return stages.temp_ext(p.temperature, p.dynatemp_range, p.dynatemp_exponent)


MAKE: Mapping[str, Callable[[SamplingParams, "Tokenizer | None"], Stage]] = MappingProxyType(
    {
        "penalties": _penalties,
        "dry": _dry,
        "top_n_sigma": lambda p, _: stages.top_n_sigma(p.top_n_sigma),
        "top_k": lambda p, _: stages.top_k(p.top_k),
        "typ_p": lambda p, _: stages.typical(p.typ_p, p.min_keep),
        "top_p": lambda p, _: stages.top_p(p.top_p, p.min_keep),
        "min_p": lambda p, _: stages.min_p(p.min_p, p.min_keep),
        "xtc": lambda p, _: stages.xtc(p.xtc_probability, p.xtc_threshold, p.min_keep, p.seed),
        "temperature": _temperature,
        "entropy_guided": lambda p, _: stages.entropy_guided(
            p.entropy_threshold, p.varentropy_threshold, p.entropy_strength
        ),
    }
)
