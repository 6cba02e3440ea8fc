"""Small vocabularies made by hand for the models bert, t5, rwkv and plamo2, as metadata mappings.

`charsmap` makes SentencePiece's precompiled character map; the vocabularies hold pieces that
compete, overlap, end inside characters and tie, and tokens of every type.
"""

import struct

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
REPLACED = {  # a charsmap in the manner of SentencePiece's nmt_nfkc, with a little of everything
    "\t": " ",
    "\n": " ",
    "\u3000": " ",
    "\u200b": "",
    "\ufeff": "",
    "ﬁ": "fi",
    "①": "1",
    "Ａ": "A",
    "é": "e\u0301",
    "e\u0301": "é",
    "e\u0301\u0323": "ẹ́",
    "ab": "X",
    "abc": "yz",
    "c ": "c_",
    "㍿": "株式会社",
    "A": "a",
}


def model(name: str, tokens: list[tuple[str, float, int]], **keys: object) -> dict[str, object]:
    """Metadata of a vocabulary of (text, score, type); keys: without "tokenizer.ggml."."""
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": name,
        "tokenizer.ggml.tokens": [text for text, _, _ in tokens],
        "tokenizer.ggml.scores": [score for _, score, _ in tokens],
        "tokenizer.ggml.token_type": [kind for _, _, kind in tokens],
    } | {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def charsmap(entries: dict[bytes, bytes]) -> bytes:
    """The precompiled map of some entries: size, double array, replacements."""
    places, replacements = {}, b""
    for key, value in sorted(entries.items()):
        places[key] = len(replacements)
        replacements += value + b"\0"
    units = [0] * 256
    _lay_out(units, {0}, set(), 0, places)
    return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + replacements


def _lay_out(
    units: list[int], used: set[int], bases: set[int], node: int, places: dict[bytes, int]
) -> None:
    """Put the children of a node into free units, then theirs; no two nodes share a base."""
    labels = sorted({key[:1] for key in places})
    numbers = [label[0] if label else 0 for label in labels]
    base = next(
        base
        for base in range(1, 1 << 20)
        if base not in bases and not any(base ^ number in used for number in numbers)
    )
    bases.add(base)
    units.extend([0] * (256 * (base // 256 + 1) - len(units)))
    used.update(base ^ number for number in numbers)
    units[node] |= (node ^ base) << 10
    for label in labels:
        if not label:
            units[node] |= 1 << 8
            units[base] = places[b""] | 1 << 31
        else:
            child = base ^ label[0]
            units[child] = label[0]
            under = {key[1:]: place for key, place in places.items() if key[:1] == label}
            _lay_out(units, used, bases, child, under)


def wordpieces(**keys: object) -> dict[str, object]:
    """BERT: words, pieces of words, an accent that stays, a token that ends inside a character."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [(text, 0.0, CONTROL) for text in specials]
    words = "▁un ▁unaff aff able abl e ▁a ▁b a b c d i n u l s ▁the ▁he ▁hello lo ▁deja ▁déjà ▁vu"
    words += " ▁! ▁, ▁' ▁- ▁$ ▁~ ▁漢 ▁字 ▁か な ▁がな ▁i ▁ı ▁σ ς ▁ss ▁ß ß ▁x x ▁😀 ▁한 국 ▁²"
    tokens += [(text, 0.0, NORMAL) for text in words.split(" ")]
    tokens += [("▁\udcc3", 0.0, NORMAL), ("\udca9", 0.0, NORMAL), ("\udca9x", 0.0, NORMAL)]
    tokens += [("<tag>", 0.0, USER_DEFINED), ("▁late", 0.0, UNUSED), ("▁s", 0.0, NORMAL)]
    ids = {"bos_token_id": 2, "unknown_token_id": 1, "seperator_token_id": 3, "mask_token_id": 4}
    return model("bert", tokens, **(ids | {"padding_token_id": 0} | keys))


def unigram(**keys: object) -> dict[str, object]:
    """T5: scores that tie and compete, a character map, every type of token."""
    tokens = [("<pad>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), ("<unk>", 0.0, UNKNOWN)]
    scores = {"▁": -2, "a": -3, "b": -3, "c": -3.5, "▁a": -4.5, "ab": -6, "▁ab": -7.5, "abc": -7}
    scores |= {"bc": -5, "X": -4, "yz": -4, "y": -5, "z": -5, "é": -4, "e": -3, "\u0301": -6}
    scores |= {"▁▁": -3, "a▁b": -6.5, "c_": -4, "_": -6, "漢": -5, "漢字": -7, "fi": -3, "f": -4}
    scores |= {"i": -4, "1": -3, "h": -3, "l": -3.25, "o": -3.25, "he": -5, "▁he": -5, "llo": -8}
    tokens += [(text, float(score), NORMAL) for text, score in scores.items()]
    tokens += [("<tag>", 0.0, USER_DEFINED), ("é!", -1.0, USER_DEFINED), ("▁▁▁", 0.0, USER_DEFINED)]
    tokens += [("late", -2.0, UNUSED), ("<0x41>", 0.0, BYTE), ("<|im_end|>", -1.0, NORMAL)]
    tokens += [("<|start|>", -9.0, NORMAL), ("\udce6\udcbc", -1.0, NORMAL), ("<s>", 0.0, CONTROL)]
    replaced = {key.encode(): value.encode() for key, value in REPLACED.items()}
    table = {"precompiled_charsmap": list(charsmap(replaced))}
    return model("t5", tokens, **(table | {"bos_token_id": len(tokens) - 1} | keys))


def world(**keys: object) -> dict[str, object]:
    """RWKV: all bytes, escaped as in the file, and tokens that begin or end inside characters."""
    tokens = [("<s>", 0.0, CONTROL)]
    plain = {ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r", ord("\\"): "\\\\"}
    tokens += [
        (plain.get(i, chr(i) if 32 <= i < 127 else f"\\x{i:02x}"), 0.0, NORMAL) for i in range(256)
    ]
    words = "the he hello lo ab abc abcd bcd \\n\\n \\n\\x20 \\x20\\x20 \\x20\\x20\\x20"
    words += (
        " 漢 字 漢字 \\xe6\\xbc \\xa2\\xe5 \\'s \\\"q é e\\xcc a\\x20b ,\\x20 \\\\n 😀 \\x00\\x00"
    )
    tokens += [(text, 0.0, NORMAL) for text in words.split(" ")]
    tokens += [(" the", 0.0, NORMAL), ("<tag>", 0.0, USER_DEFINED), ("late", 0.0, UNUSED)]
    return model("rwkv", tokens, **keys)


def bytes_and_pieces(**keys: object) -> dict[str, object]:
    """PLaMo-2: special tokens, all bytes, pieces whose scores tie and compete."""
    names = ["<|plamo:unk|>", "<|plamo:bos|>", "<|plamo:eos|>", "<|plamo:pad|>"]
    tokens = [(names[0], 0.0, UNKNOWN), *((name, 0.0, CONTROL) for name in names[1:])]
    tokens += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    scores = {"a": -3, "b": -3, "c": -3.5, "ab": -6, "abc": -7, "bc": -5, " a": -4.5, " ": -2}
    scores |= {"  ": -3, "abcd": -30, "d": -9, "漢": -5, "漢字": -7, "字": -2, "\n": -1, "\n\n": -1}
    scores |= {"the": -4, " the": -4.00005, "he": -3, "t": -1, "a b": -6.5, "é": -4, "e": -3}
    scores |= {"\u0301": -6, "low": -1500.0, "never": -2500.0, "x": -1e30, "😀": -0.00005}
    tokens += [(text, float(score), NORMAL) for text, score in scores.items()]
    tokens += [("<tag>", 0.0, USER_DEFINED), ("late", -2.0, UNUSED), ("</s>", -1.0, NORMAL)]
    return model("plamo2", tokens, **keys)


def variants() -> dict[str, dict[str, object]]:
    """Every vocabulary with its flags on and off, by name: what the goldens are made of."""
    no_map = unigram()
    del no_map["tokenizer.ggml.precompiled_charsmap"]
    merged = {"remove_extra_whitespaces": True, "add_space_prefix": True}
    strip = {"normalizer.lowercase": False, "normalizer.strip_accents": True}
    ends = {"add_bos_token": True, "add_eos_token": True, "add_space_prefix": True}
    return {
        "bert": wordpieces(),
        "bert cased": wordpieces(**{"normalizer.lowercase": False}),
        "bert strip": wordpieces(**strip, add_bos_token=False, add_space_prefix=True),
        "t5": unigram(),
        "t5 prefix": unigram(add_space_prefix=True, add_bos_token=True),
        "t5 merged": unigram(**merged, add_eos_token=False),
        "t5 no map": no_map,
        "rwkv": world(),
        "rwkv ends": world(**ends, bos_token_id=0, eos_token_id=0),
        "plamo2": bytes_and_pieces(),
        "plamo2 ends": bytes_and_pieces(**ends),
    }
