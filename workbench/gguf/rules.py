"""The rules that files are held to: a name, how grave under each profile, and where it is written.

    profile     what it asks
    spec        the GGUF specification, read as `open_gguf` reads it: errors are what it refuses
    llama.cpp   what llama.cpp's loader accepts: little-endian, contiguous tensors, short names …

Sources: ggml/docs/gguf.md ("spec"), ggml/src/gguf.cpp, src/llama-model-loader.cpp and
`ggml_validate_row_data` of ggml/src/ggml-quants.c, each named by its rule.
Left out: how a rule is checked; whether llama.cpp can run the model in the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["PROFILES", "RULES", "Rule"]

PROFILES = ("spec", "llama.cpp")


@dataclass(frozen=True)
class Rule:
    """A rule: its severity under each profile (None: silent) and its source."""

    name: str
    spec: str | None
    llama_cpp: str | None
    source: str

    def severity(self, profile: str) -> str | None:
        """ "error", "warning", "note" or None under the profile "spec" or "llama.cpp"."""
        return self.spec if profile == "spec" else self.llama_cpp


E, W, N, NONE = "error", "warning", "note", None
HEADER = "spec, gguf_header_t"
KEYS = "spec, gguf_metadata_kv_t"
VALUES = "spec, gguf_metadata_value_t"
INFOS = "spec, gguf_tensor_info_t"
FILE = "spec, gguf_file_t"
STANDARD = "spec, standardized key-value pairs"
READER = "gguf.cpp, gguf_init_from_reader"
LOADER = "llama-model-loader.cpp, llama_model_loader"
ROWS = "ggml-quants.c, ggml_validate_row_data"

# name, severity under spec, severity under llama.cpp, source
_RULES = (
    ("magic", E, E, HEADER),
    ("truncated", E, E, FILE),
    ("version-unknown", E, E, HEADER),
    ("version-1", N, E, READER),
    ("byte-order", N, E, READER),
    ("count-too-large", E, E, READER),
    ("string-limit", NONE, E, "gguf.cpp, GGUF_MAX_STRING_LENGTH"),
    ("array-limit", NONE, E, "gguf.cpp, GGUF_MAX_ARRAY_ELEMENTS"),
    ("key-duplicate", E, E, READER),
    ("key-empty", W, E, READER),
    ("key-too-long", W, N, KEYS),
    ("key-not-utf8", W, W, KEYS),
    ("key-style", N, NONE, KEYS),
    ("value-type-unknown", E, E, VALUES),
    ("array-nested", N, E, READER),
    ("array-too-deep", E, E, "the bound of this reader: 32 levels"),
    ("bool-value", E, W, VALUES),
    ("string-not-utf8", W, W, "spec, gguf_string_t"),
    ("float-not-finite", W, W, VALUES),
    ("key-type", W, W, STANDARD),
    ("architecture-missing", W, W, STANDARD),
    ("quantization-version-missing", W, N, STANDARD),
    ("vocabulary-lengths", W, W, "spec, tokenizer.ggml keys"),
    ("alignment-type", E, E, READER),
    ("alignment-zero", E, E, READER),
    ("alignment-not-multiple-of-8", E, W, "spec, general.alignment"),
    ("alignment-not-power-of-two", N, E, READER),
    ("tensor-name-empty", W, W, INFOS),
    ("tensor-name-too-long", E, E, INFOS),
    ("tensor-name-64", NONE, E, "ggml.h, GGML_MAX_NAME"),
    ("tensor-name-not-utf8", W, W, INFOS),
    ("tensor-duplicate", E, E, READER),
    ("too-many-dims", E, E, INFOS),
    ("dim-zero", W, W, INFOS),
    ("dims-overflow", E, NONE, "sizes are signed 64-bit numbers in ggml and NumPy"),
    ("dims-not-countable", NONE, E, READER),
    ("tensor-type-unknown", E, E, "ggml.h, enum ggml_type"),
    ("row-not-whole-blocks", E, E, READER),
    ("offset-unaligned", E, E, INFOS),
    ("offset-not-contiguous", N, E, READER),
    ("tensor-data-past-end", E, E, LOADER),
    ("tensors-overlap", E, E, FILE),
    ("end-not-padded", N, W, "gguf.cpp, gguf_init_from_reader with tensor data"),
    ("padding-not-zero", W, N, FILE),
    ("trailing-bytes", N, N, FILE),
    ("split-keys", W, E, LOADER),
    ("split-file-name", W, E, LOADER),
    ("split-shard-missing", E, E, LOADER),
    ("split-shard-broken", E, E, LOADER),
    ("split-shard-number", E, E, LOADER),
    ("split-tensor-count", E, E, LOADER),
    ("split-tensor-duplicate", E, E, LOADER),
    ("value-not-finite", W, W, ROWS),
    ("scale-not-finite", W, W, ROWS),
    ("scale-impossible", W, W, "ggml-quants.c, quantize_row_*_K_ref"),
    ("zero-blocks", N, N, "the workbench"),
    ("repeated-blocks", N, N, "the workbench"),
)

RULES: Mapping[str, Rule] = MappingProxyType({row[0]: Rule(*row) for row in _RULES})
