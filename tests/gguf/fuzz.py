"""Fuzz the reader and the validator with atheris, guided by the coverage of their code.

    python -m tests.gguf.fuzz CORPUS_FOLDER -max_total_time=1800 -max_len=4096

Each input is written to a file, opened, read to its end and validated under both profiles. A
finding is any exception but GGUFError, and any file on which reader and profile "spec" disagree.
The folder is filled with small files made by hand first. Needs `pip install atheris`; options are
libFuzzer's. Source: our own. Left out: split models.
"""

import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["workbench.gguf", "workbench.quants.validate_data"]):
    from tests.gguf.fuzz_checks import accepts, reads

from tests.gguf.build import Build, all_values

MALFORMED = Path(__file__).resolve().parents[1] / "data" / "malformed"
os.environ["TQDM_DISABLE"] = "1"
SCRATCH = Path("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir())
FILE = SCRATCH / f"fuzz-{os.getpid()}.gguf"


def one_input(content: bytes) -> None:
    """Open and validate one input."""
    FILE.write_bytes(content)
    opened = reads(FILE)
    accepts(FILE, "llama.cpp")
    assert opened == accepts(FILE, "spec"), "the reader and the profile spec disagree"


def fill(folder: Path) -> None:
    """Write the files that the mutations start from."""
    folder.mkdir(parents=True, exist_ok=True)
    for version, byte_order in [
        (1, "little"),
        (1, "big"),
        (2, "little"),
        (3, "little"),
        (3, "big"),
    ]:
        build = Build(version, byte_order)
        infos = [build.tensor("t", [8, 2], 0, 0), build.tensor("q", [256], 12, 64)]
        seed = build.file(all_values(build), infos, bytes(224))
        (folder / f"built-{version}-{byte_order}").write_bytes(seed)
    for file in MALFORMED.glob("*.gguf"):
        if file.stat().st_size <= 4096:
            (folder / file.name).write_bytes(file.read_bytes())


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
