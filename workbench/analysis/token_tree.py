"""A text that branches: any of its tokens can be replaced, and the text goes on from there.

    Once upon a time ─▶ there ─▶ was ─▶ a ─▶ little ─▶ girl
                                        └──▶ big ─▶ dog            a branch, and its probability

Only tokens that the KV cache lacks go through the model: a branch reuses all before it.
Source: our own; choosing another token in a text is from mikupad (github.com/lmg-anon/mikupad).
Leaves out: probabilities of whole branches beyond the product of their tokens'.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ContextFullError, ParameterError
from ..generate import Step, TextStream, logprob_of, prompt_ids, stop_reason
from ..model import KVCache, Model, to_numpy
from ..sampling import SamplerChain, SamplingParams
from ..sampling.candidates import largest_index

__all__ = ["Alternatives", "PrefixReader", "TokenNode", "TokenTree", "continued"]

FEWEST_POSITIONS = 256  # of a cache: a text that grows needs no new one at every token


class PrefixReader:
    """The logits after any text, at the price of the tokens that it does not share with the last.

    model: from `load_model`. logits: those of the last text; n_reused: its positions that were
    already there.
    """

    logits: np.ndarray

    def __init__(self, model: Model) -> None:
        self._model = model
        self._cache: KVCache | None = None
        self.n_reused = 0

    def logits_after(self, ids: Sequence[int]) -> np.ndarray:
        """Logits of the token after `ids`, (n_vocab,) float32; ContextFullError if too long."""
        n_most = self._model.config.n_ctx_train
        if len(ids) > n_most:
            raise ContextFullError(
                f"prompt: it does not fit; expected at most n_ctx_train = {n_most} tokens, got "
                f"{len(ids)}; shorten it"
            )
        if self._cache is None or self._cache.n_ctx < min(len(ids), n_most):
            n_ctx = min(max(FEWEST_POSITIONS, 2 * len(ids)), n_most)
            self._cache = self._model.new_cache(n_ctx=n_ctx)
        self.n_reused = self._cache.reuse(ids)
        new = np.array(ids[self.n_reused :], np.int32)
        self.logits = to_numpy(self._model.forward(new, self._cache, last_only=True))[-1]
        return self.logits


def continued(
    model: Model,
    reader: PrefixReader,
    ids: Sequence[int],
    chain: SamplerChain,
    max_tokens: int,
    first: int | None = None,
) -> Iterator[Step]:
    """Steps as of `generate`, after ids that may be in the reader's cache already.

    The samplers see all of ids as the past. first: the token to begin with, instead of drawing it.
    """
    ids, text = list(ids), TextStream(model.tokenizer, ids)
    n_ctx = model.config.n_ctx_train
    for n_new in range(1, max_tokens + 1):
        logits = reader.logits_after(ids)
        if first is not None and n_new == 1:
            token_id, candidates = first, chain.apply(logits, ids)
        else:
            token_id, candidates = chain.sample(logits, ids)
        stop = stop_reason(model.tokenizer, token_id, n_new == max_tokens, len(ids) >= n_ctx)
        piece = text.last_push(token_id, stop) if stop else text.push(token_id)
        logprob = logprob_of(logits, token_id)
        yield Step(token_id, piece, logprob, candidates, len(ids), stop)
        ids.append(token_id)
        if stop is not None:
            return


@dataclass(frozen=True)
class TokenNode:
    """One token of the tree; the root, number 0, stands for the whole prompt.

    parent: number of the node before, None for the root. prob: under the model, before any sampler;
    rank: 0 for the most probable; entropy: nats of the distribution it was chosen from; n_reused:
    positions that were in the KV cache when it was made; stop: as `Step.stop`.
    """

    number: int
    parent: int | None
    token_id: int
    text: str
    prob: float
    rank: int
    entropy: float
    n_reused: int
    stop: str | None = None

    @property
    def surprise(self) -> float:
        """-log of its probability, nats."""
        return -float(np.log(self.prob)) if self.prob > 0 else float("inf")


@dataclass(frozen=True, eq=False)
class Alternatives:
    """What could stand in a place: ids (n,) int32, most probable first; pieces; probs (n,)
    float32 under the model, before any sampler."""

    ids: np.ndarray
    pieces: tuple[str, ...]
    probs: np.ndarray


class TokenTree:
    """Texts that share their beginnings.

    model: from `load_model`; prompt: text or token ids; params: of the samplers. nodes: all tokens
    in the order they were made; n_computed: tokens that went through the model.
    """

    def __init__(
        self, model: Model, prompt: str | Sequence[int], params: SamplingParams | None = None
    ):
        self._model, self._reader = model, PrefixReader(model)
        self.params = SamplingParams.from_gguf(model.gguf) if params is None else params
        self.prompt_ids = prompt_ids(model.tokenizer, prompt)
        text = model.tokenizer.decode(self.prompt_ids)
        root = TokenNode(0, None, self.prompt_ids[-1], text, 1.0, 0, 0.0, 0)
        self.nodes: list[TokenNode] = [root]
        self.n_computed = 0

    def __repr__(self) -> str:
        return f"TokenTree({len(self.nodes) - 1} tokens, {len(self.leaves)} ends)"

    @property
    def leaves(self) -> list[TokenNode]:
        """The nodes that nothing follows."""
        parents = {node.parent for node in self.nodes}
        return [node for node in self.nodes if node.number not in parents]

    def children(self, node: TokenNode | int) -> list[TokenNode]:
        """The nodes right after one."""
        number = self._checked(node).number
        return [child for child in self.nodes if child.parent == number]

    def path(self, node: TokenNode | int) -> list[TokenNode]:
        """From the root to a node."""
        found = [self._checked(node)]
        while found[-1].parent is not None:
            found.append(self.nodes[found[-1].parent])
        return found[::-1]

    def ids(self, node: TokenNode | int) -> list[int]:
        """All tokens of the text that ends with a node, the prompt's too."""
        return [*self.prompt_ids, *(n.token_id for n in self.path(node)[1:])]

    def text(self, node: TokenNode | int) -> str:
        """The new characters of the text that ends with a node."""
        return "".join(n.text for n in self.path(node)[1:])

    def generate(self, n_tokens: int, node: TokenNode | int = 0) -> TokenNode:
        """Go on after a node by up to n_tokens, drawn from the params' seed; returns the last."""
        return self._grow(self._checked(node), n_tokens, None)

    def alternatives(self, node: TokenNode | int = 0, n: int = 8) -> Alternatives:
        """The n most probable tokens after a node."""
        logits = self._reader.logits_after(self.ids(node))
        ids = largest_index(logits, n).astype(np.int32)
        logprobs = [logprob_of(logits, i) for i in ids.tolist()]
        pieces = tuple(self._model.tokenizer.decode_bytes([i]).decode("utf-8", "replace")
                       for i in ids.tolist())  # fmt: skip
        return Alternatives(ids, pieces, np.exp(logprobs).astype(np.float32))

    def branch(self, node: TokenNode | int, token_id: int, n_tokens: int = 0) -> TokenNode:
        """Put a token of one's choice after a node, then generate; returns the last node.

        Raises: ParameterError for a token outside the vocabulary or after an end.
        """
        n_vocab = self._model.tokenizer.n_vocab
        if not isinstance(token_id, int | np.integer) or not 0 <= token_id < n_vocab:
            raise ParameterError(
                f"branch: unknown token id {token_id!r}; expected from 0 to {n_vocab - 1}; "
                "alternatives() lists the probable ones"
            )
        return self._grow(self._checked(node), n_tokens + 1, int(token_id))

    def _grow(self, node: TokenNode, n_tokens: int, first: int | None) -> TokenNode:
        if node.stop == "eog":
            raise ParameterError(
                f"tree: node {node.number} is the end of its text; expected a token before it, got "
                "an end-of-generation token; branch from its parent"
            )
        if not isinstance(n_tokens, int | np.integer) or n_tokens < 1:
            raise ParameterError(f"n_tokens: expected a whole number from 1 up, got {n_tokens!r}")
        chain = SamplerChain(self.params, tokenizer=self._model.tokenizer)
        for step in self._steps(node, chain, n_tokens, first):
            node = self._node_of(step, node.number)
            self.nodes.append(node)
        return node

    def _steps(
        self, node: TokenNode, chain: SamplerChain, n_tokens: int, first: int | None
    ) -> Iterator[Step]:
        ids = self.ids(node)
        for step in continued(self._model, self._reader, ids, chain, n_tokens, first):
            self.n_computed += step.position - self._reader.n_reused
            yield step

    def _node_of(self, step: Step, parent: int) -> TokenNode:
        logits = self._reader.logits
        rank = int((logits > logits[step.token_id]).sum())
        stop = step.stop if step.stop == "eog" else None
        about = (step.token_id, step.text, float(np.exp(step.logprob)), rank, entropy_of(logits))
        return TokenNode(len(self.nodes), parent, *about, self._reader.n_reused, stop)

    def _checked(self, node: TokenNode | int) -> TokenNode:
        number = node.number if isinstance(node, TokenNode) else node
        if isinstance(number, int | np.integer) and 0 <= number < len(self.nodes):
            return self.nodes[number]
        raise ParameterError(
            f"node: not in this tree; expected a number from 0 to {len(self.nodes) - 1}, got "
            f"{node!r}"
        )


def entropy_of(logits: np.ndarray) -> float:
    """Entropy of softmax(logits) in nats. logits: (n,) float32."""
    x = logits.astype(np.float64) - float(logits.max())
    e = np.exp(x)
    total = e.sum()
    return float(np.log(total) - (e * np.where(e > 0, x, 0)).sum() / total)
