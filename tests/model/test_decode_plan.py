"""Which models and caches the decode kernel takes, in how much memory, how it refuses others."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import workbench as wb
from tests.conftest import BUILTIN_MODEL
from tests.ops.test_cuda_compile import compiled, needs_nvrtc
from workbench.errors import DeviceMemoryError
from workbench.model.architectures import ARCHITECTURES
from workbench.model.decode_memory import demand_graph_memory, shared_memory
from workbench.model.decode_plan import decode_plan, why_not_decoded
from workbench.ops.packed import PackedTensor

# n_embd, n_ff, n_head, n_head_kv, head_dim, architecture of published models
SHAPES = {
    "llama-3-8b": (4096, 14336, 32, 8, 128, "llama"),
    "qwen2.5-7b": (3584, 18944, 28, 4, 128, "qwen2"),
    "gemma-2-27b": (4608, 36864, 32, 16, 128, "gemma2"),
    "gemma-3-27b": (5376, 21504, 32, 16, 128, "gemma3"),
    "llama-3-70b": (8192, 28672, 64, 8, 128, "llama"),
    "mistral-large-123b": (12288, 28672, 96, 8, 128, "llama"),
    "llama-3.1-405b": (16384, 53248, 128, 8, 128, "llama"),
}
SPILLED = {"mistral-large-123b": 8}  # bytes: 14 rounds of x and of weights fill 255 registers
KIB = {"sm_86": 99 << 10, "sm_80": 163 << 10, "sm_90": 227 << 10}


@pytest.fixture(scope="module")
def network():
    with wb.load_model(BUILTIN_MODEL, device="cpu") as model:
        yield model.network


@pytest.fixture
def shaped(network):
    """A network with the sizes of a published model, and one layer of matrices without bytes."""

    def make(name, type):
        n_embd, n_ff, n_head, n_head_kv, head_dim, architecture = SHAPES[name]
        sizes = dict(n_embd=n_embd, n_ff=n_ff, n_head=n_head, n_head_kv=n_head_kv)
        sizes |= dict(head_dim=head_dim, head_dim_v=head_dim, n_rot=head_dim)
        config = replace(network.config, **sizes)
        heads, groups = n_head * head_dim, n_head_kv * head_dim
        shapes = {
            **{"attn_q": (heads, n_embd), "attn_k": (groups, n_embd), "attn_v": (groups, n_embd)},
            **{"attn_output": (n_embd, heads), "ffn_gate": (n_ff, n_embd)},
            **{"ffn_up": (n_ff, n_embd), "ffn_down": (n_embd, n_ff)},
        }
        parts = {name: _part(type, shape) for name, shape in shapes.items()}
        weights = SimpleNamespace(
            blk=[SimpleNamespace(**parts)], output=_part(type, (32000, n_embd))
        )
        return replace(
            network, config=config, architecture=ARCHITECTURES[architecture], weights=weights
        )

    return make


def _part(type, shape):
    return SimpleNamespace(weight=PackedTensor(None, type, shape))


@pytest.mark.parametrize(
    ("name", "type", "gpu", "n_warps", "rounds"),
    [
        ("llama-3-8b", "Q4_0", "sm_90", 11, 3),
        ("llama-3-8b", "Q4_0", "sm_80", 11, 1),
        ("llama-3-8b", "Q4_0", "sm_86", 6, 1),
        ("llama-3-8b", "Q6_K", "sm_86", 7, 1),
        ("llama-3-70b", "Q6_K", "sm_90", 11, 2),
        ("llama-3-70b", "Q4_0", "sm_80", 7, 1),
        ("mistral-large-123b", "Q4_0", "sm_90", 7, 3),
        ("gemma-2-27b", "Q4_0", "sm_90", 11, 1),
    ],
)
def test_a_thread_block_with_less_memory_gets_fewer_slots_then_fewer_warps(
    shaped, name, type, gpu, n_warps, rounds
):
    found = shared_memory(shaped(name, type), KIB[gpu])
    assert (found.n_warps, found.n_slots) == (n_warps, rounds * n_warps)
    assert found.bytes <= KIB[gpu]


@pytest.mark.parametrize(
    ("name", "gpu", "numbers"),
    [
        ("qwen2.5-7b", "sm_86", "3584 and 18944"),
        ("llama-3-70b", "sm_86", "8192 and 28672"),
        ("llama-3.1-405b", "sm_90", "16384 and 53248"),
    ],
)
def test_vectors_too_long_for_a_gpu_are_refused_by_name(shaped, name, gpu, numbers):
    with pytest.raises(wb.UnsupportedError, match=rf"{numbers} numbers.*got {KIB[gpu]} bytes"):
        decode_plan(shaped(name, "Q4_0"), KIB[gpu])


@needs_nvrtc
@pytest.mark.parametrize(
    ("name", "type", "gpu"),
    [
        ("llama-3-8b", "Q6_K", "sm_86"),
        ("llama-3-8b", "F16", "sm_80"),
        ("llama-3-70b", "Q4_0", "sm_80"),
        ("llama-3-70b", "Q4_0", "sm_90"),
        ("mistral-large-123b", "Q4_0", "sm_90"),
        ("gemma-2-27b", "Q4_0", "sm_90"),
        ("gemma-3-27b", "F16", "sm_90"),
    ],
)
def test_what_the_plan_allows_stays_in_registers(shaped, name, type, gpu):
    plan = decode_plan(shaped(name, type), KIB[gpu])
    (kernel,) = compiled(plan.source.text(), gpu[3:], name)
    assert kernel.spilled <= SPILLED.get(name, 0) and kernel.stack <= SPILLED.get(name, 0), kernel


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({}, None),
        ({"type_k": "q8_0"}, "type k q8_0, v f16"),
    ],
)
def test_a_cache_without_code_is_named(network, asked, reason):
    with wb.load_model(BUILTIN_MODEL, device="cpu") as model:
        found = why_not_decoded(network, model.new_cache(n_ctx=32, **asked))
    assert found is None if reason is None else reason in found


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"rotations": ((0, 0), (64, 0))}, "rotates its"), ({"swa_full": False}, "only their window")],
)
def test_a_cache_that_other_models_have_is_named(network, changed, reason):
    like = {"type_k": "f16", "type_v": "f16", "rotations": ((0, 0),), "swa_full": True}
    cache = SimpleNamespace(**like | changed, n_layer=1, first=lambda layer: 0)
    assert reason in why_not_decoded(network, cache)


def test_a_vocabulary_beyond_what_sampling_has_code_for_is_named(network):
    large = replace(network, config=replace(network.config, n_vocab=524289))
    assert "524289 tokens (up to 524288" in why_not_decoded(large)


def test_a_gpu_without_room_for_packets_is_told_both_sizes():
    demand_graph_memory(10**9, 10**9, "cuda:0")
    with pytest.raises(DeviceMemoryError, match=r"cuda:0.*4\.50 GB free, got 1\.25 GB"):
        demand_graph_memory(4_500_000_000, 1_250_000_000, "cuda:0")
