"""A conversation with a model: its chat template, a KV cache that is kept, answers that stream.

    system, user, assistant, user  ──template──▶  text  ──▶  tokens
                                     tokens the cache holds already ║ new ones ──▶ forward ──▶ Steps

Each turn renders the whole conversation again, as templates may write older turns otherwise than
new ones; what the cache shares with it is not computed twice. As in llama.cpp's chat there is one
BOS where the tokenizer adds one, and special tokens that a user types are read as such.

Source: tools/main/main.cpp and common/chat.cpp in llama.cpp. Leaves out: tools, images, and how a
model's own reasoning is parted from its answer.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING
from weakref import ref

from .errors import ContextFullError, ParameterError
from .generate import Step, generate
from .sampling import SamplerChain, SamplingParams

if TYPE_CHECKING:
    from .model import KVCache, Model

__all__ = ["ChatSession"]

MOST_POSITIONS = 4096  # of the cache, unless asked for more: a model's own n_ctx may need many GB

Messages = list[dict[str, str]]


class ChatSession:
    """Messages so far, and the model that answers them.

    model: from `load_model`. system: what the model is told first. params: settings, by default
    those that the file recommends; or a chain of your own: its generator goes on from turn to turn,
    and a grammar begins anew with each answer. max_tokens: of an answer. n_ctx: positions of the
    cache, by default n_ctx_train or 4096 if that is less. template: a jinja2 text instead of the
    file's. drop_oldest: where the conversation no longer fits, leave its oldest turns out instead
    of raising.

    messages: what was said. n_prompt, n_reused, n_dropped: tokens of the last turn's prompt, how
    many of them were in the cache, and how many of the oldest messages were left out of it.
    stop: why the last answer ended: "eog", "max_tokens", "n_ctx", or None if it was closed.

    Raises: ParameterError for a model without a chat template, and for wrong arguments.

    Example: for step in ChatSession(model).send("Hello"): ... step.text
    """

    def __init__(
        self,
        model: "Model",
        system: str | None = None,
        params: SamplingParams | SamplerChain | None = None,
        max_tokens: int = 512,
        n_ctx: int | None = None,
        template: str | None = None,
        drop_oldest: bool = False,
    ) -> None:
        if template is None and not model.tokenizer.chat_templates:
            raise ParameterError(
                "chat: the model has no chat template, so it knows no turns; expected the key "
                "tokenizer.chat_template in the file, got none; use generate(), or give the text "
                "of a template with template="
            )
        self._model, self._template, self.drop_oldest = model, template, drop_oldest
        settings = SamplingParams.from_gguf(model.gguf) if params is None else params
        own = isinstance(params, SamplerChain)
        self.chain = params if own else SamplerChain(settings, tokenizer=model.tokenizer)
        self.max_tokens = max_tokens
        self._n_ctx = min(model.config.n_ctx_train, MOST_POSITIONS) if n_ctx is None else n_ctx
        self._cache: KVCache = model.new_cache(n_ctx=self._n_ctx)
        self._answering: Callable[[], Iterator[Step] | None] = lambda: None
        self._messages: Messages = []
        if system is not None:
            self._messages = [{"role": "system", "content": _checked("system", system)}]
        self.n_prompt = self.n_reused = self.n_dropped = 0
        self.stop: str | None = None

    def __repr__(self) -> str:
        return (
            f"ChatSession({len(self._messages)} messages, {self.n_prompt} prompt tokens, "
            f"{self.n_reused} of them reused)"
        )

    @property
    def messages(self) -> tuple[dict[str, str], ...]:
        """All messages, each with role ("system", "user" or "assistant") and content: copies."""
        return tuple(dict(message) for message in self._messages)

    @property
    def is_answering(self) -> bool:
        """Whether the last answer is still being written."""
        return self._answering() is not None

    def send(self, text: str) -> Iterator[Step]:
        """Say something; the answer comes token by token.

        The message and the answer join the messages as the iterator goes on and ends; closing it
        stops the answer and keeps what is there. An older answer that still goes on is stopped.
        Raises, when called: ParameterError for no text and for what the template refuses,
        ContextFullError if the conversation does not fit.
        """
        _checked("send", text)
        if not text.strip():
            raise ParameterError(f"send: nothing to say; expected a text, got {text!r}")
        self._end_answer()
        return self._turn(list(self._messages), text)

    def regenerate(self) -> Iterator[Step]:
        """Answer the last message again, with the random numbers that come next; as `send`."""
        self._end_answer()
        user = self._last_user()
        return self._turn(self._messages[:user], self._messages[user]["content"])

    def undo(self) -> str:
        """Take back the last message and its answer. Returns: the message's text."""
        self._end_answer()
        user = self._last_user()
        text = self._messages[user]["content"]
        del self._messages[user:]
        self.n_prompt = self.n_reused = self.n_dropped = 0
        self.stop = None
        return text

    def _turn(self, before: Messages, text: str) -> Iterator[Step]:
        messages = [*before, {"role": "user", "content": text}]
        ids, n_dropped = self._prompt(messages)
        answer = self._answer(messages, ids, n_dropped)
        self._answering = ref(answer)
        return answer

    def _answer(self, messages: Messages, ids: list[int], n_dropped: int) -> Iterator[Step]:
        """The steps of an answer; puts it into the messages, or leaves them if there is none."""
        if self.chain.grammar is not None:
            self.chain.grammar.reset()
        n_reused, said, stop = self._cache.reuse(ids), None, None
        new = ids[n_reused:]
        steps = generate(self._model, new, self.chain, self.max_tokens, cache=self._cache)
        before, self._messages = self._messages, messages
        self.n_prompt, self.n_reused, self.n_dropped = len(ids), n_reused, n_dropped
        try:
            with closing(steps):
                for step in steps:
                    said, stop = (said or "") + step.text, step.stop
                    yield step
        finally:
            self.stop, self._answering = stop, lambda: None
            if said is None:
                self._messages = before
            else:
                self._messages = [*messages, {"role": "assistant", "content": said}]

    def _prompt(self, messages: Messages) -> tuple[list[int], int]:
        """Token ids of the conversation, and how many of its oldest messages are not in them."""
        first = int(messages[0]["role"] == "system")
        ids, n_dropped = self._rendered(messages), 0
        while len(ids) > self._n_ctx and self.drop_oldest and first + n_dropped + 2 < len(messages):
            n_dropped += 2  # a message and its answer
            ids = self._rendered(messages[:first] + messages[first + n_dropped :])
        if len(ids) > self._n_ctx:
            raise ContextFullError(
                f"chat: the conversation does not fit; expected at most n_ctx = {self._n_ctx} "
                f"tokens, got {len(ids)}; undo turns, begin a new chat, or make one with a larger "
                "n_ctx or with drop_oldest=True"
            )
        return ids, n_dropped

    def _rendered(self, messages: Messages) -> list[int]:
        tokenizer = self._model.tokenizer
        text = tokenizer.render_chat(messages, template=self._template)
        ids = tokenizer.encode(text, add_special=False, parse_special=True)
        if not ids:
            raise ParameterError("chat: the template writes nothing; expected at least one token")
        if tokenizer.add_bos and ids[0] != tokenizer.bos_id:
            ids = [tokenizer.bos_id, *ids]
        return ids

    def _last_user(self) -> int:
        """Where the last message of the user stands."""
        for i in reversed(range(len(self._messages))):
            if self._messages[i]["role"] == "user":
                return i
        raise ParameterError(
            "chat: there is no turn yet; expected a message to take back or to answer again; send "
            "one first"
        )

    def _end_answer(self) -> None:
        """Stop an answer that nobody has ended."""
        answer = self._answering()
        if answer is None:
            return
        try:
            answer.close()
        except ValueError:  # another thread is in the middle of it
            raise ParameterError(
                "chat: an answer is being written; expected to be asked after it; stop it first"
            ) from None


def _checked(place: str, text: object) -> str:
    if not isinstance(text, str):
        raise ParameterError(f"{place}: expected a text, got {type(text).__name__}")
    return text
