"""Quantize a whole model file: `llama-quantize`, one tensor at a time.

    in.gguf, mapped        types by `mixes`                   written at once
    ├ metadata  ─────────► general.file_type … ─────────────► header
    └ tensor    ─ tiles of rows ─► float32 ─► blocks, on all cores ─► one tensor's bytes

Source: llama.cpp src/llama-quant.cpp, `llama_model_quantize_impl`; tools/quantize/quantize.cpp for
the metadata of an imatrix.
Left out: pruning layers, and choosing types for a wanted size.
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..errors import ParameterError, UnsupportedError
from ..gguf import GGUFFile, TensorInfo, write_gguf
from ..gguf.types import GGML_TYPES
from .convert import CODECS, codec_of, core_count, dequantize, quantize
from .file import open_gguf
from .imatrix import Imatrix, read_imatrix
from .mixes import Choice, FileType, choose_types, find_file_type

__all__ = ["QuantizedFile", "QuantizedTensor", "quantize_file"]

TILE_WEIGHTS = 1 << 18  # of one task: a megabyte of float32, enough to keep a core busy
QUANTIZATION_VERSION = 2  # ggml's GGML_QNT_VERSION
LONGEST_TEXT = 127  # bytes that llama-quantize keeps of an imatrix' path and dataset
_FLOATS = ("F32", "F16", "BF16", "F64")
_SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")

Progress = Callable[[str, int], Any]


@dataclass(frozen=True)
class QuantizedTensor:
    """What became of one tensor; why, needs_imatrix: as in `mixes.Choice`; sizes in bytes."""

    name: str
    shape: tuple[int, ...]
    old_type: str
    type: str
    old_nbytes: int
    nbytes: int
    why: str
    needs_imatrix: bool
    has_importance: bool  # the imatrix has an entry for it


@dataclass(frozen=True)
class QuantizedFile:
    """What `quantize_file` wrote, or would write (path None); tensors in the file's order."""

    path: str | None
    file_type: str
    tensors: tuple[QuantizedTensor, ...]

    @property
    def old_nbytes(self) -> int:
        """Bytes of all tensors before."""
        return sum(tensor.old_nbytes for tensor in self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def n_elements(self) -> int:
        """Weights of all tensors."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Mean bits of storage per weight."""
        return 8 * self.nbytes / self.n_elements if self.n_elements else 0.0


@dataclass(frozen=True)
class _Job:
    """A tensor and what is to be done with it."""

    info: TensorInfo
    choice: Choice
    importance: np.ndarray | None  # (n_mat, n) float32

    @property
    def nbytes(self) -> int:
        shape = self.info.shape
        row = GGML_TYPES[self.choice.type].row_bytes(shape[-1] if shape else 1)
        return math.prod(shape[:-1]) * row


def quantize_file(
    path: str | os.PathLike,
    out: str | os.PathLike | None,
    type: str,
    *,
    tensor_types: Sequence[tuple[str, str]] = (),
    pure: bool = False,
    output_type: str | None = None,
    token_embd_type: str | None = None,
    imatrix: Imatrix | str | os.PathLike | None = None,
    allow_requantize: bool = False,
    dry_run: bool = False,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> QuantizedFile:
    """Writes a model with its weights in other types, tensor for tensor as llama-quantize does.

    path: of the model, best in F32, F16 or BF16. out: of the new file, which appears when it is
        complete; may be None in a dry run. type: a file type such as "Q4_K_M", see `mixes`.
    tensor_types, pure, output_type, token_embd_type: see `mixes.choose_types`.
    imatrix: importances of columns, or the path of a file with them.
    allow_requantize: whether tensors that are in blocks already may be quantized once more.
    dry_run: nothing is read but the header, nothing written; only types and sizes are told.
    n_threads: by default one a core. progress: called with a tensor's name and weights done, after
        every piece of work.

    Returns: QuantizedFile. Raises: ParameterError for wrong names, for `out` that is `path`, for
    importances that are missing or of another shape, and for requantizing; UnsupportedError for
    big-endian files and types that cannot be written; GGUFError for damaged files.
    Memory: one quantized tensor, and a tile of float32 a thread. The bytes do not depend on
    n_threads.
    Source: llama.cpp src/llama-quant.cpp, `llama_model_quantize_impl`.
    """
    file_type = find_file_type(type)
    _demand_other_file(path, out, dry_run)
    _demand_threads(n_threads)
    if imatrix is not None and not isinstance(imatrix, Imatrix):
        imatrix = read_imatrix(imatrix)
    with open_gguf(path) as gguf:
        _demand_little_endian(gguf)
        choices = choose_types(
            gguf.tensors,
            gguf.metadata,
            file_type,
            pure=pure,
            tensor_types=tensor_types,
            output_type=output_type,
            token_embd_type=token_embd_type,
            has_imatrix=imatrix is not None,
        )
        jobs = [_job(gguf.tensors[choice.name], choice, imatrix) for choice in choices]
        _demand_possible(jobs, allow_requantize, dry_run)
        if not dry_run:
            _write(gguf, out, file_type, jobs, imatrix, n_threads, progress)
    done = tuple(_record(job) for job in jobs)
    return QuantizedFile(None if dry_run else os.fsdecode(out), file_type.name, done)


def _job(info: TensorInfo, choice: Choice, imatrix: Imatrix | None) -> _Job:
    changes = info.type != choice.type
    importance = imatrix.importance(info.name, info.shape) if imatrix and changes else None
    return _Job(info, choice, importance)


def _record(job: _Job) -> QuantizedTensor:
    info, choice = job.info, job.choice
    return QuantizedTensor(
        name=info.name,
        shape=info.shape,
        old_type=info.type,
        type=choice.type,
        old_nbytes=info.nbytes,
        nbytes=job.nbytes,
        why=choice.why,
        needs_imatrix=choice.needs_imatrix,
        has_importance=job.importance is not None,
    )


def _write(
    gguf: GGUFFile,
    out: str | os.PathLike,
    file_type: FileType,
    jobs: list[_Job],
    imatrix: Imatrix | None,
    n_threads: int | None,
    progress: Progress | None,
) -> None:
    metadata, types = _metadata(gguf, file_type, imatrix)
    with ThreadPoolExecutor(n_threads or core_count()) as pool:
        tensors = {
            job.info.name: (
                partial(_tensor_bytes, gguf, job, pool, progress),
                job.choice.type,
                job.info.shape,
            )
            for job in jobs
        }
        write_gguf(out, metadata, tensors, types=types, version=3)


def _metadata(
    gguf: GGUFFile, file_type: FileType, imatrix: Imatrix | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Keys and values, and their types; what changes stands last, as llama-quantize leaves it."""
    new: dict[str, Any] = {
        "general.quantization_version": QUANTIZATION_VERSION,
        "general.file_type": file_type.id,
    }
    if imatrix is not None:
        new["quantize.imatrix.file"] = os.fsencode(imatrix.path)[:LONGEST_TEXT]
        if imatrix.datasets:
            new["quantize.imatrix.dataset"] = os.fsencode(imatrix.datasets[0])[:LONGEST_TEXT]
        new["quantize.imatrix.entries_count"] = len(imatrix.entries)
        if imatrix.chunk_count > 0:
            new["quantize.imatrix.chunks_count"] = imatrix.chunk_count
    old = {key: value for key, value in gguf.metadata.items() if key not in (*new, *_SPLIT_KEYS)}
    return old | new, {key: gguf.metadata.types[key] for key in old}


def _tensor_bytes(
    gguf: GGUFFile, job: _Job, pool: ThreadPoolExecutor, progress: Progress | None
) -> np.ndarray:
    """The tensor in its new type: flat uint8."""
    info, choice = job.info, job.choice
    raw = gguf.raw(info.name)
    if info.type == choice.type or info.n_elements == 0:
        if progress:
            progress(info.name, info.n_elements)
        return raw.reshape(-1)[: job.nbytes]
    n_mat = info.shape[-3] if len(info.shape) > 2 else 1
    rows = raw.reshape(-1, n_mat, info.shape[-2], raw.shape[-1])  # (…, n_mat, rows, bytes)
    out = np.empty((*rows.shape[:3], job.nbytes // math.prod(rows.shape[:3])), np.uint8)
    step = max(1, TILE_WEIGHTS // info.shape[-1])
    tasks = {}
    for index in np.ndindex(rows.shape[:2]):
        weights = None if job.importance is None else job.importance[index[1]]
        for start in range(0, info.shape[-2], step):
            part = (*index, slice(start, start + step))
            task = pool.submit(_encode, rows[part], info.type, out[part], choice, weights)
            tasks[task] = f"{info.name}, matrix {index[1]}, from row {start} on"
    try:
        for task, place in tasks.items():
            n_rows = _result(task, place)
            if progress:
                progress(info.name, n_rows * info.shape[-1])
    finally:
        for task in tasks:
            task.cancel()  # after an error or Ctrl-C; those that are done do not mind
    return out.reshape(-1)


def _result(task: Future, place: str) -> int:
    """What a task returns, or its error with its place in front."""
    try:
        return task.result()
    except (ParameterError, UnsupportedError) as error:
        raise error.__class__(f"{place}: {error}") from None


def _encode(
    raw: np.ndarray, old_type: str, out: np.ndarray, choice: Choice, importance: np.ndarray | None
) -> int:
    """Fills out (R, bytes) from raw (R, bytes) of the old type; returns the number of rows."""
    out[:] = quantize(dequantize(raw, old_type), choice.type, importance)
    blocks = np.ascontiguousarray(out).view(CODECS[choice.type].dtype)
    halves = [blocks] if blocks.dtype.names is None else [blocks[f] for f in blocks.dtype.names]
    if not all(np.isfinite(part).all() for part in halves if part.dtype == np.float16):
        raise ParameterError(
            f"quantize: weights too large for {choice.type}; expected scales below 65504, got "
            "infinite ones; keep this tensor in F32 or BF16 with a tensor type"
        )
    return len(raw)


def _demand_other_file(
    path: str | os.PathLike, out: str | os.PathLike | None, dry_run: bool
) -> None:
    if out is None:
        if not dry_run:
            raise ParameterError(
                "out: no path; expected one for the new file, got None; name it, or pass "
                "dry_run=True"
            )
        return
    same = os.path.abspath(path) == os.path.abspath(out)
    if same or (os.path.exists(path) and os.path.exists(out) and os.path.samefile(path, out)):
        raise ParameterError(
            f"{os.fsdecode(out)}: is the file to read; expected another path for the result, got "
            "the same; the original would be lost"
        )


def _demand_threads(n_threads: int | None) -> None:
    is_count = isinstance(n_threads, int) and not isinstance(n_threads, bool) and n_threads > 0
    if n_threads is not None and not is_count:
        raise ParameterError(
            f"n_threads: no number of threads; expected None or an integer of at least 1, got "
            f"{n_threads!r}"
        )


def _demand_little_endian(gguf: GGUFFile) -> None:
    if gguf.byte_order != "little":
        raise UnsupportedError(
            f"{gguf.path}: is big-endian; expected a little-endian model, got the other byte "
            "order; convert it first with gguf-convert-endian"
        )


def _demand_possible(jobs: list[_Job], allow_requantize: bool, dry_run: bool) -> None:
    """Raises for what can be known to fail before the first byte is written."""
    again = [j for j in jobs if j.info.type != j.choice.type and j.info.type not in _FLOATS]
    if again and not allow_requantize and not dry_run:
        raise ParameterError(
            f"{again[0].info.name}: is {again[0].info.type} already, as are {len(again) - 1} other "
            "tensors; expected F32, F16 or BF16 weights, got quantized ones; errors add up: start "
            "from the original, or allow to requantize"
        )
    for job in jobs:
        name, type_ = job.info.name, job.choice.type
        if job.info.type == type_ or dry_run:
            continue
        if job.choice.needs_imatrix and job.importance is None:
            raise ParameterError(
                f"{name}: {type_} needs an imatrix; expected importances of its "
                f"{job.info.shape[-1]} columns, got none; make them with `workbench imatrix` and "
                "pass them on"
            )
        codec = codec_of(type_)
        if codec.encode is None and codec.encode_weighted is None:
            able = ", ".join(c.name for c in CODECS.values() if c.encode or c.encode_weighted)
            raise UnsupportedError(
                f"{name}: this version cannot write {type_}; expected one of {able}, got {type_}; "
                "choose another file type, or a tensor type for it"
            )
