"""Loading: what is read, and files and arguments that cannot be."""

import numpy as np
import pytest

from tests.conftest import REFERENCE, needs_reference
from tests.model.tiny import METADATA, f32_cache, load, metadata, tensors, write
from workbench.errors import GGUFError, GGUFNotFoundError, ParameterError, UnsupportedError
from workbench.gguf import write_gguf
from workbench.model import ARCHITECTURES, devices, load_model, to_numpy
from workbench.quants import open_gguf, quantize

IDS = [1, 2, 3, 39]
SUM_ORDER = 1e-5  # kernels and BLAS add float32 products in different orders


def changed(**changes):
    """tiny's tensors with some replaced or (None) removed; __ stands for a dot."""
    renamed = {name.replace("__", "."): value for name, value in changes.items()}
    return {name: x for name, x in (tensors() | renamed).items() if x is not None}


def logits(model):
    return model.forward(IDS, f32_cache(model))


def test_a_path_or_an_open_file_gives_the_same_model(tmp_path):
    path = write(tmp_path)
    with open_gguf(str(path)) as gguf, load_model(str(path)) as model:
        np.testing.assert_array_equal(logits(load_model(gguf)), logits(model))


def test_packed_matrices_are_views_of_the_file(tmp_path):
    weights = tensors()
    weights["blk.1.attn_q.weight"] = weights["blk.1.attn_q.weight"].astype(np.float16)
    model = load(tmp_path, weights=weights)
    part = model.network.weights.blk[1].attn_q
    assert part.bias is None and part.weight.type == "F16"
    assert np.shares_memory(part.weight.raw, model.gguf.raw("blk.1.attn_q.weight"))
    plain = model.network.weights.blk[0].attn_q.weight
    assert np.shares_memory(plain.raw, model.gguf.raw("blk.0.attn_q.weight"))


def test_expanded_weights_give_the_same_logits(tmp_path):
    weights = tensors()
    for name, x in weights.items():
        if x.ndim == 2 and x.shape[1] == 32:
            weights[name] = (quantize(x, "Q8_0"), "Q8_0", x.shape)
    path = write(tmp_path, weights=weights)
    packed, expanded = load_model(path), load_model(path, weights="float32")
    assert expanded.network.weights.blk[0].attn_q.weight.type == "F32"
    np.testing.assert_allclose(logits(packed), logits(expanded), rtol=0, atol=SUM_ORDER)


def test_a_big_endian_file_gives_the_same_logits(tmp_path):
    weights = tensors()
    half = {name: x.astype(np.float16) if x.ndim == 2 else x for name, x in weights.items()}
    little, big = tmp_path / "little.gguf", tmp_path / "big.gguf"
    write_gguf(little, METADATA, half)
    write_gguf(big, METADATA, half, byte_order="big")
    both = logits(load_model(big)), logits(load_model(little))
    np.testing.assert_allclose(*both, rtol=0, atol=SUM_ORDER)


def test_output_is_the_embedding_unless_the_file_has_its_own(tmp_path):
    tied = load(tmp_path)
    assert tied.network.weights.output == tied.network.weights.token_embd
    own = load(tmp_path, weights=changed(output__weight=2 * tensors()["token_embd.weight"]))
    np.testing.assert_allclose(logits(own), 2 * logits(tied), rtol=1e-5)


def test_repr_is_short_and_stable(tmp_path):
    assert repr(load(tmp_path)) == (
        "Model(llama: 2 layers, n_embd 32, 0.02 M weights, mostly F32, on cpu)"
    )


def test_a_closed_model_says_so(tmp_path):
    with load(tmp_path) as model:
        cache = model.new_cache()
    with pytest.raises(ParameterError, match="it is closed"):
        model.forward(IDS, cache)


def test_an_open_file_stays_open_when_the_model_closes(tmp_path):
    with open_gguf(write(tmp_path)) as gguf:
        load_model(gguf).close()
        assert gguf.raw("token_embd.weight").shape == (40, 128)


