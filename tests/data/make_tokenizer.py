"""Make tokenizer.json: what llama.cpp does with tests/tokenizer/vocabularies.py.

Run from the repository root with llama-cpp-python 0.3.36 and gguf 0.19.0 installed:

    python -m tests.data.make_tokenizer

The vocabularies and texts are ours; only the ids are llama.cpp's.
"""

import ctypes
import json
import tempfile
from pathlib import Path

from tests.tokenizer.vocabularies import ladder_spm, pairs_bpe, texts_for
from workbench.tokenizer import PRE_TOKENIZERS

TEXTS = [
    "",
    " ",
    "a",
    "aAa  sS'sa 'S a'T",
    "aas 'S's'tt\u0301a A'sAs",
    "a1 11 111 1111 11111 1a1a",
    "  aa   AA    ss     11      ",
    "a\n\n a\r\n\r\n  \n \ta\t\t a \r",
    "!!a ..A $$s ~~t __1 '' \u3000a",
    "!\n.\r\n~\n\n$ ! . ~ _",
    "é éé aéa Aé éA 漢漢 a漢a 漢1 é1²1²²",
    "a\u0301a \u0301\u0301 漢\u0301 1\u0301",
    "a\u3000\u3000a \u0085a\u0085\u0085 \u200ba\u200b",
    "aaaaaaAAAAAAaaaa ssssSSSS tTtT",
    " a a a  aa.s.t. a, a",
    "a.a!a'a$a~a_a a.\na!\ra'\ta",
    "<s>a</s> <tool> a<tool><x>a <tool",
    "     \n     a     \n\n",
    "ß ñ ж अ ก 字\ue000\U0002ebf0\u0378 😀 x\x00y",
    "abcd ab bc abc hehe he, a b  a b o,o,o ▁a .",
    "a ,b cab a? a ! 's 've ' a",
    "a1111 1 22 333 4444 a55555 ²1234 123² 12²345678 1,234,567.89 ٣٤٥٦٧",
    "漢字漢字a 漢's a漢's !漢 \ufa6e漢\ufa6ea !\ufa6e! aB's cD'RE 'x'll \u0e40a アaㄱ\ue000a",
    "a\n\n\n\na\n\n\n\n\na\n\n\n a\n",
]
FLAGS = ((False, False), (True, True))


def write_vocabulary(path: Path, metadata: dict) -> None:
    """Write metadata as a GGUF file without tensors."""
    import gguf

    writer = gguf.GGUFWriter(path, metadata["general.architecture"])
    for key, value in metadata.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        elif key != "general.architecture":
            writer.add_string(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def run_llama_cpp(metadata: dict, texts: list[str] = TEXTS) -> list[dict]:
    """Ids with (add_special, parse_special) off and on, and the detokenized bytes, per text."""
    from llama_cpp import llama_cpp as lib

    params = lib.llama_model_default_params()
    params.vocab_only = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        write_vocabulary(path, metadata)
        model = lib.llama_model_load_from_file(str(path).encode(), params)
    vocab = lib.llama_model_get_vocab(model)
    results = []
    for text in texts:
        raw, room = text.encode(), (ctypes.c_int32 * 1000)()
        record = {}
        for name, flags in zip(("plain", "special"), FLAGS, strict=True):
            n = lib.llama_tokenize(vocab, raw, len(raw), room, 1000, *flags)
            record[name] = room[:n]
        buffer = ctypes.create_string_buffer(10000)
        size = lib.llama_detokenize(vocab, room, n, buffer, 10000, False, True)
        record["bytes"] = buffer.raw[:size].hex()
        results.append(record)
    lib.llama_model_free(model)
    return results


def main() -> None:
    """Write tokenizer.json beside this script."""
    first_names = {pre: name for name, pre in reversed(PRE_TOKENIZERS.items())}
    goldens = {
        "tool": "llama.cpp 0c1e570 through llama-cpp-python 0.3.36",
        "texts": TEXTS,
        "bpe": {
            name: run_llama_cpp(pairs_bpe(name), texts_for(name, TEXTS))
            for name in sorted(first_names.values())
        },
        "gemma4": run_llama_cpp(pairs_bpe("gemma4") | {"tokenizer.ggml.model": "gemma4"}),
        "spm": run_llama_cpp(ladder_spm()),
        "spm_bare": run_llama_cpp(ladder_spm(add_space_prefix=False, add_eos_token=True)),
    }
    path = Path(__file__).with_name("tokenizer.json")
    path.write_text(json.dumps(goldens, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
