"""Files made by hand to break one rule each, and what two readers must say of them.

`refused`: whether `gguf_init_from_file` with tensor data, of libggml-base 0.25.3 (as in
llama-cpp-python 0.3.36), returned nothing for the file: recorded by running it on these bytes.
"""

from dataclasses import dataclass

from tests.gguf.build import Build

B = Build()
NESTED = B.array(9, [B.array(5, [B.pack("i", 1)])])
UINT32, BOOL, STRING, ARRAY, UINT64 = 4, 7, 8, 9, 10
F32, Q4_0 = 0, 2


@dataclass(frozen=True)
class Crafted:
    """A file, the rule it breaks, and whether open_gguf and llama.cpp refuse it."""

    name: str
    rule: str
    content: bytes
    rejected: bool
    refused: bool


def _arch() -> bytes:
    return B.pair("general.architecture", STRING, B.string("llama"))


def _pairs(name: str, rule: str, pairs: list[bytes], rejected: bool, refused: bool) -> Crafted:
    return Crafted(name, rule, B.file([_arch(), *pairs]), rejected, refused)


def _tensors(
    name: str, rule: str, infos: list[bytes], nbytes: int, rejected: bool, refused: bool
) -> Crafted:
    return Crafted(name, rule, B.file([_arch()], infos, bytes(nbytes)), rejected, refused)


def _alignment(value: int) -> list[bytes]:
    return [B.pair("general.alignment", UINT32, B.pack("I", value))]


def crafted_pairs() -> list[Crafted]:
    """One file a rule on header, keys and values."""
    one, huge = B.pack("I", 1), B.pack("Q", 2**62)
    deep = B.pack("IQ", ARRAY, 1) * 40
    tokens = B.pair("tokenizer.ggml.tokens", ARRAY, B.array(8, [B.string("a")] * 2))
    scores = B.pair("tokenizer.ggml.scores", ARRAY, B.array(6, [B.pack("f", 0)]))
    return [
        Crafted("other_magic", "magic", b"GGML" + bytes(40), True, True),
        Crafted("cut_in_count", "truncated", B.file()[:12], True, True),
        Crafted("version_0", "version-unknown", b"GGUF" + bytes(40), True, True),
        Crafted("version_4", "version-unknown", Build(4).file(), True, True),
        Crafted("version_1", "version-1", Build(1).file(), False, True),
        Crafted("big_endian", "byte-order", Build(3, "big").file(), False, True),
        Crafted("n_kv", "count-too-large", b"GGUF" + B.pack("IQQ", 3, 0, 2**40), True, True),
        Crafted("n_tensors", "count-too-large", b"GGUF" + B.pack("IQQ", 3, 9, 0), True, True),
        _pairs("two", "key-duplicate", [B.pair("k", 4, one)] * 2, True, True),
        _pairs("no_key", "key-empty", [B.pair("", 4, one)], False, True),
        _pairs("long_key", "key-too-long", [B.pair("k" * 65536, 4, one)], False, False),
        _pairs("key_bytes", "key-not-utf8", [B.pair(b"\xff\xfe", 4, one)], False, False),
        _pairs("key_case", "key-style", [B.pair("Some Key", 4, one)], False, False),
        _pairs("type_13", "value-type-unknown", [B.pair("k", 13, one)], True, True),
        _pairs("type_neg", "value-type-unknown", [B.pair("k", 2**32 - 1, one)], True, True),
        _pairs("element_99", "value-type-unknown", [B.pair("k", 9, B.array(99, []))], True, True),
        _pairs("nested", "array-nested", [B.pair("k", ARRAY, NESTED)], False, True),
        _pairs("deep", "array-too-deep", [B.pair("k", ARRAY, deep)], True, True),
        _pairs("long", "count-too-large", [B.pair("k", 9, B.pack("I", 8) + huge)], True, True),
        _pairs("bool_2", "bool-value", [B.pair("k", BOOL, b"\2")], True, False),
        _pairs("bools", "bool-value", [B.pair("k", 9, B.array(7, [b"\0", b"\7"]))], True, False),
        _pairs("text", "string-not-utf8", [B.pair("k", 8, B.string(b"\xff"))], False, False),
        _pairs("nan", "float-not-finite", [B.pair("k", 6, b"\0\0\xc0\x7f")], False, False),
        _pairs("u64_version", "key-type",
               [B.pair("general.quantization_version", 10, B.pack("Q", 2))], False, False),
        Crafted("no_architecture", "architecture-missing", B.file(), False, False),
        _pairs("scores", "vocabulary-lengths", [tokens, scores], False, False),
        _pairs("u64", "alignment-type",
               [B.pair("general.alignment", UINT64, B.pack("Q", 32))], True, True),
        _pairs("alignment_0", "alignment-zero", _alignment(0), True, True),
        _pairs("alignment_3", "alignment-not-multiple-of-8", _alignment(3), True, True),
        _pairs("alignment_4", "alignment-not-multiple-of-8", _alignment(4), True, False),
        _pairs("alignment_24", "alignment-not-power-of-two", _alignment(24), False, True),
    ]  # fmt: skip