def test_to_numpy_gives_a_plain_array():
    assert type(to_numpy(np.zeros(3))) is np.ndarray


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("cuda:", ParameterError, "no such device"),
        ("cuda:-1", ParameterError, "no such device"),
        ("cuda:9999", UnsupportedError, "expected a GPU for 'cuda:9999', got none"),
        ("gpu", ParameterError, "expected 'auto', 'cpu', 'cuda' or 'cuda:N', got 'gpu'"),
        (None, ParameterError, "no such device"),
    ],
)
def test_other_devices_are_refused(tmp_path, device, error, message):
    with pytest.raises(error, match=message):
        load(tmp_path, device=device)


class _Gpus:
    """Stands for `ops.cuda_devices` of a machine with so many GPUs."""

    def __init__(self, n_devices, reason=""):
        self.count_devices = lambda: (n_devices, reason)


def _import(answer):
    def import_module(name, package=None):
        if isinstance(answer, Exception):
            raise answer
        return answer

    return import_module


@pytest.mark.parametrize(
    ("answer", "device", "message"),
    [
        (ImportError("no", name="cupy"), "cuda", "CuPy is not installed.*extra 'cuda13' or 'cuda"),
        (ImportError("libcuda.so"), "cuda:0", "CuPy fails: libcuda.so.*device='cpu'"),
        (_Gpus(0, "no driver"), "cuda", "the CUDA driver says: no driver.*install NVIDIA's driver"),
        (_Gpus(0), "cuda", "there is no GPU.*pass device='cpu'"),
        (_Gpus(2), "cuda:2", "there are 2 GPUs, numbered from 0.*pass 'cuda:1' or a smaller"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_refused_with_the_reason(answer, device, message, monkeypatch):
    monkeypatch.setattr(devices, "import_module", _import(answer))
    with pytest.raises(UnsupportedError, match=message):
        devices.choose_device(device)
    is_missing = not isinstance(answer, _Gpus) or not answer.count_devices()[0]
    assert devices.choose_device("auto") == ("cpu" if is_missing else "cuda:0")
    assert devices.choose_device("cpu") == "cpu"


def test_a_gpu_has_one_name(monkeypatch):
    monkeypatch.setattr(devices, "import_module", _import(_Gpus(3)))
    names = ("auto", "cuda", "cuda:0", "cuda:2")
    assert [devices.choose_device(name) for name in names] == ["cuda:0"] * 3 + ["cuda:2"]


def test_a_cpu_has_no_decode_graph(tmp_path):
    model = load(tmp_path)
    with pytest.raises(UnsupportedError, match="expected a GPU, got the CPU; forward computes"):
        model.decode_graph(f32_cache(model))


def test_every_device_has_every_precision():
    assert {tuple(modules) for modules in devices.PRECISIONS.values()} == {("exact", "fast")}


def test_another_form_of_weights_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="expected one of packed, float32, got 'int8'"):
        load_model(write(tmp_path), weights="int8")


def test_an_unsupported_architecture_is_named_with_the_supported_ones(tmp_path):
    keys = metadata() | {"general.architecture": "mamba"}
    with pytest.raises(UnsupportedError, match=f"'mamba'; expected one of .*{min(ARCHITECTURES)}"):
        load(tmp_path, keys)


def test_a_file_without_tensors_is_no_model(tmp_path):
    with pytest.raises(UnsupportedError, match="holds no tensors, only metadata"):
        load(tmp_path, weights={})


@needs_reference
def test_a_vocabulary_is_no_model():
    with pytest.raises(UnsupportedError, match="holds no tensors"):
        load_model(REFERENCE / "vocab" / "ggml-vocab-llama-spm.gguf")


def test_a_missing_file_and_a_text_file_are_told_apart(tmp_path):
    with pytest.raises(GGUFNotFoundError, match="no such file"):
        load_model(tmp_path / "nothing.gguf")
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(GGUFError, match="not a GGUF file"):
        load_model(tmp_path / "text.gguf")


@pytest.mark.parametrize("name", [name for name in tensors() if ".1." not in name])
def test_a_missing_tensor_is_named(tmp_path, name):
    weights = {other: x for other, x in tensors().items() if other != name}
    with pytest.raises(GGUFError, match=rf"{name}: missing tensor; expected one of shape \("):
        load(tmp_path, weights=weights)


def test_a_wrong_shape_is_named_with_what_was_expected(tmp_path):
    weights = changed(blk__1__attn_k__weight=np.zeros((32, 32), np.float32))
    message = (
        r"blk\.1\.attn_k\.weight: wrong shape; expected \(n_embd_k 16, n_embd 32\), got \(32, 32\)"
    )
    with pytest.raises(GGUFError, match=message):
        load(tmp_path, weights=weights)


def test_a_vocabulary_at_odds_with_the_embedding_is_refused(tmp_path):
    with pytest.raises(GGUFError, match=r"token_embd\.weight: wrong shape; expected \(n_vocab 41"):
        load(tmp_path, metadata(vocab_size=41))


@pytest.mark.parametrize("name", ["blk.0.attn_q_norm.weight", "blk.2.attn_q.weight", "extra"])
def test_a_tensor_nobody_would_use_is_refused(tmp_path, name):
    with pytest.raises(UnsupportedError, match="has no code for this tensor"):
        load(tmp_path, weights=tensors() | {name: np.zeros((32,), np.float32)})


def test_a_bias_of_a_matrix_that_is_not_there_is_refused(tmp_path):
    weights = tensors() | {"blk.1.attn_qkv.bias": np.zeros((64,), np.float32)}
    with pytest.raises(UnsupportedError, match=r"blk\.1\.attn_qkv\.bias: the matrix .* is missing"):
        load(tmp_path, weights=weights)


def test_half_a_shared_expert_is_refused(tmp_path):
    keys = metadata(expert_count=2, expert_used_count=1, expert_shared_feed_forward_length=8)
    weights = tensors(n_expert=2)
    for part in ("gate", "up"):
        weights[f"blk.0.ffn_{part}_shexp.weight"] = np.zeros((8, 32), np.float32)
    with pytest.raises(GGUFError, match=r"blk\.0\.ffn_down_shexp\.weight: missing tensor"):
        load(tmp_path, keys, weights)


def test_queries_keys_and_values_may_be_one_matrix(tmp_path):
    weights, fused = tensors(), tensors()
    for layer in range(2):
        parts = [fused.pop(f"blk.{layer}.attn_{part}.weight") for part in "qkv"]
        fused[f"blk.{layer}.attn_qkv.weight"] = np.concatenate(parts)
    (tmp_path / "fused").mkdir()
    one, three = load(tmp_path / "fused", weights=fused), load(tmp_path, weights=weights)
    np.testing.assert_allclose(logits(one), logits(three), rtol=0, atol=SUM_ORDER)
    query = one.network.weights.blk[0].attn_q.weight
    assert np.shares_memory(query.raw, one.gguf.raw("blk.0.attn_qkv.weight"))


def test_one_matrix_and_three_at_once_are_refused(tmp_path):
    weights = tensors() | {"blk.0.attn_qkv.weight": np.zeros((64, 32), np.float32)}
    with pytest.raises(UnsupportedError, match=r"attn_q\.weight: stands beside blk\.0\.attn_qkv"):
        load(tmp_path, weights=weights)


@pytest.mark.parametrize("divisor", [0, np.inf, np.nan])
def test_divisors_that_do_not_divide_are_refused(tmp_path, divisor):
    divisors = np.array([1, 1, divisor, 1], np.float32)
    with pytest.raises(GGUFError, match=r"rope_freqs\.weight\[2\]: angles cannot be divided"):
        load(tmp_path, weights=tensors() | {"rope_freqs.weight": divisors})


def test_a_billion_layers_fail_at_once(tmp_path):
    with pytest.raises(GGUFError, match=r"block_count: .* at most 512 layers"):
        load(tmp_path, metadata(block_count=2**31 - 1))
    with pytest.raises(GGUFError, match=r"blk\.2\.attn_norm\.weight: missing"):
        load(tmp_path, metadata(block_count=512))


def test_a_partial_rotation_is_refused_where_llama_cpp_refuses_it(tmp_path):
    with pytest.raises(GGUFError, match="dimension_count: not the length of a head; expected 8"):
        load(tmp_path, metadata(rope__dimension_count=4))
