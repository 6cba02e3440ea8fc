"""Architectures that llama.cpp runs and this package only reads: their numbers, not their logits.

A `ModelConfig` of one has the sizes that its file says under the common keys; how its layers
compute is not known here, so `load_model` refuses it by name.
Source: LLM_ARCH_NAMES of llama.cpp src/llama-arch.cpp (as in gguf-py 0.19, gguf/constants.py).
Left out: keys that only one family has, such as those of recurrent layers.
"""

from dataclasses import replace

from .llama import LLAMA
from .spec import Architecture

__all__ = ["INSPECTED", "inspected_architecture"]

INSPECTED = frozenset(
    (
        "arwkv7 bert chameleon clip cogvlm deepseek2-ocr dream eurobert falcon-h1 gemma- "
        "embedding gemma3n gemma4 glm-dsa gptj granitehybrid grovemoe jamba jina-bert-v2 "
        "jina-bert-v3 kimi-linear lfm2 lfm2moe llada llada-moe llama-embed mamba mamba2 mimo2 "
        "mistral4 modern-bert nemotron_h nemotron_h_moe neo-bert nomic-bert nomic-bert-moe "
        "paddleocr plamo2 plamo3 qwen35 qwen35moe qwen3next rnd1 rwkv6 rwkv6qwen2 rwkv7 "
        "step35 t5 t5encoder wavtokenizer-dec "
    ).split()
)


def inspected_architecture(name: str, norms_by_rms: bool) -> Architecture:
    """An entry good enough to read sizes by; norms_by_rms: which key its norm has."""
    return replace(LLAMA, name=name, norm="rms_norm" if norms_by_rms else "layer_norm")
