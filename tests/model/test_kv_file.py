"""Caches saved and opened, copied, compared with another text, and counted to the byte."""

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.model.kv_models import prompt, write_kv_model
from tests.model.tiny import metadata, write
from workbench.errors import ParameterError
from workbench.gguf import edit_gguf, open_gguf, write_gguf
from workbench.model import KVCache, ModelConfig, load_model
from workbench.model.kv_bytes import predict_cache_bytes

IDS = prompt()[:12]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kv_file")


@pytest.fixture(scope="module")
def model(folder):
    return load_model(write_kv_model(folder / "kv.gguf", 64), device="cpu")


@pytest.mark.parametrize(
    "types", [("f32", "f32"), ("f16", "q8_0"), ("bf16", "iq4_nl"), (("q4_0", "f16"), "q5_1")]
)
def test_a_cache_goes_on_from_its_file_as_if_it_had_never_left(model, tmp_path, types):
    cache = model.new_cache(40, *types)
    model.forward(IDS, cache)
    cache.save(tmp_path / "cache.safetensors")
    opened = model.load_cache(tmp_path / "cache.safetensors")
    assert repr(opened) == repr(cache)
    assert list(tmp_path.iterdir()) == [tmp_path / "cache.safetensors"]
    for layer in range(2):
        np.testing.assert_array_equal(opened.raw_k(layer), cache.raw_k(layer))
        np.testing.assert_array_equal(opened.raw_v(layer), cache.raw_v(layer))
    np.testing.assert_array_equal(model.forward([5], opened), model.forward([5], cache))


def test_the_cache_of_another_model_is_refused_with_what_differs(model, folder, tmp_path):
    cache = model.new_cache(40)
    model.forward(IDS, cache)
    cache.save(tmp_path / "cache")
    other = load_model(write_kv_model(tmp_path / "other.gguf", 32), device="cpu")
    with pytest.raises(ParameterError, match=r"it differs in llama\.attention\.key_length, .*"):
        other.load_cache(tmp_path / "cache")
    tiny = load_model(write(tmp_path), device="cpu")
    said = r"it differs in n_vocab, .* \d+ more; expected n_vocab '40', got '64'; open it with"
    with pytest.raises(ParameterError, match=said):
        tiny.load_cache(tmp_path / "cache")


@pytest.mark.parametrize(
    "key, value", [("rope.freq_base", 5e5), ("attention.layer_norm_rms_epsilon", 0.01)]
)
def test_the_cache_of_a_model_with_other_settings_is_refused(model, folder, tmp_path, key, value):
    cache = model.new_cache(40)
    model.forward(IDS, cache)
    cache.save(tmp_path / "cache")
    edit_gguf(folder / "kv.gguf", tmp_path / "other.gguf", set={f"llama.{key}": value})
    with load_model(tmp_path / "other.gguf", device="cpu") as other:
        with pytest.raises(ParameterError, match=f"model; it differs in llama.{key}; expected"):
            other.load_cache(tmp_path / "cache")


