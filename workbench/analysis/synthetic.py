"""Models of random weights, to measure speed on any shape and type without a download.

    "8b:Q4_K_M"   Llama 3 8B's shape, each tensor of the type that the mix gives it

    a type's base     2 MB of random blocks with small scales, again and again
    tensor 0          |-----------------|
    tensor 1             |-----------------|          each begins at another block

Speed on such a file is that of a real one of the same shape: no kernel looks at what the numbers
are. They are finite, as are the logits; the text is noise.
Source: llama.cpp src/llama-quant.cpp for the mixes (`workbench.quants.mixes`); the shapes are those
of Llama 3 8B, Llama 2 7B and Llama 3.2 1B.
Left out: tokenizers (the files say "no_vocab"), architectures other than llama, experts.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ..errors import ParameterError
from ..gguf import write_gguf
from ..gguf.types import GGML_TYPES
from ..quants.convert import codec_of
from ..quants.mixes import FileType, choose_types, find_file_type

__all__ = ["RECIPES", "SHAPES", "synthetic_model"]

BASE_BYTES = 1 << 21
STEP_BLOCKS = 97  # between the first blocks of two tensors: a prime, so that they rarely agree
DEVIATION = 0.02  # standard deviation of the weights, that of a model before its training

# What the mean of q is in w = d * q + m, so that m = -d * mean centres the weights.
_CENTRES = {"Q4_1": 7.5, "Q5_1": 15.5, "Q2_K": 1.5, "Q4_K": 7.5, "Q5_K": 15.5}


@dataclass(frozen=True)
class Shape:
    """The numbers of a Llama model, by llama.cpp's names."""

    n_embd: int
    n_ff: int
    n_layer: int
    n_head: int
    n_head_kv: int
    n_vocab: int
    rope_freq_base: float


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "8b": Shape(4096, 14336, 32, 32, 8, 128256, 500000.0),
        "7b": Shape(4096, 11008, 32, 32, 32, 32000, 10000.0),
        "1b": Shape(2048, 8192, 16, 32, 8, 128256, 500000.0),
        "tiny": Shape(512, 1536, 4, 8, 4, 2048, 10000.0),
    }
)
RECIPES = (
    *("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q6_K", "Q5_K_M", "Q4_K_M"),
    *("Q3_K_M", "Q2_K", "IQ4_NL", "IQ4_XS", "MXFP4"),
)


@dataclass(frozen=True)
class _Matrix:
    """What the mixes ask of a tensor."""

    shape: tuple[int, ...]
    type: str


def synthetic_model(path: Path | str, spec: str, progress: bool = True) -> None:
    """Write a Llama model of random weights; the same spec always gives the same bytes.

    path: of the new file. spec: a shape of SHAPES and a recipe of RECIPES, such as "8b:Q4_K_M", in
    any letter case. progress: show the bytes written in a bar.
    Raises: ParameterError for an unknown shape or recipe, or a path that cannot be written.
    Example: synthetic_model(folder / "model.gguf", "tiny:Q8_0").
    """
    shape_name, recipe = _parsed(spec)
    shape, file_type = SHAPES[shape_name], _file_type(recipe)
    metadata = _metadata(f"synthetic-{shape_name}-{recipe}", shape, file_type)
    plain = _tensors(shape)
    types = {choice.name: choice.type for choice in choose_types(plain, metadata, file_type)}
    sizes = {name: _nbytes(types[name], tensor.shape) for name, tensor in plain.items()}
    sources = _sources(sizes, types)
    from tqdm.auto import tqdm  # a tenth of a second, which `import workbench` need not pay

    bar = tqdm(
        total=sum(sizes.values()),
        desc=f"writing {shape_name}:{recipe}",
        unit="B",
        unit_scale=True,
        leave=False,
        disable=not progress,
    )
    with bar:
        tensors = {
            name: (_counted(sources[name], bar), types[name], tensor.shape)
            for name, tensor in plain.items()
        }
        write_gguf(path, metadata, tensors, durable=False)


def _parsed(spec: Any) -> tuple[str, str]:
    """ "8b:q4_k_m" -> ("8b", "Q4_K_M")."""
    shape, colon, recipe = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    shape, recipe = shape.strip().lower(), recipe.strip().upper()
    if colon and shape in SHAPES and recipe in RECIPES:
        return shape, recipe
    what = "shape" if shape not in SHAPES else "recipe"
    raise ParameterError(
        f"synthetic model: no such {what}; expected SHAPE:RECIPE with a shape of "
        f"{', '.join(SHAPES)} and a recipe of {', '.join(RECIPES)}, got {spec!r}; for example "
        "8b:Q4_K_M"
    )


def _file_type(recipe: str) -> FileType:
    """The mix of a recipe. llama.cpp's only mix of MXFP4 keeps it for experts; here there are none,
    so all matrices take it but the output."""
    return FileType("MXFP4", 38, "MXFP4") if recipe == "MXFP4" else find_file_type(recipe)


