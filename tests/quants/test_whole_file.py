"""Quantized files are those of llama-quantize, byte for byte; what cannot be done is refused."""

import hashlib
import json

import numpy as np
import pytest

from tests.conftest import BUILTIN_MODEL, REFERENCE, ROOT, needs_reference
from tests.quants.tiny_model import IMPORTANCES, N_EXPERT, NUMBERS, WEIGHTS
from workbench.errors import GGUFNotFoundError, ParameterError, UnsupportedError
from workbench.gguf import write_gguf
from workbench.quants import open_gguf, quantize
from workbench.quants.imatrix import Imatrix, ImatrixEntry, write_imatrix
from workbench.quants.mixes import FILE_TYPES
from workbench.quants.whole_file import quantize_file

GOLDENS = json.loads((ROOT / "tests" / "data" / "whole_file.json").read_text())
METADATA = {"general.architecture": "llama"}
METADATA |= {f"llama.{key}": value for key, value in NUMBERS.items()}
METADATA |= {"llama.attention.layer_norm_rms_epsilon": 1e-5}
IMATRIX = Imatrix(
    {name: ImatrixEntry(values[None], np.array([1])) for name, values in IMPORTANCES.items()},
    datasets=("a text",),
    chunk_count=3,
    path="an.imatrix",
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_gguf(path, METADATA, WEIGHTS)
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", FILE_TYPES)
def test_a_model_with_experts_becomes_the_file_that_llama_quantize_writes(tiny, tmp_path, name):
    out = tmp_path / "out.gguf"
    for title, imatrix in (("tiny", None), ("tiny imatrix", IMATRIX)):
        golden = GOLDENS[title][name]
        if golden == "refused":
            with pytest.raises(ParameterError, match=r"needs an imatrix|no replacement"):
                quantize_file(tiny, out, name, imatrix=imatrix)
        else:
            quantize_file(tiny, out, name, imatrix=imatrix)
            assert sha256(out) == golden, title


@pytest.mark.parametrize("name", GOLDENS["built-in"])
def test_the_built_in_model_becomes_the_file_that_llama_quantize_writes(tmp_path, name):
    out = tmp_path / "out.gguf"
    quantize_file(BUILTIN_MODEL, out, name)
    assert sha256(out) == GOLDENS["built-in"][name]


@needs_reference
@pytest.mark.parametrize("name", ["Q4_0", "Q8_0"])
def test_a_trained_model_with_rows_that_do_not_fit_becomes_llama_quantizes_file(tmp_path, name):
    models, out = REFERENCE / "models", tmp_path / "out.gguf"
    quantize_file(models / "stories260K-f32.gguf", out, name)
    assert sha256(out) == sha256(models / f"stories260K-{name.lower()}.gguf")


@needs_reference
@pytest.mark.parametrize(
    "name",
    "gqa-F16 gqa-BF16 gqa-Q4_0 gqa-Q8_0 gqa-IQ4_NL 256-Q2_K 256-Q3_K_S 256-Q4_K_S 256-Q5_K_S "
    "256-Q6_K 256-IQ4_XS 256-TQ2_0 256-Q4_K_M mixtral-MXFP4_MOE".split(),
)
def test_reference_copies_of_random_models_are_made_again(tmp_path, name):
    base, _, type_ = name.partition("-")
    folder, out = REFERENCE / "logits", tmp_path / "out.gguf"
    source = folder / f"{'' if base == 'mixtral' else 'llama-'}{base}.gguf"
    quantize_file(source, out, type_, pure=type_ not in ("Q4_K_M", "MXFP4_MOE"))
    prefix = source.name.removesuffix(".gguf")
    assert sha256(out) == sha256(folder / f"{prefix}-{type_}.gguf")


def test_the_bytes_do_not_depend_on_the_number_of_threads(tiny, tmp_path):
    digests = set()
    for n_threads in (1, 3):
        quantize_file(tiny, tmp_path / "out.gguf", "Q4_K_M", n_threads=n_threads)
        digests.add(sha256(tmp_path / "out.gguf"))
    assert len(digests) == 1


def test_each_expert_is_weighted_by_its_own_importances(tiny, tmp_path):
    name = "blk.3.ffn_up_exps.weight"
    quantize_file(tiny, tmp_path / "out.gguf", "Q4_0", imatrix=IMATRIX)
    importance = IMATRIX.importance(name, WEIGHTS[name].shape)
    with open_gguf(tmp_path / "out.gguf") as out:
        for expert in range(N_EXPERT):
            expected = quantize(WEIGHTS[name][expert], "Q4_0", importance[expert])
            np.testing.assert_array_equal(out.raw(name)[expert], expected)


def test_metadata_tells_file_type_and_imatrix_and_keeps_the_rest_with_its_types(tiny, tmp_path):
    quantize_file(tiny, tmp_path / "out.gguf", "Q5_K_S", imatrix=IMATRIX)
    with open_gguf(tiny) as old, open_gguf(tmp_path / "out.gguf") as new:
        assert list(new.metadata)[: len(old.metadata)] == list(old.metadata)
        assert {key: new.metadata.types[key] for key in old.metadata} == dict(old.metadata.types)
        assert {key: new.metadata[key] for key in new.metadata if key not in old.metadata} == {
            "general.quantization_version": 2,
            "general.file_type": 16,
            "quantize.imatrix.file": "an.imatrix",
            "quantize.imatrix.dataset": "a text",
            "quantize.imatrix.entries_count": len(IMPORTANCES),
            "quantize.imatrix.chunks_count": 3,
        }


def test_a_dry_run_tells_the_sizes_that_the_file_will_have_and_writes_nothing(tiny, tmp_path):
    out = tmp_path / "out.gguf"
    planned = quantize_file(tiny, out, "Q4_K_M", dry_run=True)
    assert not out.exists() and planned.path is None
    done = quantize_file(tiny, out, "Q4_K_M")
    assert done.tensors == planned.tensors and done.path == str(out)
    with open_gguf(out) as gguf:
        assert done.nbytes == sum(tensor.nbytes for tensor in gguf.tensors.values())
    assert done.bits_per_weight == pytest.approx(8 * done.nbytes / done.n_elements)


def test_a_dry_run_needs_neither_path_nor_imatrix_but_says_which_tensors_do(tiny):
    planned = quantize_file(tiny, None, "IQ2_XXS", dry_run=True)
    needing = {tensor.name for tensor in planned.tensors if tensor.needs_imatrix}
    assert "blk.3.attn_q.weight" in needing and "token_embd.weight" not in needing


def test_progress_counts_every_weight_once(tiny, tmp_path):
    done = []
    result = quantize_file(
        tiny, tmp_path / "out.gguf", "Q8_0", progress=lambda name, n: done.append(n)
    )
    assert sum(done) == result.n_elements


def test_wishes_for_single_tensors_are_met(tiny, tmp_path):
    result = quantize_file(
        tiny,
        tmp_path / "out.gguf",
        "Q4_0",
        tensor_types=[(r"blk\.[0-3]\.attn_v", "F16"), ("attn_q", "bf16")],
        output_type="Q8_0",
        token_embd_type="Q5_0",
    )
    types = {tensor.name: tensor.type for tensor in result.tensors}
    assert types["blk.2.attn_v.weight"] == "F16" and types["blk.6.attn_q.weight"] == "BF16"
    assert (types["output.weight"], types["token_embd.weight"]) == ("Q8_0", "Q5_0")


def test_requantizing_is_refused_unless_allowed(tiny, tmp_path):
    once, twice = tmp_path / "once.gguf", tmp_path / "twice.gguf"
    quantize_file(tiny, once, "Q8_0")
    with pytest.raises(ParameterError, match=r"is Q8_0 already, as are \d+ other"):
        quantize_file(once, twice, "Q4_0")
    assert not twice.exists()
    quantize_file(once, twice, "Q4_0", allow_requantize=True)
    name = "blk.0.attn_q.weight"
    with open_gguf(once) as first, open_gguf(twice) as second:
        np.testing.assert_array_equal(second.raw(name), quantize(first.dequantize(name), "Q4_0"))
    quantize_file(once, twice, "Q8_0", pure=True)  # nothing changes its type: allowed


def test_the_file_to_read_is_never_the_file_to_write(tiny, tmp_path):
    link = tmp_path / "link.gguf"
    link.symlink_to(tiny)
    before = sha256(tiny)
    for out in (tiny, link, tiny.parent / ".." / tiny.parent.name / tiny.name):
        with pytest.raises(ParameterError, match="is the file to read"):
            quantize_file(tiny, out, "Q4_0")
    assert sha256(tiny) == before


def test_a_failure_leaves_no_file_and_the_old_one_untouched(tmp_path):
    weights = np.zeros((2, 4100, 64), np.float32)
    weights[1, 4098, 5] = np.nan  # in the second tile of the second matrix
    path, out = tmp_path / "nan.gguf", tmp_path / "out.gguf"
    write_gguf(path, METADATA, {"blk.0.attn_q.weight": weights})
    out.write_bytes(b"mine")
    with pytest.raises(
        ParameterError, match=r"attn_q\.weight, matrix 1, from row 4096 on: .*row 2, column 5.*nan"
    ):
        quantize_file(path, out, "Q4_0")
    assert out.read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nan.gguf", "out.gguf"]


@pytest.mark.parametrize("type_", ["F16", "Q8_0"])
def test_weights_beyond_the_float16_of_a_scale_are_refused_as_llama_quantize_does(tmp_path, type_):
    weights = np.full((2, 64), 1e9, np.float32)
    write_gguf(tmp_path / "big.gguf", METADATA, {"blk.0.attn_q.weight": weights})
    with pytest.raises(ParameterError, match=r"attn_q\.weight.*too large for"):
        quantize_file(tmp_path / "big.gguf", tmp_path / "out.gguf", type_)


def test_importances_of_another_shape_are_refused_with_both_shapes(tiny, tmp_path):
    entry = ImatrixEntry(np.ones((1, 128), np.float32), np.array([1]))
    imatrix = Imatrix({"blk.1.attn_q.weight": entry})
    message = r"blk\.1\.attn_q\.weight does not fit; expected importances of shape \(1, 256\).*"
    with pytest.raises(ParameterError, match=message + r"got \(1, 128\)"):
        quantize_file(tiny, tmp_path / "out.gguf", "Q4_0", imatrix=imatrix)


def test_an_imatrix_may_be_a_path(tiny, tmp_path):
    write_imatrix(tmp_path / "im.gguf", IMATRIX)
    by_path, by_object = tmp_path / "path.gguf", tmp_path / "object.gguf"
    quantize_file(tiny, by_path, "Q4_0", imatrix=tmp_path / "im.gguf")
    quantize_file(tiny, by_object, "Q4_0", imatrix=IMATRIX)
    with open_gguf(by_path) as a, open_gguf(by_object) as b:
        assert a.metadata["quantize.imatrix.file"] == str(tmp_path / "im.gguf")[:127]
        for name in a.tensors:
            np.testing.assert_array_equal(a.raw(name), b.raw(name))


def test_tensors_without_weights_stay_empty(tmp_path):
    shapes = {"blk.0.a.weight": (4, 0), "blk.0.b.weight": (0, 4, 64), "blk.0.c.weight": (0, 64)}
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    write_gguf(tmp_path / "empty.gguf", METADATA, tensors)
    quantize_file(tmp_path / "empty.gguf", tmp_path / "out.gguf", "Q4_0")
    with open_gguf(tmp_path / "out.gguf") as gguf:
        assert {name: info.shape for name, info in gguf.tensors.items()} == shapes
        assert gguf.tensors["blk.0.a.weight"].type == "Q4_0"


def test_what_this_version_cannot_do_is_refused(tiny, tmp_path):
    out = tmp_path / "out.gguf"
    write_gguf(tmp_path / "big.gguf", METADATA, WEIGHTS, byte_order="big")
    with pytest.raises(UnsupportedError, match="is big-endian"):
        quantize_file(tmp_path / "big.gguf", out, "Q4_0")
    with pytest.raises(UnsupportedError, match=r"attn_q\.weight: this version cannot write I8"):
        quantize_file(tiny, out, "Q4_0", tensor_types=[("attn_q", "I8")])
    with pytest.raises(ParameterError, match="n_threads: no number of threads"):
        quantize_file(tiny, out, "Q4_0", n_threads=0)
    with pytest.raises(ParameterError, match="no path"):
        quantize_file(tiny, None, "Q4_0")
    with pytest.raises(ParameterError, match="no such name; expected one of F32"):
        quantize_file(tiny, out, "Q4_K_XL")
    with pytest.raises(GGUFNotFoundError):
        quantize_file(tmp_path / "none.gguf", out, "Q4_0")
    with pytest.raises(ParameterError, match=r"attn_k\.weight: IQ2_XS needs an imatrix"):
        quantize_file(tiny, out, "IQ2_XS")
    assert not out.exists()
