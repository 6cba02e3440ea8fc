"""Copy the broken and unusual GGUF files of the reference into tests/data/malformed.

    python tests/data/make_gguf.py ../shared/reference

The files were made for this project (reference/README.md, "What the project may carry"), their
verdicts follow the GGUF specification. Of the reference's manifest only file, verdict and the
description are kept. Left out: what llama.cpp and gguf-py answer.
"""

import argparse
import json
import shutil
from pathlib import Path

TARGET = Path(__file__).resolve().parent / "malformed"


def copy_malformed(reference: Path) -> None:
    """Copy every file of `reference`/malformed with its verdict."""
    source = reference / "malformed"
    cases = json.loads((source / "manifest.json").read_text())["cases"]
    TARGET.mkdir(exist_ok=True)
    for case in cases:
        shutil.copyfile(source / case["file"], TARGET / case["file"])
    kept = [{key: case[key] for key in ("file", "verdict", "what")} for case in cases]
    (TARGET / "manifest.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reference", type=Path, help="the folder of the llama.cpp goldens")
    copy_malformed(parser.parse_args().reference)