def crafted_tensors() -> list[Crafted]:
    """One file a rule on tensors."""
    one = B.tensor("t", [8], F32, 0)
    far = B.tensor("t", [8], F32, 2**63)
    return [
        _tensors("no_name", "tensor-name-empty", [B.tensor("", [8], 0, 0)], 32, False, False),
        _tensors("name_64", "tensor-name-64", [B.tensor("n" * 64, [8], 0, 0)], 32, False, True),
        _tensors("name_65", "tensor-name-too-long", [B.tensor("n" * 65, [8], 0, 0)], 32, True,
                 True),
        _tensors("bytes", "tensor-name-not-utf8", [B.tensor(b"\xff", [8], 0, 0)], 32, False,
                 False),
        _tensors("twice", "tensor-duplicate", [one, B.tensor("t", [8], 0, 32)], 64, True, True),
        _tensors("dims_5", "too-many-dims", [B.tensor("t", [1] * 5, 0, 0)], 32, True, True),
        _tensors("dims_many", "too-many-dims", [B.tensor("t", [1] * 70, 0, 0)], 32, True, True),
        _tensors("dim_0", "dim-zero", [B.tensor("t", [8, 0], 0, 0)], 32, False, False),
        _tensors("dims_2_80", "dims-overflow", [B.tensor("t", [2**40] * 2, 0, 0)], 32, True, True),
        _tensors("dims_wrap", "dims-not-countable", [B.tensor("t", [2**32] * 4, 0, 0)], 32, True,
                 True),
        _tensors("dim_neg", "dims-not-countable", [B.tensor("t", [2**63], 0, 0)], 32, True, True),
        _tensors("type_99", "tensor-type-unknown", [B.tensor("t", [8], 99, 0)], 32, True, True),
        _tensors("removed", "tensor-type-unknown", [B.tensor("t", [32], 4, 0)], 32, True, True),
        _tensors("row", "row-not-whole-blocks", [B.tensor("t", [32, 8], 12, 0)], 160, True, True),
        _tensors("offset_8", "offset-unaligned", [B.tensor("t", [8], 0, 8)], 64, True, True),
        _tensors("gap", "offset-not-contiguous", [B.tensor("t", [8], 0, 32)], 64, False, True),
        _tensors("order", "offset-not-contiguous", [B.tensor("b", [8], 0, 32), one], 64, False,
                 True),
        _tensors("short", "tensor-data-past-end", [one], 28, True, True),
        _tensors("far", "tensor-data-past-end", [far], 32, True, True),
        _tensors("overlap", "tensors-overlap", [one, B.tensor("u", [8], 0, 0)], 64, True, True),
        _tensors("tail", "trailing-bytes", [one], 64, False, False),
        _tensors("quantized", "quantization-version-missing", [B.tensor("t", [32], Q4_0, 0)], 32,
                 False, False),
        _tensors("unpadded", "end-not-padded", [B.tensor("t", [7], F32, 0)], 28, False, True),
        Crafted("padding", "padding-not-zero",
                B.file([_arch()], [B.tensor("t", [7], 0, 0)], bytes(28) + b"\1\0\0\0"), False,
                False),
    ]  # fmt: skip


def all_crafted() -> list[Crafted]:
    """All of them."""
    return crafted_pairs() + crafted_tensors()
