"""The regex sets of `tokenizer.ggml.pre`, as data: name -> the set and what comes with it.

Each regex of a set cuts the pieces that the ones before it left (pretokenize.py). The regexes are
those of the models' own tokenizer.json files, in the form llama.cpp gives them; where its splitter
is code (kimi-k2, afmoe), they are regexes that cut the same way.

Source: `llm_tokenizer_bpe` and `llama_vocab::impl::load` in llama.cpp src/llama-vocab.cpp,
`unicode_regex_split` in src/unicode.cpp.
"""

from dataclasses import dataclass

__all__ = ["DIGITS_FROM_RIGHT", "PRE_TOKENIZERS", "THREES_TO_THE_END", "PreTokenizer"]


@dataclass(frozen=True)
class PreTokenizer:
    """One regex set and the defaults llama.cpp attaches to its name."""

    regexes: tuple[str, ...]
    ignore_merges: bool = False  # a word that is a token stays whole, whatever the merges say
    add_bos: bool = False
    force_bos: bool = False  # whatever the file says
    add_sep: bool = False
    clean_spaces: bool = True  # detokenizing drops spaces before "?!.," and contractions
    default_bos: bool = True  # False: without a key there is no BOS token
    byte_level: bool = True  # False: symbols are characters of the text, not of the byte alphabet
    escape_spaces: bool = False  # "▁" for " ", in the text and in the vocabulary
    whole_newlines: bool = False  # a run of line feeds that is a token stays whole
    needs_merges: bool = True  # False: a file without merges will do


SUFFIX = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
SPACES = r"\s+(?!\S)|\s+"
LINES = r"\s*[\r\n]+|" + SPACES
WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
SIGNS = r" ?[^\s\p{L}\p{N}]+"

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|" + SPACES
LLAMA3, QWEN2, MINICPM5 = (
    rf"{SUFFIX}|{WORD}|{digits}|{SIGNS}[\r\n]*|{LINES}"
    for digits in (r"\p{N}{1,3}", r"\p{N}", r"\p{N}+")
)
QWEN35 = (
    rf"{SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{LINES}"
)
HALVING_SPACES = "".join(rf"\s{{{n}}}(?!\S)|" for n in (512, 256, 128, 64, 32, 16, 8, 4))
JAIS2 = (
    rf"{SUFFIX}|{WORD}|\p{{N}}{{1,3}}|{SIGNS}[\r\n]*|\s*[\r\n]+|"
    rf"{HALVING_SPACES}\s{{1,2}}(?!\S)|\s{{1}}"
)


def _cased_word(letters: str, ending: str) -> str:
    """Words that end where lower case turns to upper; only ASCII letters have a case here."""
    upper, lower = rf"(?:(?=[{letters}])[^a-z])", rf"(?:(?=[{letters}])[^A-Z])"
    lead = r"[^\r\n\p{L}\p{N}]?"
    return f"{lead}{upper}*{lower}+{ending}|{lead}{upper}+{lower}*{ending}"


GPT4O = _cased_word(r"\p{L}", SUFFIX + "?") + rf"|\p{{N}}{{1,3}}|{SIGNS}[\r\n/]*|{LINES}"
GRANITE = _cased_word(r"\p{L}\p{M}", SUFFIX + "?") + rf"|\p{{N}}{{1,3}}|{SIGNS}[\r\n/]*|{LINES}"
TEKKEN = _cased_word(r"\p{L}", "") + rf"|\p{{N}}|{SIGNS}[\r\n/]*|{LINES}"
BAILING = (
    rf"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|{WORD}|\p{{N}}|{SIGNS}[\r\n]*|\s*[\r\n]|{SPACES}"
)
SEED_CODER = rf"{SUFFIX}|{WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{LINES}"
EXAONE_MOE = (
    rf"{SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    rf"|{SIGNS}[\r\n/]?|\s*[\r\n]|{SPACES}"
)
ASCII_SIGN_WORD = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
DEEPSEEK3_WORD = rf"{ASCII_SIGN_WORD}|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
DEEPSEEK3 = rf"{DEEPSEEK3_WORD}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{LINES}"
SPARK = rf"{DEEPSEEK3_WORD}| ?[\p{{P}}\p{{S}}]+|[\r\n]|{SPACES}"
CJK_KANA = "[一-龥\u3040-ゟ゠-ヿ]+"
CJK_HANGUL = "[一-龥ࠀ-一가-\ud7ff]+"
# every cased letter of Unicode 11 or so, written out, as deepseek-llm's tokenizer.json has it
CASED_LETTERS = (
    "A-Za-z\xb5\xc0-\xd6\xd8-\xf6\xf8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-"
    "\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5"
    "\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-"
    "\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20"
    "-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc"
    "\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6"
    "-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-"
    "\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-"
    "\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-"
    "\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-"
    "\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-"
    "\U000118df\U0001e900-\U0001e943"
)
DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?[{CASED_LETTERS}]+",
    r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"(?<!\s)\s+\Z",  # the look-behind changes no match; without it long runs cost n²
    CJK_HANGUL,
    r"\p{N}+",
)
HAN_LETTER = "\xd6"  # stand-ins of `reduce_han`
KIMI = (
    rf"\p{{Han}}+|{WORD}{SUFFIX}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}{HAN_LETTER}]+[\r\n]*|{LINES}"
)
# digits in threes counted from the right; the group of one to three keeps the text before it
DIGITS_FROM_RIGHT = r"\P{N}*\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"
THREES_TO_THE_END = r"(?=(?:\d{3})+(?!\d))"
# U+8C48 stands where U+F900 was meant: they look the same, and llama.cpp has the first
AFMOE_SCRIPTS = (
    "[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f"
    "\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f"
    "\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
)
AYA = rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+{SUFFIX}?|\p{{N}}{{1,3}}|{SIGNS}[\r\n/]*|{LINES}"
NEWLINES_APART = r"[^\n]+|[\n]+"
YOUTU = (
    r"[가-힣\u3131-\u318e]+|[\uff01\u2026“”‘’—\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+"
    r"|[\u3105-\u312f]+|[一-龥\u3040-ゟ゠-ヿ]+",
    rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+{SUFFIX}?|\p{{N}}|{SIGNS}[\r\n/]*|{LINES}",
)
CHAMELEON = (
    "<sentinel:[0-9]+>",
    "IMGIMG[A-I]{1,4}Z",
    r"[\t\n]|    |  ",
    r"\p{N}",
    r"[\p{P}!-/:-@\[-`{-~]",
    GPT2,
)
WORDS_WITH_SIGNS = " ?[^(\\s|.,!?…。，、।۔،)]+"


