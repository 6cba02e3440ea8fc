"""What the host and the sampling kernels tell each other, as NumPy sees it: no GPU needed here.

    settings ──▶ kernels/sample*.cu ──▶ records      a ring: the record of step i is i % n_records
    work (scratch) ◀──▶                ──▶ state      token, position, step, stop: the next input

Source: the structs at the top of kernels/sample_chain.cuh, field by field.
Leaves out: launching (`cuda_sampling.py`).
"""

import math
from dataclasses import dataclass

import numpy as np

from . import kernels

__all__ = [
    "CAPACITY",
    "ENOUGH",
    "RECORD",
    "SETTINGS",
    "SOURCE",
    "STATE_WORDS",
    "TILE",
    "DrawnToken",
    "drawn_token",
    "first_work",
    "n_tiles_of",
    "settings_record",
    "work_nbytes",
]

SOURCE = kernels.Source(
    (
        *kernels.DECODE_SHARED,
        *(
            kernels.FOLDER / name
            for name in ("sample.cuh", "sample_exact.cuh", "sample_chain.cuh", "sample.cu")
        ),
    )
)

TILE = 1024  # logits, and threads, of a thread block
MOST_TILES = 512
MOST_VOCABULARY = TILE * MOST_TILES
CAPACITY = 2048  # the most candidates that are put in order and listed
ENOUGH = 1024  # so many are listed at least where more are left
MOST_STOPS = 26
STATE_WORDS = 64  # uint32; the first four are
TOKEN, POSITION, STEP, STOP, FIRST_RESERVED = range(5)
DREW, SORTED, UNUSABLE = 1, 2, 4

SETTINGS = np.dtype(
    [
        ("top_k", "<u4"),
        ("top_p", "<f4"),
        ("log_min_p", "<f4"),
        ("n_stop", "<u4"),
        ("per_temperature", "<f8"),
        ("stop_ids", "<u4", MOST_STOPS),
    ]
)
RECORD = np.dtype(
    [
        ("sequence", "<u4"),
        ("token", "<u4"),
        ("n_listed", "<u4"),
        ("flags", "<u4"),
        ("logprob", "<f8"),
        ("tail", "<f8"),
        ("n_left", "<u4"),
        ("unused", "<u4", 7),
        ("ids", "<i4", CAPACITY),
        ("logits", "<f4", CAPACITY),
    ]
)
WORK = np.dtype(
    [
        ("generator", "<u4", 636),
        ("host_stop", "<u4"),
        ("unused", "<u4", 3),
        ("n_listed", "<u4"),
        ("n_done", "<u4"),
        ("bins", "<u4", 2048),
        ("list", "<u8", CAPACITY),
        ("tiles", "V24", MOST_TILES),
    ]
)


@dataclass(frozen=True, eq=False)
class DrawnToken:
    """One step of the device.

    token_id: the token. logprob: natural log of its probability over all logits. ids, logits: (n,)
    int32 and float32, the candidates that were left as after the last sampler; of more than ENOUGH
    perhaps only the best, of more than CAPACITY never all. tail: the sum of
    exp(logit - largest logit) of those not listed. n_left: how many were left. drew: whether a
    random number was used. sorted: whether the logits fall. unusable: the logits held NaN, +inf or
    nothing but -inf, and the device has stopped.
    """

    token_id: int
    logprob: float
    ids: np.ndarray
    logits: np.ndarray
    tail: float
    n_left: int
    drew: bool
    sorted: bool
    unusable: bool


def drawn_token(record: np.ndarray) -> DrawnToken:
    """A copy of a finished record, () RECORD."""
    n, flags = int(record["n_listed"]), int(record["flags"])
    return DrawnToken(
        int(record["token"]),
        float(record["logprob"]),
        record["ids"][:n].copy(),
        record["logits"][:n].copy(),
        float(record["tail"]),
        int(record["n_left"]),
        bool(flags & DREW),
        bool(flags & SORTED),
        bool(flags & UNUSABLE),
    )


def settings_record(
    top_k: int, top_p: float, min_p: float, temperature: float, stop_ids: tuple[int, ...] = ()
) -> np.ndarray:
    """The settings as the kernels read them, (1,) SETTINGS.

    top_k: 0 (off) to CAPACITY, or at least the size of the vocabulary; top_p: >= 1 is off; min_p: 0
    (off) to 1; temperature: <= 0 takes the largest logit. stop_ids: tokens after which the device
    draws no more; of more than MOST_STOPS none is told it.
    """
    assert 0 <= top_k < 1 << 32 and top_p >= 0 and 0 <= min_p <= 1
    settings = np.zeros(1, SETTINGS)
    settings["top_k"], settings["top_p"] = top_k, np.float32(top_p)
    settings["log_min_p"] = math.log(np.float32(min_p)) if np.float32(min_p) > 0 else -math.inf
    if np.float32(temperature) > 0:
        settings["per_temperature"] = 1 / np.float64(np.float32(temperature))
    if len(stop_ids) <= MOST_STOPS:
        settings["n_stop"] = len(stop_ids)
        settings["stop_ids"][0, : len(stop_ids)] = stop_ids
    return settings


def first_work(generator: tuple[np.ndarray, int]) -> np.ndarray:
    """The start of the kernels' scratch memory before a text, (n,) uint8; all else there is unread.

    generator: the (624,) words of a Mersenne Twister and the place of the next one, which is even.
    """
    work = np.zeros(1, WORK)
    work["generator"][0, :624], work["generator"][0, 624] = generator
    return work.view(np.uint8)


def n_tiles_of(n_vocab: int) -> int:
    """Thread blocks of a launch."""
    return -(-n_vocab // TILE)


def work_nbytes(n_vocab: int) -> int:
    """Bytes of the kernels' scratch memory, which must be zero before the first launch."""
    assert n_vocab <= MOST_VOCABULARY, f"vocabulary of {n_vocab} tokens"
    return WORK.itemsize + 4 * n_vocab
