"""Make vocabularies.json: what llama.cpp does with tests/tokenizer/small_models.py.

Run from the repository root with llama-cpp-python 0.3.36 and gguf 0.19.0 installed:

    python -m tests.data.make_vocabularies

The vocabularies and texts are ours; only ids, pieces and detokenized bytes are llama.cpp's.
"""

import ctypes
import itertools
import json
import tempfile
from pathlib import Path

from tests.tokenizer.small_models import variants

TEXTS = [
    "",
    " ",
    "a",
    "ab abc abcd  bcd\tab\n\n the he hello",
    "  a  b   c    ",
    "a b a\u3000b a\u00a0b a\u2028b a\x85b",
    "unaffable, the UNAFFABLE! 'un' un-able $x ~x ^x x2 x²",
    "déjà vu DÉJÀ VU deja\u0301 e\u0301 e\u0301\u0323 ẹ É è ê !é! é!a",
    "漢字 漢 字 か がな カ\u3099 한국 한 각 \uf900 \U0002b820 \U0002b920 \U0002f800",
    "İI ıi ΣΑΣ σς ẞß ǅ ﬁ ① Ａb ㍿ Å",
    "\x00a\x01b\x7fc\xad \u200b\u200d\ufeffd \ufffd e\ue000f\U000e0001 \U00013430 \u0378",
    "\ufeffab \ufeffab",
    "😀 👍🏽 x😀x 👨\u200d👩 🇩🇪",
    "▁a ▁ab a▁b ▁▁ ▁▁▁ _ ▁",
    "<s>a</s> <tag> a<tag>b <ta <tagg> [CLS] [MASK]a [UNK]<unk> <pad>",
    "<|im_end|> <|start|>a<|plamo:bos|> b<|plamo:eos|></s>",
    "\\n \\x41 \\ \\\\ 's \"q\r\n\t , b",
    "late lated low never x xx abcdabcd <0x41> <0xE6>",
    "a ? b ! c . d , e ' f 's 'm 're 've 't",
    "क\u093c नमस्ते ไทย العربية",
    "zzzz qqqq 1234567890 ~~~",
    "aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbcccccccccccccccccccc",
    "a\u0300\u0301\u0302 \u0300 1\u20e3 \u0345",
    "a<b>c|d`e=f+g(h)[i]{j}@k#l%m&n*o_p",
]
SHOWN = ((False, True), (True, False), (False, False))  # remove_special, unparse_special
ROLES = ("bos", "eos", "eot", "sep", "pad", "mask")


def raw(text: str) -> bytes:
    """The bytes of a token's text."""
    return text.encode("utf-8", "surrogateescape")


def write_vocabulary(path: Path, metadata: dict) -> None:
    """Write metadata as a GGUF file without tensors."""
    import gguf

    writer = gguf.GGUFWriter(path, metadata["general.architecture"])
    for key, value in metadata.items():
        if key == "tokenizer.ggml.precompiled_charsmap":
            writer.add_array(key, bytes(value))
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, list):
            writer.add_array(key, [raw(x) if isinstance(x, str) else x for x in value])
        elif key != "general.architecture":
            writer.add_string(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def load_vocabulary(metadata: dict) -> tuple[object, object]:
    """The llama.cpp model and vocabulary of some metadata."""
    from llama_cpp import llama_cpp as lib

    params = lib.llama_model_default_params()
    params.vocab_only = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        write_vocabulary(path, metadata)
        model = lib.llama_model_load_from_file(str(path).encode(), params)
    return model, lib.llama_model_get_vocab(model)


def run_text(vocab: object, text: str) -> dict:
    """Ids by flags (add_special, parse_special), and the bytes of those with both."""
    from llama_cpp import llama_cpp as lib

    record, room = {}, (ctypes.c_int32 * 2000)()
    for flags in itertools.product((False, True), repeat=2):
        n = lib.llama_tokenize(vocab, text.encode(), len(text.encode()), room, 2000, *flags)
        record["".join("ft"[flag] for flag in flags)] = room[:n]
    buffer = ctypes.create_string_buffer(20000)
    sizes = (lib.llama_detokenize(vocab, room, n, buffer, 20000, *flags) for flags in SHOWN)
    return record | {"bytes": [buffer.raw[:size].hex() for size in sizes]}


def run_pieces(vocab: object) -> list:
    """Of each token: its attribute, its piece without and with special."""
    from llama_cpp import llama_cpp as lib

    buffer, pieces = ctypes.create_string_buffer(1000), []
    for token_id in range(lib.llama_vocab_n_tokens(vocab)):
        shown = [lib.llama_vocab_get_attr(vocab, token_id)]
        for special in (False, True):
            size = lib.llama_token_to_piece(vocab, token_id, buffer, 1000, 0, special)
            shown.append(buffer.raw[:size].hex())
        pieces.append(shown)
    return pieces


def run_vocabulary(metadata: dict, with_pieces: bool) -> dict:
    """Texts, pieces, ids with a role, flags."""
    from llama_cpp import llama_cpp as lib

    model, vocab = load_vocabulary(metadata)
    texts = [run_text(vocab, text) for text in TEXTS]
    tokens = range(lib.llama_vocab_n_tokens(vocab))
    flags = [getattr(lib, f"llama_vocab_get_add_{role}")(vocab) for role in ("bos", "eos", "sep")]
    result = {
        "texts": texts,
        "pieces": run_pieces(vocab) if with_pieces else [],
        "roles": {role: getattr(lib, f"llama_vocab_{role}")(vocab) for role in ROLES},
        "eog": [i for i in tokens if lib.llama_vocab_is_eog(vocab, i)],
        "flags": [bool(flag) for flag in flags],
    }
    lib.llama_model_free(model)
    return result


def main() -> None:
    """Write vocabularies.json beside this script."""
    goldens = {
        "tool": "llama.cpp 0c1e570 through llama-cpp-python 0.3.36",
        "texts": TEXTS,
        "models": {
            name: run_vocabulary(metadata, " " not in name) for name, metadata in variants().items()
        },
    }
    path = Path(__file__).with_name("vocabularies.json")
    path.write_text(json.dumps(goldens, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
