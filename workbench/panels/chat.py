"""A chat with the model in the notebook: messages above, a field to write in, settings beside it.

    you      Where is the dog?
    model    The dog is in the gar▌          streams; Stop ends it within a token
    [ message ]  Send  Stop  Regenerate  Undo

An answer is written in a thread of its own, which looks for Stop before every token.
Leaves out: markdown in answers, which are shown as they are.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from html import escape

import ipywidgets as widgets

from ..chat_session import ChatSession
from ..generate import Step
from ..model import Model
from ..plots.stage_strip import GREY, TEXT, TRACK
from ..sampling import SamplerChain, SamplingParams
from .controls import number_field, slider
from .running import Job, error_html, error_text, shown_in_panel

SECONDS_BETWEEN_DRAWS = 0.05  # of an answer while it grows
SLIDERS = {"temperature": 2.0, "top_k": 200, "top_p": 1.0, "min_p": 1.0}  # name, usual end
SPEAKERS = {"system": "system", "user": "you", "assistant": "model"}
NARROW = {"description_width": "92px"}
ENDINGS = {
    "eog": "answer complete",
    "max_tokens": "answer cut off at max_tokens",
    "n_ctx": "answer cut off, the context is full",
}
BUTTONS = ("send", "stop", "regenerate", "undo")


class ChatPanel:
    """A conversation with a model that has a chat template.

    model, system, params, template: as for `ChatSession`. max_tokens: of an answer.

    Controls are ipywidgets: text, temperature, top_k, top_p, min_p, seed, max_tokens (`.value`),
    send_button, stop_button, regenerate_button, undo_button (`.click()`).
    Results: session (with its messages), error.
    Raises: ParameterError for a model without a chat template.
    """

    def __init__(
        self,
        model: Model,
        system: str | None = None,
        params: SamplingParams | None = None,
        max_tokens: int = 200,
        template: str | None = None,
    ) -> None:
        self._model, self._given = model, params or SamplingParams.from_gguf(model.gguf)
        self.session = ChatSession(model, system, self._given, max_tokens, template=template)
        self._in_use, self._job = self._given, Job(self._set_running)
        self._growing: str | None = None
        self.error: str | None = None
        self._make_controls(max_tokens)
        self.widget = self._lay_out()
        self._set_running(False)
        self._show_messages()

    @property
    def params(self) -> SamplingParams:
        """The settings that the controls show, and the given ones of those that have none."""
        values = {name: getattr(self, name).value for name in (*SLIDERS, "seed")}
        return replace(self._given, **values)

    @property
    def messages(self) -> tuple[dict[str, str], ...]:
        """What was said: role and content."""
        return self.session.messages

    @property
    def running(self) -> bool:
        """True while an answer is being written."""
        return self._job.running

    @shown_in_panel
    def send(self, text: str | None = None, wait: bool = False) -> None:
        """Say the text, by default that of the field; while an answer is written do nothing.

        wait: return only when the answer is there.
        """
        said = self.text.value if text is None else text
        self._start(self.session.send, said, wait=wait)

    @shown_in_panel
    def regenerate(self, wait: bool = False) -> None:
        """Answer the last message again, with other random numbers."""
        self._start(self.session.regenerate, wait=wait)

    @shown_in_panel
    def undo(self) -> None:
        """Take the last message and its answer back; the message returns to the field."""
        if not self._job.running:
            self.text.value = self.session.undo()
            self._clear_error()
            self._show_messages()

    def stop(self) -> None:
        """Stop the answer before its next token."""
        self._job.stop()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the answer is there, or at most so many seconds."""
        self._job.wait(seconds)

    def summary(self) -> str:
        """The messages, how the last answer ended, and what the cache saved, as text."""
        session = self.session
        lines = [f"{SPEAKERS[m['role']]}: {m['content']!r}" for m in session.messages]
        if session.n_prompt:
            lines.append(f"{self._ending()}; {self._reuse()}")
        if self.error is not None:
            lines.append(f"error: {self.error}")
        return "\n".join(lines) or "no messages yet"

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {getattr(self.params, name):g}" for name in (*SLIDERS, "seed"))
        return f"ChatPanel({len(self.messages)} messages, {shown})"

    def _repr_mimebundle_(self, **kwargs) -> dict:
        return {**self.widget._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    def _make_controls(self, max_tokens: int) -> None:
        refused = self._show_error
        for name, top in SLIDERS.items():
            top = min(top, self._model.config.n_vocab) if name == "top_k" else top
            setattr(self, name, slider(name, getattr(self._given, name), top, NARROW, refused))
        field = {"style": NARROW, "refused": refused}
        self.seed = number_field("seed", self._given.seed, 0, 2**32 - 1, **field)
        self.max_tokens = number_field("max_tokens", max_tokens, 1, 10**6, **field)
        self.text = widgets.Textarea(
            placeholder="Write a message", rows=2, layout={"width": "100%"}
        )
        for name in BUTTONS:
            style = "primary" if name == "send" else ""
            button = widgets.Button(description=name.capitalize(), button_style=style)
            button.on_click(lambda _, name=name: getattr(self, name)())
            setattr(self, f"{name}_button", button)

    def _lay_out(self) -> widgets.VBox:
        self.conversation, self.note, self.message = (widgets.HTML() for _ in range(3))
        buttons = widgets.HBox([getattr(self, f"{name}_button") for name in BUTTONS])
        controls = (
            self.temperature,
            self.top_k,
            self.top_p,
            self.min_p,
            self.seed,
            self.max_tokens,
        )
        rows = [buttons, *(widgets.HBox(controls[i : i + 2]) for i in (0, 2, 4))]
        for row in rows:
            row.layout.flex_flow = "row wrap"
        parts = [self.conversation, self.note, self.message, self.text, *rows]
        return widgets.VBox(parts, layout={"width": "100%", "max_width": "960px"})

    def _start(self, begin: Callable[..., Iterator[Step]], *said: str, wait: bool) -> None:
        """Begin an answer; what cannot be asked is refused here, before a thread starts."""
        if not self._job.running:
            self._clear_error()
            params = self.params
            if params != self._in_use:  # else the random numbers go on
                self.session.chain = SamplerChain(params, tokenizer=self._model.tokenizer)
                self._in_use = params
            self.session.max_tokens = self.max_tokens.value
            self._job.start(self._write, begin(*said))
            if said:
                self.text.value = ""
        if wait:
            self._job.wait()

    @shown_in_panel
    def _write(self, steps: Iterator[Step]) -> None:
        self._growing, drawn = "", 0.0
        try:
            with closing(steps):
                for step in steps:
                    self._growing += step.text
                    if time.monotonic() - drawn > SECONDS_BETWEEN_DRAWS:
                        self._show_messages()
                        drawn = time.monotonic()
                    if self._job.stopped:
                        break
        finally:
            self._growing = None
            self._show_messages()

    def _show_messages(self) -> None:
        messages = list(self.session.messages)
        if self._growing is not None:
            messages.append({"role": "assistant", "content": self._growing + "▌"})
        self.conversation.value = conversation_html(messages)
        ended = self._growing is None and self.session.n_prompt
        note = f"{self._ending()}; {self._reuse()}" if ended else ""
        self.note.value = f'<span style="font-size:12px;color:{GREY}">{escape(note)}</span>'

    def _ending(self) -> str:
        return ENDINGS.get(self.session.stop, "answer stopped")

    def _reuse(self) -> str:
        session = self.session
        dropped = f", {session.n_dropped} oldest messages left out" if session.n_dropped else ""
        return f"{session.n_prompt} prompt tokens, {session.n_reused} of them in the cache{dropped}"

    def _set_running(self, running: bool) -> None:
        for name in BUTTONS:
            getattr(self, f"{name}_button").disabled = running != (name == "stop")

    def _show_error(self, error: Exception) -> None:
        self.error, self.message.value = error_text(error), error_html(error)

    def _clear_error(self) -> None:
        self.error, self.message.value = None, ""


def conversation_html(messages: list[dict[str, str]]) -> str:
    """Messages as HTML blocks, one below the other; every character of them is escaped."""
    blocks = [
        f'<div style="margin:4px 0;padding:4px 8px;border-radius:4px;color:{TEXT};'
        f'background:{TRACK if message["role"] == "user" else "transparent"}">'
        f'<b style="font-size:12px;color:{GREY}">{SPEAKERS[message["role"]]}</b>'
        '<div style="white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.4">'
        f"{escape(message['content'].strip())}</div></div>"
        for message in messages
    ]
    return "".join(blocks)
