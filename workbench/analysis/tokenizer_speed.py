"""How fast tokenizing is, beside Hugging Face's tokenizers and tiktoken built from the same GGUF.

    text -> pieces of 64 KiB, cut behind a line feed -> each program in turn -> MB/s, ids compared

Every program starts without a memory of words and works in one thread; the first pass counts. The
others are built in memory from the vocabulary, the merges and the regexes of the pre-tokenizer.

Source: our own. Left out: the others for tokenizer models without merges (NaN in the table), and
the time they take to be built.
"""

import importlib.util
import os
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ..errors import ParameterError
from ..gguf import open_gguf
from ..tokenizer import PRE_TOKENIZERS, load_tokenizer
from ..tokenizer.bpe import MERGES, BytePairEncoder

__all__ = ["sample_text", "tokenizer_speed"]

Encode = Callable[[str], list[int]]
PIECE_BYTES = 1 << 16
NAN = float("nan")
ONE_THREAD = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}


def sample_text(path: str | os.PathLike[str] | None = None, megabytes: float = 10.0) -> str:
    """The first megabytes of a text file.

    path: UTF-8; None: the sources of Python's standard library, one after the other.
    megabytes: at most so many millions of bytes, cut between two characters.
    Raises: ParameterError if there is no text, or megabytes is not above 0.
    """
    if not megabytes > 0:
        raise ParameterError(f"megabytes: expected a number above 0, got {megabytes!r}; give 10")
    room, parts = int(megabytes * 1e6), []
    files = [Path(path)] if path else sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    for file in files:
        with file.open("rb") as stream:
            parts.append(stream.read(room))
        room -= len(parts[-1])
        if room <= 0:
            break
    text = b"".join(parts).decode("utf-8", "ignore")
    if not text:
        raise ParameterError(f"{path}: no text in it; expected a UTF-8 text file")
    return text


def tokenizer_speed(
    paths: Sequence[str | os.PathLike[str]], text: str, progress: bool = True
) -> pd.DataFrame:
    """Times `encode` on a text, and the others on the same text in the same run.

    paths: GGUF files; text: a few MB at least; progress: show a bar.
    Returns: DataFrame, a row a file: file, model, pre, load_s, mb_per_s (words never seen before),
    again_mb_per_s (the same text once more), hf_mb_per_s, ratio to it, hf_differs and the same of
    tiktoken (NaN where a package is missing or the vocabulary does not fit). `*_differs` is the
    first index at which the ids differ, -1 where they are equal. `attrs["missing"]`: the names of
    packages that are not installed.
    Raises: GGUFError, UnsupportedError for a file without a tokenizer we know; ParameterError for
    an empty text.
    """
    if not text:
        raise ParameterError("text: expected some text, got none; give a few megabytes")
    pieces = list(_pieces(text))
    frame = pd.DataFrame([_measure(path, pieces) for path in tqdm(paths, disable=not progress)])
    frame = frame.astype({"hf_differs": "Int64", "tiktoken_differs": "Int64"})
    frame.attrs["missing"] = [name for name in ("tokenizers", "tiktoken") if not _installed(name)]
    return frame


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start + PIECE_BYTES) + 1 or len(text)
        yield text[start:end]
        start = end


def _measure(path: str | os.PathLike[str], pieces: list[str]) -> dict[str, Any]:
    """One row of the table."""
    with open_gguf(path) as gguf:
        started = time.perf_counter()
        tokenizer = load_tokenizer(gguf)
        seconds = time.perf_counter() - started
        megabytes = sum(len(piece.encode()) for piece in pieces) / 1e6

        def encode(piece: str) -> list[int]:
            return tokenizer.encode(piece, add_special=False, parse_special=False)

        first, ids = _time(encode, pieces)
        row = {
            "file": Path(path).name,
            "model": tokenizer.model,
            "pre": tokenizer.pre,
            "load_s": seconds,
            "mb_per_s": megabytes / first,
        }
        others = {}
        for name, build in (("hf", _hugging_face), ("tiktoken", _tiktoken)):
            with _environment(ONE_THREAD):
                other = build(tokenizer, gguf.metadata)
                taken, theirs = _time(other, pieces) if other else (NAN, None)
            others |= {
                f"{name}_mb_per_s": megabytes / taken,
                f"{name}_ratio": taken / first,
                f"{name}_differs": None if theirs is None else _first_difference(ids, theirs),
            }
        return row | {"again_mb_per_s": megabytes / _time(encode, pieces)[0]} | others


def _time(encode: Encode, pieces: list[str]) -> tuple[float, list[int]]:
    ids: list[int] = []
    started = time.perf_counter()
    for piece in pieces:
        ids += encode(piece)
    return time.perf_counter() - started, ids


def _first_difference(ours: list[int], theirs: list[int]) -> int:
    if ours == theirs:
        return -1
    pairs = zip(ours, theirs, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables set for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _merging(tokenizer: Any) -> BytePairEncoder | None:
    """The encoder, if it is byte-level byte-pair encoding."""
    encoder = tokenizer._encoder
    fits = isinstance(encoder, BytePairEncoder) and PRE_TOKENIZERS[tokenizer.pre].byte_level
    return encoder if fits else None


def _hugging_face(tokenizer: Any, metadata: Any) -> Encode | None:
    """Hugging Face's tokenizer of the same vocabulary, merges and regexes."""
    encoder = _merging(tokenizer)
    if encoder is None or not _installed("tokenizers"):
        return None
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers  # may be missing

    pre = PRE_TOKENIZERS[tokenizer.pre]
    merges = [tuple(line.split(" ")) for line in metadata[MERGES]]
    model = models.BPE(dict(encoder._ids), merges, ignore_merges=pre.ignore_merges)
    other = Tokenizer(model)
    splits = [pre_tokenizers.Split(Regex(regex), "isolated") for regex in pre.regexes]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    other.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    return lambda piece: other.encode(piece, add_special_tokens=False).ids


def _tiktoken(tokenizer: Any, metadata: Any) -> Encode | None:
    """tiktoken with the ids as ranks, where there is one regex and a token for each byte."""
    encoder = _merging(tokenizer)
    if encoder is None or not _installed("tiktoken"):
        return None
    import tiktoken  # may be missing

    regexes = PRE_TOKENIZERS[tokenizer.pre].regexes
    ranks = {encoder.normal_piece(text): i for text, i in encoder._ids.items()}
    if len(regexes) > 1 or not all(bytes([byte]) in ranks for byte in range(256)):
        return None
    other = tiktoken.Encoding("gguf", pat_str=regexes[0], mergeable_ranks=ranks, special_tokens={})
    return other.encode_ordinary
