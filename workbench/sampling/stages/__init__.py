"""One factory for each sampler: candidates in, fewer (or rescaled) candidates out.

    bias and repeats   logit_bias  penalties  dry                        need the history
    cuts               top_n_sigma  top_k  typical  top_p  min_p  xtc    keep some of the tokens
    scaling            temp  temp_ext  entropy_guided                    move all logits
    drawing            dist  greedy  mirostat  mirostat_v2  adaptive_p   the last one: picks

Names and parameters are llama.cpp's (`llama_sampler_init_*`, include/llama.h), the arithmetic is
that of src/llama-sampler.cpp: float32, summed in its order, so that the same tokens are left. A
value that turns a sampler off (k <= 0, top_p >= 1, min_p <= 0, t = 1) leaves the candidates
untouched. `SamplingParams` is stricter about ranges. Where llama.cpp leaves the order of equal
logits open, the earlier candidate comes first.

Leaves out: `infill`, which `SamplingParams` refuses by name; the order of the stages (`chain.py`).
"""

from .bias import logit_bias, penalties
from .cuts import min_p, top_k, top_n_sigma, top_p, typical, xtc
from .drawing import adaptive_p, dist, greedy, mirostat, mirostat_v2
from .dry import dry
from .scaling import entropy_guided, temp, temp_ext
from .stage import Stage

__all__ = [
    "Stage",
    "adaptive_p",
    "dist",
    "dry",
    "entropy_guided",
    "greedy",
    "logit_bias",
    "min_p",
    "mirostat",
    "mirostat_v2",
    "penalties",
    "temp",
    "temp_ext",
    "top_k",
    "top_n_sigma",
    "top_p",
    "typical",
    "xtc",
]
