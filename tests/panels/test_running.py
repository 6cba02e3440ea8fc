import threading

from workbench.panels.running import Job, error_html, error_text, shown_in_panel


class Fragile:
    def __init__(self):
        self.shown = None

    @shown_in_panel
    def fail(self, error):
        raise error

    def _show_error(self, error):
        self.shown = error


def test_an_exception_of_a_callback_reaches_the_panel():
    panel, error = Fragile(), ValueError("no")
    assert panel.fail(error) is None
    assert panel.shown is error


def test_an_error_is_shown_escaped_and_by_its_kind_where_it_has_no_words():
    assert error_html(ValueError("<b>")).count("&lt;b&gt;") == 1
    assert "<b>ValueError</b>" in error_html(ValueError())
    assert error_text(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_a_job_runs_alone_says_when_it_starts_and_ends_and_can_be_stopped():
    changes, begun, seen = [], threading.Event(), []
    job = Job(changes.append)

    def work(name):
        begun.set()
        while not job.stopped:
            pass
        seen.append(name)

    assert job.start(work, "first") and begun.wait(10)
    assert job.running and not job.start(work, "second")
    job.stop()
    job.wait(10)
    assert (job.running, changes, seen) == (False, [True, False], ["first"])


def test_a_stop_counts_for_one_job_only():
    job, seen = Job(lambda running: None), []
    job.stop()
    assert job.start(lambda: seen.append(job.stopped))
    job.wait(10)
    assert seen == [False]


def test_waiting_for_nothing_returns_at_once():
    job = Job(lambda running: None)
    job.wait()
    assert not job.running
