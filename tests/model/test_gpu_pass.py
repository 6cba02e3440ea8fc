"""The plain pass of a GPU, without one: CuPy's arrays by NumPy, its kernels by fibers."""

import os
import subprocess
import sys

from tests.conftest import ROOT
from tests.ops.fibers import needs_compiler

RECIPE = "gpt-oss"  # experts, windows, sinks, biases


@needs_compiler
def test_logits_and_activations_of_a_gpu_are_those_of_the_cpu():
    """In a process of its own: a stand-in for CuPy must meet nobody else."""
    paths = os.pathsep.join(map(str, (ROOT / "tests" / "gpu" / "by_fibers", ROOT)))
    command = [sys.executable, "tests/gpu/check_forward.py", "--sections", "recipes"]
    done = subprocess.run(
        [*command, "--recipes", RECIPE],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["1 checks, 0 wrong"], done.stdout + done.stderr
