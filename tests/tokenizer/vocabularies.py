"""Small vocabularies made by hand, as metadata mappings: to read in tests, and for the goldens.

`pairs_bpe` holds a merge for every pair of some thirty bytes (characters, where the pre-tokenizer
leaves the bytes alone), so that each cut of a pre-tokenizer shows in the ids; `ladder_spm` holds
words in stages with scores that tie and compete.
"""

from workbench.tokenizer.bpe import BYTE_CHARACTERS
from workbench.tokenizer.pretokenize import PRE_TOKENIZERS

PAIR_TEXT = "aAsSt1 \n\r\t!'.$~_é漢\u3000\u0301²\u0085\u200b"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6


def bpe(tokens: list[str], merges: list[str], **keys: object) -> dict[str, object]:
    """Metadata of a byte-level vocabulary of these tokens and merges."""
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges,
    } | {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def spm(tokens: list[tuple[str, float, int]], **keys: object) -> dict[str, object]:
    """Metadata of an SPM vocabulary of (text, score, type)."""
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [text for text, _, _ in tokens],
        "tokenizer.ggml.scores": [score for _, score, _ in tokens],
        "tokenizer.ggml.token_type": [kind for _, _, kind in tokens],
    } | {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def pairs_bpe(pre: str) -> dict[str, object]:
    """All bytes, a merge for each pair of the symbols of PAIR_TEXT, four special tokens."""
    byte_level = pre not in PRE_TOKENIZERS or PRE_TOKENIZERS[pre].byte_level
    if byte_level:
        alphabet, used = list(BYTE_CHARACTERS), [BYTE_CHARACTERS[b] for b in PAIR_TEXT.encode()]
    else:  # "é" is spelled in bytes, "²" has only one of its two
        alphabet = [f"<0x{byte:02X}>" for byte in range(256) if byte != 0xC2]
        used = [character for character in PAIR_TEXT.replace(" ", "▁") if character not in "é²"]
    used = list(dict.fromkeys(used))
    merges = [f"{left} {right}" for left in used for right in used]
    types = [NORMAL if byte_level else BYTE] * len(alphabet)
    tokens = [*alphabet, *([] if byte_level else [*used, "\n\n\n\n", "\n\n\n"])]
    tokens += [merge.replace(" ", "") for merge in merges]
    specials = ["<s>", "</s>", "<tool>", "<tool><x>"]
    types += [NORMAL] * (len(tokens) - len(types)) + [CONTROL, CONTROL, USER_DEFINED, CONTROL]
    n = len(tokens)
    ids = {"bos_token_id": n, "eos_token_id": n + 1, "seperator_token_id": n + 1}
    return bpe(tokens + specials, merges, token_type=types, pre=pre, **ids)


def texts_for(pre: str, texts: list[str]) -> list[str]:
    """The texts; for "whitespace" with lone spaces only, because others end llama.cpp's process."""
    return [" ".join(text.split()) for text in texts] if pre == "whitespace" else texts


def ladder_spm(**keys: object) -> dict[str, object]:
    """<unk> <s> </s>, all bytes, and pieces whose scores compete."""
    tokens = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    tokens += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    tokens += [(letter, -9.0, NORMAL) for letter in "▁abcdeho.,"]
    scores = {"▁a": -1, "▁▁": -2, "ab": -3, "bc": -3, "abc": -4, "▁ab": -2, "cd": -5, "bcd": -1}
    scores |= {"é": -9, "▁h": -1.5, "he": -1.5, "▁he": -6, "▁b": -4, "a▁b": -7, ",▁": -8, "o,": -6}
    tokens += [(text, float(score), NORMAL) for text, score in scores.items()]
    tokens += [("<tool>", 0.0, USER_DEFINED), ("o,o", -2.5, NORMAL), ("<|im_end|>", 0.0, NORMAL)]
    return spm(tokens, **keys)
