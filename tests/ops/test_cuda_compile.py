"""Every kernel compiles for every GPU that we name, and keeps all its numbers in registers."""

import os
import re
import subprocess
import sys

import pytest

from tests.ops import nvrtc
from workbench.ops import kernels

# Bytes of local memory that a kernel may have on its stack, without moving registers there.
STACK = {"sample_pick": 48, "sample_scan": 16}

needs_nvrtc = pytest.mark.skipif(
    nvrtc.library() is None, reason="NVRTC is not here: pip install nvidia-cuda-nvrtc"
)


def compiled(text: str, architecture: str, name: str) -> tuple[nvrtc.Kernel, ...]:
    try:
        return nvrtc.compile_text(text, architecture, name)
    except nvrtc.CompileError as error:
        pytest.fail(f"sm_{architecture} refuses {name}:\n{error}", pytrace=False)


# Of matvec_*, one template over the types of dequantize_*, one family stands for all but on sm_90.
PAIRS = [
    (name, architecture)
    for name in kernels.SOURCES
    for architecture in nvrtc.ARCHITECTURES
    if architecture == "90" or not name.startswith("matvec_") or name == "matvec_k"
]


@needs_nvrtc
@pytest.mark.parametrize(("name", "architecture"), PAIRS)
def test_every_kernel_compiles_and_stays_in_registers(name, architecture):
    found = compiled(kernels.SOURCES[name].text(), architecture, name)
    assert found, f"{name} has no kernels"
    for kernel in found:
        assert not kernel.spilled, kernel
        assert kernel.stack <= STACK.get(kernel.name, 0), kernel


@needs_nvrtc
@pytest.mark.parametrize("family", kernels.FAMILIES)
def test_a_dequantizing_family_has_two_kernels_a_type(family):
    found = compiled(kernels.SOURCES[f"dequantize_{family}"].text(), "90", f"dequantize_{family}")
    names = [re.fullmatch(r"dequantize_(\w+)_float(16|32)", kernel.name)[1] for kernel in found]
    assert sorted(names) == sorted(2 * kernels.FAMILIES[family])


@needs_nvrtc
def test_local_memory_is_seen():
    source = """extern "C" __global__ void count(const int* codes, int* out) {
        int table[50] = {};
        for (int i = 0; i < 1000; i++) table[codes[i]] += i;
        out[threadIdx.x] = table[codes[threadIdx.x]];
    }"""
    (kernel,) = compiled(source, "90", "count")
    assert kernel.name == "count" and kernel.stack >= 200


@needs_nvrtc
def test_a_mistake_is_told_with_its_place():
    source = '#line 7 "file.cuh"\n__global__ void wrong() { nobody_knows(); }'
    with pytest.raises(nvrtc.CompileError, match=r"file.cuh\(7\).*nobody_knows"):
        nvrtc.compile_text(source, "90")


def test_every_kernel_file_is_in_a_source():
    named = {path for source in kernels.SOURCES.values() for path in source.paths}
    assert sorted(kernels.FOLDER.glob("*.cu*")) == sorted(named)


def test_texts_are_read_in_any_locale():
    """NVRTC 12.2 sets the process's locale to C, of which Python takes ASCII."""
    code = "from workbench.ops import kernels; [s.text() for s in kernels.SOURCES.values()]"
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | ascii_only)


def test_only_the_vocabulary_names_machine_instructions():
    for path in kernels.FOLDER.glob("*.cu*"):
        text = path.read_text()
        assert "#include" not in text, path.name
        assert path.name.startswith("ptx") or not re.search(r"\basm\b", text), path.name


@pytest.mark.parametrize("path", sorted(kernels.FOLDER.glob("*.cu*")), ids=lambda path: path.name)
def test_kernel_files_are_as_small_and_narrow_as_those_of_python(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 400 and max(map(len, lines)) <= 100