def _metadata(name: str, shape: Shape, file_type: FileType) -> dict[str, Any]:
    return {
        "general.architecture": "llama",
        "general.name": name,
        "general.file_type": file_type.id,
        "llama.context_length": 8192,
        "llama.embedding_length": shape.n_embd,
        "llama.block_count": shape.n_layer,
        "llama.feed_forward_length": shape.n_ff,
        "llama.attention.head_count": shape.n_head,
        "llama.attention.head_count_kv": shape.n_head_kv,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": shape.n_embd // shape.n_head,
        "llama.rope.freq_base": shape.rope_freq_base,
        "llama.vocab_size": shape.n_vocab,
        "tokenizer.ggml.model": "no_vocab",
    }


def _tensors(shape: Shape) -> dict[str, _Matrix]:
    """Name -> shape of every tensor, before the mix: norms in F32, matrices in F16."""
    n_embd, n_ff = shape.n_embd, shape.n_ff
    n_kv = n_embd // shape.n_head * shape.n_head_kv
    layer = {
        "attn_norm": (n_embd,),
        "attn_q": (n_embd, n_embd),
        "attn_k": (n_kv, n_embd),
        "attn_v": (n_kv, n_embd),
        "attn_output": (n_embd, n_embd),
        "ffn_norm": (n_embd,),
        "ffn_gate": (n_ff, n_embd),
        "ffn_up": (n_ff, n_embd),
        "ffn_down": (n_embd, n_ff),
    }
    shapes = {"token_embd": (shape.n_vocab, n_embd)}
    for i in range(shape.n_layer):
        shapes |= {f"blk.{i}.{name}": size for name, size in layer.items()}
    shapes |= {"output_norm": (n_embd,), "output": (shape.n_vocab, n_embd)}
    return {
        f"{name}.weight": _Matrix(size, "F32" if len(size) == 1 else "F16")
        for name, size in shapes.items()
    }


def _nbytes(type: str, shape: tuple[int, ...]) -> int:
    return math.prod(shape[:-1]) * GGML_TYPES[type].row_bytes(shape[-1])


def _sources(sizes: Mapping[str, int], types: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Name -> the tensor's bytes, views of one array a type, so that they take little memory."""
    rng, arrays = np.random.default_rng(0), {}
    for type in sorted(set(types.values())):
        most = max(size for name, size in sizes.items() if types[name] == type)
        base = _base(type, rng)
        arrays[type] = np.tile(base, -(-most // base.size) + 1)
    sources = {}
    for i, (name, size) in enumerate(sizes.items()):
        base_blocks = max(1, BASE_BYTES // GGML_TYPES[types[name]].type_size)
        start = i * STEP_BLOCKS % base_blocks * GGML_TYPES[types[name]].type_size
        sources[name] = arrays[types[name]][start : start + size]
    return sources


def _counted(data: np.ndarray, bar: Any) -> Callable[[], np.ndarray]:
    """The bytes as a function, so that the bar moves when the writer asks for them."""

    def give() -> np.ndarray:
        bar.update(data.size)
        return data

    return give


def _base(type: str, rng: np.random.Generator) -> np.ndarray:
    """About BASE_BYTES of random blocks of a type: (bytes,) uint8."""
    codec = codec_of(type)
    n = max(1, BASE_BYTES // codec.type_size)
    if type == "F32":  # norms
        return np.ones(n, "<f4").view(np.uint8)
    if codec.dtype.fields is None:
        numbers = rng.standard_normal(n, np.float32) * np.float32(DEVIATION)
        if type == "BF16":
            return (numbers.view(np.uint32) >> 16).astype("<u2").view(np.uint8)
        return numbers.astype("<f2").view(np.uint8)
    blocks = np.frombuffer(rng.bytes(n * codec.type_size), codec.dtype).copy()
    _set_scales(blocks, type, np.ones(n, np.float32))
    weights = np.empty((min(n, 512), codec.block_size), np.float32)
    codec.decode(blocks[:512], weights)
    d = DEVIATION / weights.std()
    _set_scales(blocks, type, d * rng.uniform(0.5, 1.5, n).astype(np.float32))
    return blocks.view(np.uint8)


def _set_scales(blocks: np.ndarray, type: str, d: np.ndarray) -> None:
    """Gives each block its scale, and the minimum that centres the weights where there is one."""
    if type == "MXFP4":  # a power of two: 2**(e - 128)
        blocks["e"] = 128 + np.rint(np.log2(d)).astype(np.int64)
        return
    blocks["d"] = d
    if "dmin" in blocks.dtype.names:  # w = d * scale * q - dmin * scale
        blocks["dmin"] = d * np.float32(_CENTRES[type])
    elif "m" in blocks.dtype.names:
        blocks["m"] = d * np.float32(-_CENTRES[type])
