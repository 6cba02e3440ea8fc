"""Data checks: each kind of bad block is found, counted and placed; sound ones are left alone."""

import tracemalloc

import numpy as np
import pytest

import workbench as wb
from tests.conftest import BUILTIN_MODEL
from tests.gguf.build import Build
from workbench.gguf.types import GGML_TYPES
from workbench.quants import CODECS

N_BLOCKS = 4


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.gguf"


def validated(path, type_name: str, raw: bytes, byte_order: str = "little"):
    """The findings on a file with one tensor of `raw` as one row; and where its data starts."""
    build, type_ = Build(3, byte_order), GGML_TYPES[type_name]
    dims = [len(raw) // type_.type_size * type_.block_size]
    pairs = [
        build.pair("general.architecture", 8, build.string("llama")),
        build.pair("general.quantization_version", 4, build.pack("I", 2)),
    ]
    content = build.file(pairs, [build.tensor("w", dims, type_.id, 0)], raw)
    path.write_bytes(content + bytes(-len(content) % 32))
    findings = [f for f in wb.validate_gguf(path, data=True).findings if f.rule != "byte-order"]
    return findings, len(content) - len(raw)


def sound_blocks(type_name: str) -> np.ndarray:
    """N_BLOCKS blocks of random normal weights, as the type's quantizer writes them."""
    n = N_BLOCKS * GGML_TYPES[type_name].block_size
    x = np.random.default_rng(5).normal(size=(1, n)).astype(np.float32)
    raw = wb.quantize(x, type_name, imatrix=np.ones(n, np.float32))
    return raw.reshape(-1).view(CODECS[type_name].dtype).copy()


WRITABLE = [name for name, codec in CODECS.items() if codec.can_write]


@pytest.mark.parametrize("type_name", WRITABLE)
def test_weights_of_a_quantizer_are_left_alone(path, type_name):
    assert validated(path, type_name, sound_blocks(type_name).tobytes())[0] == []


SCALED = [
    (name, scale)
    for name in WRITABLE
    for scale in ("d", "dmin", "m", "s")
    if scale in (CODECS[name].dtype.names or ()) and name != "NVFP4"
]


@pytest.mark.parametrize(("type_name", "scale"), SCALED)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scales_that_are_no_numbers_are_found_in_their_block(path, type_name, scale, value):
    blocks = sound_blocks(type_name)
    blocks[scale][2:] = value
    findings, start = validated(path, type_name, blocks.tobytes())
    found = next(f for f in findings if f.rule == "scale-not-finite")
    assert found.offset == start + 2 * blocks.itemsize and found.place == "tensor 'w'"
    assert f"2 of 4 (50 %) blocks have a NaN or infinite {scale}" in found.message


def test_scales_of_a_big_endian_file_are_read_in_its_order(path):
    blocks = sound_blocks("Q8_0").astype(CODECS["Q8_0"].dtype.newbyteorder(">"))
    assert validated(path, "Q8_0", blocks.tobytes(), "big")[0] == []
    blocks["d"][1] = np.nan
    assert validated(path, "Q8_0", blocks.tobytes(), "big")[0][0].rule == "scale-not-finite"


def test_the_scattered_scale_of_iq1_m_and_the_exponent_of_mxfp4_are_checked(path):
    blocks = sound_blocks("IQ1_M")
    blocks["scales"][3, 1::2] |= 0xF0  # the top four bits of its four words: d = 0xFFFF, a NaN
    assert validated(path, "IQ1_M", blocks.tobytes())[0][0].rule == "scale-not-finite"
    blocks = sound_blocks("MXFP4")
    blocks["e"][1] = 255
    assert validated(path, "MXFP4", blocks.tobytes())[0][0].rule == "scale-not-finite"


@pytest.mark.parametrize(("type_name", "bits"), [("F32", 32), ("F16", 16), ("F64", 64)])
def test_values_that_are_no_numbers_are_found_at_their_byte(path, type_name, bits):
    values = np.ones(64, f"<f{bits // 8}")
    values[[5, 9]] = np.nan, -np.inf
    findings, start = validated(path, type_name, values.tobytes())
    assert [f.rule for f in findings] == ["value-not-finite"]
    assert findings[0].offset == start + 5 * bits // 8 and "2 of 64" in findings[0].message


def test_bf16_values_are_told_from_their_bits(path):
    words = np.array([0x3F80, 0x7F7F, 0x7F80, 0xFFC1] * 16, "<u2")
    findings, start = validated(path, "BF16", words.tobytes())
    assert findings[0].offset == start + 4 and "32 of 64" in findings[0].message


@pytest.mark.parametrize("type_name", ["Q2_K", "Q4_K", "Q5_K", "Q6_K"])
def test_a_d_without_scales_is_impossible(path, type_name):
    blocks = sound_blocks(type_name)
    blocks["scales"][1] &= 0 if type_name != "Q2_K" else 0xF0
    findings, start = validated(path, type_name, blocks.tobytes())
    assert [f.rule for f in findings] == ["scale-impossible"]
    assert findings[0].offset == start + blocks.itemsize


@pytest.mark.parametrize("type_name", ["Q2_K", "Q4_K", "Q5_K"])
def test_a_negative_d_is_impossible_where_the_quantizer_writes_none(path, type_name):
    blocks = sound_blocks(type_name)
    blocks["d"][3] *= -1
    findings, _ = validated(path, type_name, blocks.tobytes())
    assert [f.rule for f in findings] == ["scale-impossible"] and "negative d" in findings[
        0
    ].message


def test_sums_of_q8_k_that_do_not_add_up_are_impossible(path):
    blocks = sound_blocks("Q8_K")
    blocks["bsums"][2, 7] += 1
    findings, start = validated(path, "Q8_K", blocks.tobytes())
    assert [f.rule for f in findings] == ["scale-impossible"]
    assert findings[0].offset == start + 2 * blocks.itemsize


def test_zero_and_repeated_blocks_are_counted(path):
    blocks = sound_blocks("Q4_0")
    blocks[1] = blocks[0]
    blocks["d"][2] = 0
    findings, _ = validated(path, "Q4_0", blocks.tobytes())
    assert {f.rule: f.message.split(" blocks")[0] for f in findings} == {
        "repeated-blocks": "Q4_0: 1 of 4 (25 %)",
        "zero-blocks": "Q4_0: 1 of 4 (25 %)",
    }


def test_bad_weights_are_no_error_and_are_looked_at_on_request_only(path):
    blocks = sound_blocks("Q8_0")
    blocks["d"] = np.nan
    validated(path, "Q8_0", blocks.tobytes())
    assert wb.validate_gguf(path, "llama.cpp", data=True).accepted
    assert wb.validate_gguf(path).findings == () and wb.validate_gguf(path).data_bytes == 0


def test_repeats_across_tiles_count_and_memory_is_bounded(path):
    blocks = np.repeat(sound_blocks("Q8_0")[:1], 250_000)
    findings, _ = validated(path, "Q8_0", blocks.tobytes())
    assert "249999 of 250000" in findings[0].message
    tracemalloc.start()
    wb.validate_gguf(path, data=True)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20  # of tiles; the file has 8.5 MB
    tracemalloc.stop()


def test_bytes_that_many_tensors_claim_are_looked_at_once(path):
    build, raw = Build(), np.ones(4096, "<f4").tobytes()
    infos = [build.tensor(f"t{i}", [4096 if i else 2048], 0, 0) for i in range(50)]
    path.write_bytes(build.file([], infos, raw))
    report = wb.validate_gguf(path, data=True)
    assert not report.accepted and report.data_bytes <= len(raw)


def test_the_built_in_model_is_sound_to_the_last_weight():
    report = wb.validate_gguf(BUILTIN_MODEL, "llama.cpp", data=True)
    assert report.findings == () and report.data_bytes > 14_000_000
