"""Two tiny models and what they do with a few tokens, for the tests of notebook 06's analyses."""

from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from tests.model.tiny import f32_cache, load, tensors
from workbench.model import ActivationTrace

IDS = np.array([3, 1, 4, 1, 5, 9])
STREAM = ("inp_embd", "attn_out-*", "ffn_inp-*", "l_out-*")


class Letters:
    """A tokenizer of 40 tokens: as much as showing a piece needs."""

    def piece(self, token_id):
        return bytes([64 + token_id])

    def token_text(self, token_id):
        return chr(64 + token_id)


@lru_cache
def models():
    """A model and a damaged copy of it, whose matrices are a few per cent off."""
    folder, rng = Path(mkdtemp()), np.random.default_rng(7)
    weights = tensors(seed=2)
    off = {
        name: x * (1 + 0.05 * rng.standard_normal(x.shape).astype(np.float32))
        for name, x in weights.items()
    }
    both = load(folder, weights=weights), load(folder, weights=off)
    for model in both:
        model.__dict__["tokenizer"] = Letters()
    return both


def run(model, patterns=(*STREAM, "kqv_out-*", "kq_soft_max-*"), ids=IDS):
    """A trace of the ids, and their logits."""
    trace = ActivationTrace(patterns)
    return trace, model.forward(ids, f32_cache(model), trace=trace)
