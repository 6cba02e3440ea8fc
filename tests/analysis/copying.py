"""A model of two layers, made by hand, that copies what a text said before: an induction circuit.

    number of the stream    0    1 … 32      33 … 64            65 … 96
                            1    the token   the token before   a guess

Layer 0 looks one position back, by RoPE's two fastest pairs, and notes the token it finds there.
Layer 1 looks for a position whose token before is the token that looks, and guesses what stands
there; its codes lie in RoPE's slow pairs, which hardly turn.
Source: Elhage et al., "A mathematical framework for transformer circuits", 2021.
"""

from types import SimpleNamespace

import numpy as np

from workbench.gguf import write_gguf
from workbench.model import load_model

N_VOCAB, HEAD_DIM, N_EMBD, BASE = 32, 64, 128, 1e9
HERE, BEFORE, GUESS = (slice(start, start + N_VOCAB) for start in (1, 33, 65))
SLOW = slice(32, 64)  # numbers of a head
SHARP = 300.0  # of the scores: the second best position gets next to nothing

METADATA = {
    "general.architecture": "llama",
    "llama.context_length": 256,
    "llama.embedding_length": N_EMBD,
    "llama.block_count": 2,
    "llama.feed_forward_length": 32,
    "llama.attention.head_count": 1,
    "llama.attention.key_length": HEAD_DIM,
    "llama.attention.value_length": HEAD_DIM,
    "llama.rope.dimension_count": HEAD_DIM,
    "llama.rope.freq_base": BASE,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.vocab_size": N_VOCAB,
}


def copying_model(folder):
    """The model; its tokens are numbers below 32, and its texts begin with none of their own."""
    write_gguf(folder / "copying.gguf", METADATA, _weights())
    model = load_model(folder / "copying.gguf", device="cpu")
    model.__dict__["tokenizer"] = SimpleNamespace(
        bos_id=None, eos_id=None, eog_ids=frozenset(), encode=lambda text: []
    )
    return model


def _weights():
    eye = np.eye(N_VOCAB)
    embedding = np.zeros((N_VOCAB, N_EMBD))
    embedding[:, 0], embedding[:, HERE] = 1, eye
    output = np.zeros((N_VOCAB, N_EMBD))
    output[:, GUESS] = 20 * eye
    first, second = ({name: np.zeros((HEAD_DIM, N_EMBD)) for name in "qkv"} for _ in range(2))
    for pair in (0, 1):  # at one position back, query and key lie on each other
        angle = BASE ** (-2 * pair / HEAD_DIM)
        first["k"][2 * pair, 0] = 1
        first["q"][2 * pair : 2 * pair + 2, 0] = SHARP * np.array([np.cos(angle), -np.sin(angle)])
    second["q"][SLOW, HERE], second["k"][SLOW, BEFORE] = SHARP * eye, eye
    first["v"][SLOW, HERE] = second["v"][SLOW, HERE] = eye
    shapes = {"token_embd": embedding, "output": output, "output_norm": np.ones(N_EMBD)}
    for index, (parts, target) in enumerate(((first, BEFORE), (second, GUESS))):
        out = np.zeros((N_EMBD, HEAD_DIM))
        out[target, SLOW] = eye
        layer = {f"attn_{name}": part for name, part in parts.items()}
        layer |= {"attn_output": out, "attn_norm": np.ones(N_EMBD), "ffn_norm": np.ones(N_EMBD)}
        layer |= {"ffn_up": np.zeros((32, N_EMBD)), "ffn_gate": np.zeros((32, N_EMBD))}
        layer["ffn_down"] = np.zeros((N_EMBD, 32))
        shapes |= {f"blk.{index}.{name}": part for name, part in layer.items()}
    return {f"{name}.weight": part.astype(np.float32) for name, part in shapes.items()}
