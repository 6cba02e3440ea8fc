"""Threads that share the rows of a product: what they run without Python's lock.

    memory, in bytes   0 state   128 job: kernel, weight, stride, rows, n, x, tokens, out
                                 192      rows taken, step, parts
    state              generation << 32 | open << 16 | helpers inside

The caller writes the job, opens, works itself, closes, and waits until all helpers have left.
Helpers join what is open, and look for the next job in a loop: to sleep and be woken takes as long
as a small product. After some time without one they return, to sleep.

Source: our own; ggml-cpu's threads poll in the same way (`ggml_graph_compute_poll_for_work`).
"""

from numba import njit

from .atomics import call_kernel, exchange_if, fetch_add, load_shared, pause
from .entry import entry
from .simd import load_i64, store

__all__ = [
    "MEMORY_BYTES",
    "arguments",
    "n_rows",
    "serve",
    "take_rows",
    "wait",
    "work",
    "work_alone",
    "write_job",
]

product = njit(nogil=True, error_model="numpy")

JOB, TAKEN, MEMORY_BYTES = 128, 64, 256
OPEN, INSIDE, GENERATION = 1 << 16, (1 << 16) - 1, 1 << 32


@entry
def write_job(team, threads, kernel, raw, n, x, tokens, out, step):
    """One product. raw: (M, bytes) uint8; out: (T, M) float32; the rest int64."""
    job = team + JOB
    store(job, kernel)
    store(job + 8, raw.ctypes.data)
    store(job + 16, raw.strides[0])
    store(job + 24, raw.shape[0])
    store(job + 32, n)
    store(job + 40, x)
    store(job + 48, tokens)
    store(job + 56, out.ctypes.data)
    store(job + TAKEN, 0)
    store(job + TAKEN + 8, step)
    store(job + TAKEN + 16, 2 * threads)


@product
def n_rows(job):
    """All rows of a job."""
    return load_i64(job + 24)


@product
def arguments(job):
    """What a kernel must know: weight, stride, n, x, tokens, out."""
    weight, stride, n = load_i64(job + 8), load_i64(job + 16), load_i64(job + 32)
    return weight, stride, n, load_i64(job + 40), load_i64(job + 48), load_i64(job + 56)


@product
def take_rows(job):
    """The first row of those that the calling thread is to do next, and the one after the last.

    Many rows at first, since a thread reads ahead of itself, and few at the end, so that all
    threads are done at the same time. Both are the number of rows when none are left.
    """
    rows, step, parts = n_rows(job), load_i64(job + TAKEN + 8), load_i64(job + TAKEN + 16)
    while True:
        first = load_shared(job + TAKEN)
        if first >= rows:
            return rows, rows
        stop = min(rows, first + max(step, (rows - first) // parts // step * step))
        if exchange_if(job + TAKEN, first, stop):
            return first, stop


@product
def _do(team):
    call_kernel(load_i64(team + JOB), team + JOB)


@entry
def work_alone(team):
    """All rows of the job by the calling thread."""
    _do(team)


@entry
def work(team):
    """All rows of the job, by the calling thread and helpers that come; then `wait`."""
    fetch_add(team, GENERATION + OPEN)
    _do(team)
    fetch_add(team, -OPEN)


@entry
def wait(team, patience):
    """Whether all helpers have left, after so many turns of a loop at most."""
    for _ in range(patience):
        if load_shared(team) & INSIDE == 0:
            return True
        pause()
    return False


@entry
def serve(team, patience):
    """Help with jobs, until there is none for `patience` turns of a loop."""
    done, idle = -1, 0
    while idle < patience:
        state = load_shared(team)
        if state & OPEN and state >> 32 != done:
            if exchange_if(team, state, state + 1):
                _do(team)
                fetch_add(team, -1)
                done, idle = state >> 32, 0
        else:
            pause()
            idle += 1
