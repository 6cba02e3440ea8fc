"""The model families that have code, as data: one module a family, one entry an architecture.

A new architecture is one more entry and a test against llama.cpp's logits; the forward pass in
`model/transformer.py` reads the entry. spec.py says what can differ, parts.py what many share.
"""

from ...errors import UnsupportedError
from .command_r import COMMAND_R_FAMILY
from .deepseek import DEEPSEEK_FAMILY
from .experts import EXPERTS_FAMILY
from .gemma import GEMMA_FAMILY
from .glm import GLM_FAMILY
from .gpt import GPT_FAMILY
from .llama import LLAMA_FAMILY
from .olmo import OLMO_FAMILY
from .phi import PHI_FAMILY
from .qwen import QWEN_FAMILY
from .spec import Architecture, TensorSpec, Window

__all__ = ["ARCHITECTURES", "Architecture", "TensorSpec", "Window", "find_architecture"]

ARCHITECTURES = {
    entry.name: entry
    for entry in (
        *LLAMA_FAMILY,
        *QWEN_FAMILY,
        *GEMMA_FAMILY,
        *PHI_FAMILY,
        *GPT_FAMILY,
        *COMMAND_R_FAMILY,
        *OLMO_FAMILY,
        *GLM_FAMILY,
        *DEEPSEEK_FAMILY,
        *EXPERTS_FAMILY,
    )
}


def find_architecture(name: str) -> Architecture:
    """The entry of an architecture by its GGUF name.

    Raises: UnsupportedError naming what is supported.
    """
    if name not in ARCHITECTURES:
        raise UnsupportedError(
            f"general.architecture: no code for {name!r}; expected one of "
            f"{', '.join(sorted(ARCHITECTURES))}, got {name!r}; its metadata, tensors and "
            "tokenizer can still be read through open_gguf"
        )
    return ARCHITECTURES[name]