def _table() -> dict[str, PreTokenizer]:
    """name of `tokenizer.ggml.pre` -> its set."""
    gpt2, tight = PreTokenizer((GPT2,)), {"clean_spaces": False}
    raw = {"byte_level": False, "escape_spaces": True}
    digits = PreTokenizer((r"\p{N}", GPT2))
    llama3 = PreTokenizer((LLAMA3,))
    qwen2, qwen2_tight = PreTokenizer((QWEN2,)), PreTokenizer((QWEN2,), **tight)
    gpt4o, bailing = PreTokenizer((GPT4O,), **tight), PreTokenizer((BAILING,), **tight)
    deepseek3 = PreTokenizer((r"\p{N}{1,3}", CJK_KANA, DEEPSEEK3), **tight)
    signs_first = (r"[\p{P}\$\+<=>\^~\|]+", GPT2)
    families = {
        "default": PreTokenizer((*signs_first, r"\p{N}+", "[0-9][0-9][0-9]")),
        "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert mpt"
        " olmo jais exaone4": gpt2,
        "jina-v1-en jina-v2-code roberta-bpe": PreTokenizer((GPT2,), add_sep=True),
        "trillion granite-docling": PreTokenizer((GPT2,), **tight),
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano": (
            PreTokenizer((LLAMA3,), ignore_merges=True, add_bos=True)
        ),
        "dbrx smaug-bpe": llama3,
        "glm4 glm5": PreTokenizer((LLAMA3,), ignore_merges=True, default_bos=False),
        "chatglm-bpe": PreTokenizer((LLAMA3,), default_bos=False),
        "jais-2": PreTokenizer((JAIS2,)),
        "minicpm5": PreTokenizer((r"\p{N}{1,3}", MINICPM5), ignore_merges=True),
        "qwen2 deepseek-r1-qwen kormo f2llmv2 hunyuan solar-open grok-2": qwen2_tight,
        "stablelm2 megrez": qwen2,
        "qwen35": PreTokenizer((QWEN35,), **tight),
        "ufakzeka": PreTokenizer((QWEN2.removeprefix(SUFFIX + "|"),), **tight),
        "laguna": PreTokenizer((NEWLINES_APART, QWEN2), **tight),
        "starcoder refact codeshell exaone minerva-7b mellum2": digits,
        "command-r smollm": PreTokenizer(digits.regexes, **tight),
        "falcon": PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]")),
        "gpt-4o llama4 kanana2 talkie minimax-m2": gpt4o,
        "granite-embed-multi-97m": PreTokenizer((GRANITE,), ignore_merges=True, **tight),
        "tekken": PreTokenizer((TEKKEN,), ignore_merges=True, add_bos=True, **tight),
        "bailingmoe bailingmoe2 llada-moe": bailing,
        "seed-coder": PreTokenizer((SEED_CODER,), **tight),
        "exaone-moe": PreTokenizer((EXAONE_MOE,)),
        "deepseek-llm": PreTokenizer(DEEPSEEK_LLM, **tight),
        "deepseek-coder": PreTokenizer(
            (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK_HANGUL, r"\p{N}"), **tight
        ),
        "deepseek-v3 hunyuan-dense joyai-llm hy_v4": deepseek3,
        "spark2_5": PreTokenizer((r"\p{N}{1,3}", CJK_KANA, SPARK, r"\p{N}"), **tight),
        "youtu": PreTokenizer(YOUTU, ignore_merges=True, **tight),
        "chameleon": PreTokenizer(CHAMELEON, add_bos=True, **tight),
        "poro-chat": PreTokenizer((WORDS_WITH_SIGNS,), **tight),
        "bloom gpt3-finnish": PreTokenizer((WORDS_WITH_SIGNS,)),
        "viking": PreTokenizer((WORDS_WITH_SIGNS, r"\p{N}"), **tight),
        "kimi-k2": PreTokenizer((KIMI,), needs_merges=False, **tight),
        "afmoe": PreTokenizer((DIGITS_FROM_RIGHT, AFMOE_SCRIPTS, DEEPSEEK3), **tight),
        "tiny_aya cohere2moe": PreTokenizer((DIGITS_FROM_RIGHT, AYA), **tight),
        "superbpe": PreTokenizer((r"\p{N}+", THREES_TO_THE_END), **tight),
        "gemma4 granite-embed-multi-311m": PreTokenizer(
            (NEWLINES_APART,), force_bos=True, whole_newlines=True, **raw
        ),
        "sarvam-moe": PreTokenizer((NEWLINES_APART,), **raw, **tight),
        "whitespace": PreTokenizer((r"\S+",), byte_level=False),
    }
    return {name: chosen for names, chosen in families.items() for name in names.split()}


PRE_TOKENIZERS = _table()
