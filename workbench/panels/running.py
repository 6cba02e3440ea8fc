"""What a panel needs to run things: its errors shown, and one job at a time in a thread.

    click ──▶ start ──▶ thread: token · stopped? · token · stopped? · …     stop ◀── click
    (the callback returns at once, so sliders and Stop still answer)

Leaves out: queues; a job that is asked for while another one runs is refused.
"""

from collections.abc import Callable
from functools import wraps
from html import escape
from threading import Event, Lock, Thread


def shown_in_panel(method: Callable) -> Callable:
    """Show an exception of a callback in the panel, where ipywidgets would drop it.

    The panel has `_show_error(error)`.
    """

    @wraps(method)
    def guarded(self, *args, **kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self._show_error(error)

    return guarded


def error_text(error: Exception) -> str:
    """The error's own words, or its kind where it has none."""
    return str(error) or type(error).__name__


def error_html(error: Exception) -> str:
    """An error as HTML beside a bar, every word of it escaped."""
    return (
        '<div style="border-left:4px solid #d55e00;padding-left:8px">'
        f"<b>{type(error).__name__}</b>: {escape(error_text(error))}</div>"
    )


class Job:
    """One piece of work at a time in a thread of its own, which can be asked to stop.

    The work looks at `stopped` wherever it may end, as between two tokens. changed: called with
    True before the work and with False after it, as to enable buttons. It should not raise: wrap
    it in `shown_in_panel`.
    """

    def __init__(self, changed: Callable[[bool], None]) -> None:
        self._changed = changed
        self._stop, self._starting = Event(), Lock()
        self._thread: Thread | None = None

    @property
    def running(self) -> bool:
        """True from `start` until the work has ended."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def stopped(self) -> bool:
        """True once `stop` was called for the work that runs."""
        return self._stop.is_set()

    def start(self, work: Callable[..., None], *args) -> bool:
        """Start work(*args); returns False, and does nothing, while another one runs."""
        with self._starting:
            if self.running:
                return False
            self._stop.clear()
            self._changed(True)
            self._thread = Thread(target=self._run, args=(work, args), daemon=True)
            self._thread.start()
            return True

    def stop(self) -> None:
        """Ask the work to end at its next look at `stopped`."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the work has ended, or at most so many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, work: Callable[..., None], args: tuple) -> None:
        try:
            work(*args)
        finally:
            self._changed(False)
