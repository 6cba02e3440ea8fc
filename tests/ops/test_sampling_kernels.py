"""The sampling kernels draw what the chain draws: same tokens, candidates and random numbers."""

import re

import numpy as np
import pytest

from tests.ops.fibers import needs_compiler
from tests.ops.sampling_cases import CpuSampler, assert_same, first_draw
from workbench.ops import sampling_layout as layout
from workbench.sampling import SamplerChain, SamplingParams
from workbench.sampling.device import device_settings

ARCHITECTURES = ("80", "89", "90", "100", "120")
INF = np.float32(np.inf)
OFF = {"top_k": 0, "top_p": 1, "min_p": 0}
SETTINGS = {
    "defaults": {},
    "greedy": {"temperature": 0},
    "greedy of all": {**OFF, "temperature": 0},
    "top_k 1": {"top_k": 1},
    "top_k 1000": {"top_k": 1000, "top_p": 1, "min_p": 0},
    "top_k 2000, hot": {"top_k": 2000, "top_p": 0.999, "min_p": 0, "temperature": 3},
    "all in order": {**OFF, "top_k": 10**6},
    "top_p 0.99 of all in order": {"top_k": 10**6, "top_p": 0.99, "min_p": 0},
    "top_p 0": {"top_p": 0},
    "top_p 0.1 of all": {"top_k": 0, "top_p": 0.1},
    "top_p 0.95 of all": {"top_k": 0, "min_p": 0},
    "top_p 0.999 of all": {"top_k": 0, "top_p": 0.999, "min_p": 0, "temperature": 2},
    "min_p 0.05 of all": {"top_k": 0, "top_p": 1},
    "min_p 1 of all": {"top_k": 0, "top_p": 1, "min_p": 1},
    "all off": {**OFF, "temperature": 1},
    "a temperature that overflows": {"temperature": 1e-40},
}


def rows_of(n: int) -> dict[str, np.ndarray]:
    """Logits that are hard in some way: (n,) float32 each."""
    rng = np.random.default_rng(n)
    banned = np.full(n, -INF)
    banned[:: max(1, n // 3)] = 1
    signed_zeros = rng.integers(0, 4, n).astype(np.float32) - 2
    signed_zeros[signed_zeros == 0] *= -1
    return {
        "normal": (3 * rng.normal(size=n)).astype(np.float32),
        "flat": (0.1 * rng.normal(size=n)).astype(np.float32),
        "equal": np.zeros(n, np.float32),
        "ties": signed_zeros,
        "banned": banned,
        "all in a bin": (1e-6 * rng.normal(size=n)).astype(np.float32) + 100,
    }


@needs_compiler
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("n_vocab", [7, 3000])
def test_kernels_on_the_cpu_draw_what_the_chain_draws(name, n_vocab):
    chain, sampler = SamplerChain(SamplingParams(seed=3, **SETTINGS[name])), CpuSampler(n_vocab)
    for step, logits in enumerate(rows_of(n_vocab).values()):
        if step == 0:
            state = chain.generator_state()
            sampler.begin(logits, device_settings(chain), state, token=5, position=41)
        else:
            sampler.logits[:] = logits
            sampler.enqueue()
        assert_same(sampler.wait(step), *chain.sample(logits), logits)
        assert sampler.state[:3].tolist() == [sampler.wait(step).token_id, 42 + step, step + 1]


@needs_compiler
def test_of_one_token_there_is_no_choice_and_yet_a_number_is_drawn():
    drawn = first_draw(np.zeros(1, np.float32), SamplingParams())
    assert (drawn.token_id, drawn.logprob, drawn.drew) == (0, 0.0, True)


@needs_compiler
def test_a_large_vocabulary_is_cut_and_drawn_from_as_on_the_cpu():
    logits = rows_of(9001)["flat"]
    for name in ("defaults", "top_p 0.95 of all", "all off"):
        chain = SamplerChain(SamplingParams(seed=8, **SETTINGS[name]))
        drawn = first_draw(logits, SamplingParams(seed=8, **SETTINGS[name]))
        assert_same(drawn, *chain.sample(logits), logits)


@needs_compiler
def test_random_numbers_go_on_where_the_generator_begins_anew():
    logits = np.linspace(0, 3, 50).astype(np.float32)
    chain, sampler = SamplerChain(SamplingParams(seed=1)), CpuSampler(logits.size)
    for _ in range(300):  # of the 312 that its 624 words are enough for
        chain.skip()
    sampler.begin(logits, device_settings(chain), chain.generator_state(), 0, 0)
    got = [sampler.wait(0).token_id]
    for step in range(1, 40):
        sampler.enqueue()
        got.append(sampler.wait(step).token_id)
    assert got == [chain.sample(logits)[0] for _ in got]
    assert len(set(got)) > 5


@needs_compiler
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_the_chain_refuses_stop_the_device(bad):
    logits = np.full(2000, -INF)
    logits[1500] = bad
    sampler, chain = CpuSampler(logits.size), SamplerChain()
    sampler.begin(logits, device_settings(chain), chain.generator_state(), 0, 0)
    drawn = sampler.wait(0)
    assert drawn.unusable and not drawn.drew and sampler.state[layout.STOP] == 1


@needs_compiler
def test_after_a_stop_token_nothing_is_drawn():
    logits = np.array([0, 0, 9], np.float32)
    sampler, chain = CpuSampler(logits.size), SamplerChain(SamplingParams(temperature=0))
    settings = device_settings(chain, stop_ids=(1, 2))
    sampler.begin(logits, settings, chain.generator_state(), token=0, position=7)
    assert sampler.state[:4].tolist() == [2, 8, 1, 1]
    sampler.enqueue()
    assert sampler.state[:4].tolist() == [2, 8, 1, 1]


@needs_compiler
def test_a_stop_that_the_host_wants_ends_the_text_with_the_step_under_way():
    sampler, chain = CpuSampler(9), SamplerChain()
    logits = np.arange(9, dtype=np.float32)
    sampler.begin(logits, device_settings(chain), chain.generator_state(), 0, 0)
    sampler.work[: layout.WORK.itemsize].view(layout.WORK)["host_stop"] = 1
    sampler.enqueue()
    assert sampler.state[layout.STEP] == 2 and sampler.state[layout.STOP] == 1


def test_the_layouts_are_those_of_the_structs():
    sizes = [layout.SETTINGS.itemsize, layout.RECORD.itemsize, layout.WORK.itemsize]
    assert sizes == [128, 64 + 8 * layout.CAPACITY, 2568 + 8192 + 8 * layout.CAPACITY + 24 * 512]
    assert layout.WORK.fields["list"][1] % 8 == layout.WORK.fields["tiles"][1] % 8 == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_kernels_compile_for_every_architecture_without_spills(architecture):
    nvrtc = pytest.importorskip(
        "cupy_backends.cuda.libs.nvrtc", reason="CuPy, whose NVRTC compiles, is not installed"
    )
    try:
        program = nvrtc.createProgram(layout.SOURCE.text(), "sample", (), ())
    except Exception as error:  # CuPy without its [ctk] extra has no NVRTC
        pytest.skip(f"CuPy's NVRTC cannot be loaded: {error}")
    options = (f"-arch=sm_{architecture}", "-std=c++17", "-ftz=true", "--ptxas-options=-v")
    try:
        nvrtc.compileProgram(program, options)
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    spills = re.findall(r"(\d+) bytes spill", nvrtc.getProgramLog(program))
    assert len(spills) >= 4 and set(spills) == {"0"}
