"""Time and memory of opening a file: ours beside gguf-py's, each in a process of its own.

Counted is what comes after the imports: until the metadata, all tensor infos and the first and last
string of every array of strings are there.
Source: gguf-py's `GGUFReader` (github.com/ggml-org/llama.cpp, gguf-py).
Left out: reading tensors.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from ..quants import open_gguf

__all__ = ["open_speed"]

MEASURED = """
import json, resource, sys, time
{imports}
def peak():
    try:  # ru_maxrss would begin with what the parent had
        lines = open("/proc/self/status").read().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, start = peak(), time.perf_counter()
{body}
print(json.dumps([time.perf_counter() - start, peak() - before]))
"""
OURS = """
with open_gguf(sys.argv[1]) as gguf:
    for value in gguf.metadata.values():
        if not isinstance(value, (int, float, str)) and len(value):
            value[0], value[-1]
    n_tensors = len(gguf.tensors)
"""
THEIRS = """
reader = GGUFReader(sys.argv[1])
for field in reader.fields.values():
    if len(field.data) and field.types[-1].name == "STRING":
        bytes(field.parts[field.data[0]]), bytes(field.parts[field.data[-1]])
n_tensors = len(reader.tensors)
"""
PROGRAMS = {
    "workbench": ("from workbench import open_gguf", OURS),
    "gguf-py": ("from gguf import GGUFReader", THEIRS),
}


def open_speed(path: str | os.PathLike, repeats: int = 3, progress: bool = False) -> pd.DataFrame:
    """Open a file in turns with each program that is installed.

    repeats: turns; the fastest counts, and its memory.
    Returns: a row for each program: seconds, mb (peak beyond what the imports took), times (as
    long as ours). Columns `attrs["missing"]`: programs that are not installed.
    Raises: GGUFError for what is no GGUF file.
    """
    open_gguf(path, whole=False).close()
    installed = {
        name for name in PROGRAMS if name == "workbench" or importlib.util.find_spec("gguf")
    }
    best: dict[str, tuple[float, float]] = {}
    turns = [name for _ in range(repeats) for name in PROGRAMS if name in installed]
    for name in tqdm(turns, "opening", delay=1, leave=False, disable=not progress):
        best[name] = min(best.get(name, (float("inf"), 0.0)), _measured(name, path))
    ours = best["workbench"][0]
    rows = [
        {"program": name, "seconds": seconds, "mb": nbytes / 1e6, "times": seconds / ours}
        for name, (seconds, nbytes) in best.items()
    ]
    speed = pd.DataFrame(rows)
    speed.attrs["missing"] = [name for name in PROGRAMS if name not in installed]
    return speed


def _measured(name: str, path: str | os.PathLike) -> tuple[float, float]:
    """Seconds and bytes of one program in a fresh process."""
    imports, body = PROGRAMS[name]
    code = MEASURED.format(imports=imports, body=body)
    root = str(Path(__file__).parents[2])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    }
    done = subprocess.run(
        [sys.executable, "-c", code, os.fspath(path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    seconds, nbytes = json.loads(done.stdout)
    return seconds, nbytes
