"""The sampling settings that a GGUF file recommends for its model: `general.sampling.*`.

    general.sampling.temp = 0.7                      temperature=0.7
    general.sampling.sequence = "top_k;top_p;temp"   samplers=("top_k", "top_p", "temperature")

Source: llama_model_meta_key_str, src/llama-model.cpp, and common_init_sampler_from_model,
common/common.cpp in llama.cpp. Leaves out: keys that llama.cpp does not read.
"""

from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from ..errors import ParameterError
from .parameters import check_number
from .params import PARAMETERS, sampler_names

PREFIX = "general.sampling."
NAMES = {
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
    "temp": "temperature",
    "penalty_last_n": "penalty_last_n",
    "penalty_repeat": "penalty_repeat",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}


def recommended_settings(gguf: Any, skip: Set[str] = frozenset()) -> dict[str, Any]:
    """Field name -> value for the recommendations of a file.

    gguf: an open GGUF file, or its metadata. skip: fields of no interest, whose recommendation is
    not even looked at.
    Raises: ParameterError when one has a wrong type or is out of range.
    """
    metadata = getattr(gguf, "metadata", gguf)
    if not isinstance(metadata, Mapping):
        raise ParameterError(
            f"from_gguf: expected an open GGUF file or its metadata, got {type(gguf).__name__}; "
            "for example wb.SamplingParams.from_gguf(model.gguf)"
        )
    found = {}
    for key, name in NAMES.items():
        if name not in skip and PREFIX + key in metadata:
            found[name] = _number(PREFIX + key, name, metadata[PREFIX + key])
    if "samplers" not in skip and PREFIX + "sequence" in metadata:
        found["samplers"] = _sequence(PREFIX + "sequence", metadata[PREFIX + "sequence"])
    return found


def _number(key: str, name: str, value: object) -> float:
    parameter = PARAMETERS[name]
    advice = f"the file recommends it; {name}=... sets another value"
    check_number(key, value, parameter, advice)
    if parameter.is_whole:
        return int(value)
    return float(str(np.float32(value)))  # the file's 0.949999988 is the float32 of 0.95


def _sequence(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, str):
        raise ParameterError(
            f"{key}: expected names with ';' between them, got {value!r:.80}; "
            "samplers=[...] sets another order"
        )
    return sampler_names(key, [name.strip() for name in value.split(";") if name.strip()])
