"""The plain pass of a GPU, without one: CuPy's arrays by NumPy, its kernels by fibers."""

import os
import subprocess
import sys

from tests.conftest import ROOT
from tests.ops.fibers import needs_compiler

RECIPE = "gpt-oss"  # experts, windows, sinks, biases


def run_by_fibers(*command):
    """What a script prints in a process of its own: a stand-in for CuPy must meet nobody else."""
    paths = os.pathsep.join(map(str, (ROOT / "tests" / "gpu" / "by_fibers", ROOT)))
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    return done.stdout.splitlines()[-1:], done.stdout + done.stderr


@needs_compiler
def test_logits_and_activations_of_a_gpu_are_those_of_the_cpu():
    recipes = ("--sections", "recipes", "--recipes", RECIPE)
    last, said = run_by_fibers("tests/gpu/check_forward.py", *recipes)
    assert last == ["1 checks, 0 wrong"], said


@needs_compiler
def test_caches_of_a_gpu_are_those_of_the_cpu():
    last, said = run_by_fibers("tests/gpu/check_kv_types.py", "f16", "q8_0")
    assert last == ["20 checks, 0 wrong"], said


@needs_compiler
def test_shares_that_a_gpu_brings_are_those_of_the_cpu():
    last, said = run_by_fibers("tests/gpu/check_shares.py")
    assert last == ["6 checks, 0 wrong"], said