def test_the_cache_of_a_model_with_another_half_of_a_tensor_is_refused(model, folder, tmp_path):
    cache = model.new_cache(40)
    model.forward(IDS, cache)
    cache.save(tmp_path / "cache")
    with open_gguf(folder / "kv.gguf") as gguf:
        info = gguf.tensors
        tensors = {n: (gguf.raw(n).copy(), info[n].type, info[n].shape) for n in info}
        keys = tensors["blk.0.attn_k.weight"][0].reshape(-1)
        keys[len(keys) // 2 :] = keys[: len(keys) // 2].copy()
        write_gguf(tmp_path / "other.gguf", gguf.metadata, tensors)
    with load_model(tmp_path / "other.gguf", device="cpu") as other:
        with pytest.raises(ParameterError, match=r"model; it differs in weights; expected"):
            other.load_cache(tmp_path / "cache")


def test_every_truncated_or_damaged_file_is_refused(model, tmp_path):
    cache = model.new_cache(40, "q8_0", "q8_0")
    model.forward(IDS, cache)
    path = tmp_path / "cache"
    cache.save(path)
    whole = path.read_bytes()
    for length in (*range(0, 1200, 97), *range(1200, len(whole), 997)):
        path.write_bytes(whole[:length])
        with pytest.raises(ParameterError, match="not a whole safetensors file"):
            model.load_cache(path)
    for old, new, said in (
        (b"KV cache 2", b"KV cache 1", "not a KV cache"),
        (
            b'"first":"[0, 0]',
            b'"first":"[0, 9]',
            r"first: not where the layers of this cache begin; expected 2 positions up to \[0, 0\]",
        ),
        (b'"n_ctx":"40"', b'"n_ctx":"-4"', "n_ctx: not a number of positions"),
        (b'"rotate":"null"', b'"rotate":"nill"', "its metadata is damaged"),
        (b"k.1", b"k.7", "k.1: missing"),
        (b'"type_k":"\\"q8_0', b'"type_k":"\\"q4_0', "k.0: not what this cache holds"),
    ):
        assert old in whole
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(ParameterError, match=said):
            model.load_cache(path)
    with pytest.raises(ParameterError, match="no such file"):
        model.load_cache(tmp_path / "none")


def test_what_is_not_stored_as_a_cache_stores_it_is_refused(model, tmp_path):
    cache, path = model.new_cache(40), tmp_path / "cache"
    model.forward(IDS, cache)
    cache.save(path)
    with safe_open(path, "numpy") as file:
        facts, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    for changed, said in (
        ({"k.0": arrays["k.0"].astype(ml_dtypes.bfloat16)}, "k.0: not what .* got (BF16|bfloat16)"),
        ({"k.0": arrays["k.0"].astype(np.float32)}, "k.0: not what this cache holds"),
        ({"token_ids": arrays["token_ids"] + 99}, "token_ids: not those of this cache"),
        ({"n_ctx": "[" * 10**5}, "its metadata is damaged"),
        ({"n_ctx": "1000000000000"}, "cache: no such cache can be made here: n_ctx"),
        ({"type_k": '"q9"'}, "cache: no such cache can be made here: type_k"),
        ({"first": "[0]"}, "first: not where the layers of this cache begin"),
        ({"first": "[true, false]"}, "its metadata is damaged"),
    ):
        texts = {name: changed.get(name, text) for name, text in facts.items()}
        save_file({name: changed.get(name, x) for name, x in arrays.items()}, path, texts)
        with pytest.raises(ParameterError, match=said):
            model.load_cache(path)


@pytest.mark.parametrize("place", ["none/x", "", ".", "x" * 300, "a\0b", None, 3, [1]])
def test_a_place_that_is_none_is_refused(model, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    cache = model.new_cache(40)
    model.forward(IDS, cache)
    with pytest.raises(ParameterError, match=r"cannot be written|path: not a path"):
        cache.save(place)
    with pytest.raises(ParameterError, match="no such file"):
        model.load_cache(place)
    assert not list(tmp_path.iterdir())


def test_others_may_read_what_they_may_read_of_any_new_file(model, tmp_path):
    model.new_cache(40).save(tmp_path / "cache")
    (tmp_path / "any").touch()
    modes = [path.stat().st_mode for path in tmp_path.iterdir()]
    assert modes[0] == modes[1]


def test_saving_needs_a_model_and_harms_no_file(tmp_path):
    path = tmp_path / "cache"
    path.write_bytes(b"mine")
    with pytest.raises(ParameterError, match="the cache knows no model"):
        KVCache(ModelConfig.from_metadata(metadata())).save(path)
    assert path.read_bytes() == b"mine"


def test_a_fork_goes_its_own_way(model):
    cache = model.new_cache(40, "q8_0", "f16")
    model.forward(IDS, cache)
    before, fork = cache.raw_k(0).copy(), cache.fork()
    np.testing.assert_array_equal(model.forward([5], fork), model.forward([5], cache))
    fork.truncate(3)
    model.forward([9, 9, 9, 9], fork)
    assert (cache.n_past, fork.n_past) == (13, 7)
    np.testing.assert_array_equal(cache.raw_k(0)[:12], before)


class Letters:
    def decode(self, ids):
        return "".join(chr(97 + i) for i in ids)


def test_a_match_says_why_it_stops(model):
    cache = model.new_cache(40)
    model.forward([1, 2, 3], cache)
    assert cache.match([1, 2, 5, 3], Letters()).reason == (
        "token 2 differs: 'd' (3) in the cache, 'f' (5) in the text"
    )
    assert "token 0 differs: 1 in the cache, 7 in the text" == cache.match([7]).reason
    assert cache.match([1, 2]).n == 2 and "the text ends" in cache.match([1, 2]).reason
    assert cache.match([1, 2, 3, 4]).n == 3 and "the cache ends" in cache.match([1, 2, 3, 4]).reason
    assert cache.n_past == 3
    with pytest.raises(ParameterError, match="not token ids"):
        cache.match("abc")


def test_slots_positions_and_sequences_are_those_of_the_text(model):
    cache = model.new_cache(40)
    model.forward([4, 2, 7], cache)
    assert cache.positions.tolist() == [0, 1, 2] and cache.seq_ids.tolist() == [0, 0, 0]
    assert [tuple(row) for row in cache.slots(1)] == [(0, 0, 0, 4), (1, 1, 0, 2), (2, 2, 0, 7)]


@pytest.mark.parametrize("types", [("f32", "q8_0"), ("q5_1", "bf16"), (["f16", "q4_1"], "iq4_nl")])
def test_bytes_are_predicted_without_a_cache(model, types):
    predicted = predict_cache_bytes(model.config, 40, *types)
    made = model.new_cache(40, *types).bytes()
    assert predicted.predicted == made.predicted == made.allocated
    assert made.per_position * 40 == made.predicted
    frame = made.to_frame()
    assert frame.bytes.sum() == made.predicted and (frame.rows == 40).all()
