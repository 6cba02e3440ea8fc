"""Makes mixes.json: the tensor types llama-quantize chooses, for models made up to meet its rules.

Each model is a GGUF file of small zero tensors; `llama_model_quantize` is asked for a dry run and
says in its log which type a tensor would get. Made with llama-cpp-python 0.3.36 (llama.cpp commit
0c1e570). Run from the repository root: python tests/data/make_mixes.py
"""

import ctypes
import json
import re
import tempfile
from itertools import groupby
from pathlib import Path

import gguf
import numpy as np
from llama_cpp import llama_cpp as lib

OUT = Path(__file__).resolve().parent / "mixes.json"
PREFIXES = ("LLAMA_FTYPE_MOSTLY_", "LLAMA_FTYPE_ALL_")
FILE_TYPES = {
    name.removeprefix(prefix): value
    for name, value in vars(lib).items()
    for prefix in PREFIXES
    if name.startswith(prefix) and name != "LLAMA_FTYPE_MOSTLY_NVFP4"  # llama-quantize refuses it
}
ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")
DENSE = (*ATTENTION, "ffn_gate", "ffn_up", "ffn_down")
EXPERTS = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
MATRIX, EXPERT_MATRICES = [2, 256], [2, 2, 256]


def layers(n: int, roles: tuple[str, ...], shape: list[int] = MATRIX) -> dict[str, list[int]]:
    return {f"blk.{i}.{role}.weight": shape for i in range(n) for role in roles}


def numbers(n_layer: int, n_head: int, n_head_kv: int, n_expert: int = 0) -> dict[str, int]:
    counts = {"block_count": n_layer, "attention.head_count": n_head}
    counts |= {"attention.head_count_kv": n_head_kv, "context_length": 64, "embedding_length": 256}
    counts |= {"feed_forward_length": 256, "vocab_size": 320, "rope.dimension_count": 32}
    if n_expert:
        counts |= {"expert_count": n_expert, "expert_used_count": 2}
    return counts


ENDS = {"token_embd.weight": MATRIX, "output.weight": MATRIX, "output_norm.weight": [256]}
TIED = {"token_embd.weight": MATRIX, "output_norm.weight": [256]}
ODD_ROWS = {f"blk.0.x{n}.weight": [2, n] for n in (16, 32, 64, 96, 128, 160, 172, 256, 288)}
KEPT = (
    *("attn_q_norm.weight", "attn_q.bias", "ffn_gate_inp.weight", "altup_proj.weight"),
    *("laurel_l.weight", "ssm_conv1d.weight", "shortconv.conv.weight", "indexer.k_proj.weight"),
    *("time_mix_first.weight", "time_mix_w1.weight", "time_mix_lerp_fused.weight"),
    *("attn_rel_b.weight", "exp_probs_b.bias", "ssm_in.weight", "attn_sinks.weight"),
    *("time_mix_decay_w2.weight", "time_mix_key.weight", "indexer.q_proj.weight"),
)
MODELS = {
    "dense, 33 layers, gqa 8": ("llama", numbers(33, 8, 1), ENDS | layers(33, DENSE)),
    "dense, 16 layers, tied, gqa 1": ("llama", numbers(16, 8, 8), TIED | layers(16, DENSE)),
    "dense, 7 layers, gqa 3": ("qwen3", numbers(7, 6, 2), ENDS | layers(7, DENSE)),
    "llama 70B": ("llama", numbers(80, 8, 1), ENDS | layers(80, ("attn_v", "ffn_down"))),
    "llama 65B": ("llama", numbers(80, 8, 8), ENDS | layers(80, ("attn_v",))),
    "qwen2 72B": ("qwen2", numbers(80, 8, 1), ENDS | layers(80, ("attn_v",))),
    "8 experts": (
        "llama",
        numbers(32, 8, 2, 8),
        ENDS | layers(32, ATTENTION) | layers(32, EXPERTS, EXPERT_MATRICES),
    ),
    "4 experts, split by expert": (
        "llama",
        numbers(8, 8, 2, 4),
        ENDS
        | layers(8, ATTENTION)
        | {
            f"blk.{i}.ffn_{part}.{e}.weight": MATRIX
            for i in range(8)
            for part in ("gate", "up", "down")
            for e in range(4)
        },
    ),
    "16 experts": (
        "qwen3moe",
        numbers(16, 8, 2, 16) | {"expert_feed_forward_length": 256},
        ENDS | layers(16, ATTENTION) | layers(16, EXPERTS, EXPERT_MATRICES),
    ),
    "falcon": (
        "falcon",
        numbers(32, 8, 8),
        ENDS | layers(32, ("attn_qkv", "attn_output", "ffn_up", "ffn_down")),
    ),
    "gpt2": (
        "gpt2",
        numbers(12, 8, 8),
        TIED
        | {"position_embd.weight": MATRIX, "token_types.weight": MATRIX}
        | layers(12, ("attn_qkv", "attn_output", "ffn_up", "ffn_down")),
    ),
    "compressed keys and values": (
        "llama",
        numbers(8, 8, 8),
        ENDS | layers(8, ("attn_q_a", "attn_kv_a_mqa", "attn_kv_b", "attn_k_b", "attn_output")),
    ),
    "odd rows": ("llama", numbers(2, 8, 8), ENDS | ODD_ROWS | {"blk.0.attn_v.weight": [2, 96]}),
    "odd rows, tied": ("llama", numbers(2, 8, 2), {"token_embd.weight": [2, 172]}),
    "left as they are": (
        "llama",
        numbers(2, 8, 8),
        ENDS | {f"blk.0.{name}": MATRIX for name in KEPT} | {"blk.0.attn_k.weight": [1, 256]},
    ),
}


def write_model(path: str, arch: str, counts: dict[str, int], tensors: dict[str, list]) -> None:
    writer = gguf.GGUFWriter(path, arch)
    for key, value in counts.items():
        writer.add_uint32(f"{arch}.{key}", value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-5)
    for name, shape in tensors.items():
        writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


LOG: list[str] = []


@lib.llama_log_callback
def keep_log(level: int, text: bytes, user_data: object) -> None:
    LOG.append(text.decode("utf-8", "replace"))


def chosen(path: str, file_type: int, has_imatrix: bool, pure: bool) -> dict[str, str] | None:
    """Tensor name -> type, for those that change; None where llama-quantize fails."""
    params = lib.llama_model_quantize_default_params()
    params.nthread, params.ftype, params.dry_run, params.pure = 1, file_type, True, pure
    if has_imatrix:
        values = (ctypes.c_float * 1)(1.0)
        entries = (lib.llama_model_imatrix_data * 2)()
        entries[0].name, entries[0].data, entries[0].size = b"none", values, 1
        params.imatrix = entries
    LOG.clear()
    if lib.llama_model_quantize(path.encode(), b"/dev/null", ctypes.byref(params)):
        return None
    found = re.findall(r"\] (\S+) .*-> .*\((\w+)\)\n", "".join(LOG))
    return {name: type_.upper() for name, type_ in found}


def main() -> None:
    lib.llama_log_set(keep_log, ctypes.c_void_p(0))
    models = []
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.gguf"
        for title, (arch, counts, tensors) in MODELS.items():
            write_model(path, arch, counts, tensors)
            models.append({"title": title, "architecture": arch, "numbers": counts})
            order = sorted(tensors, key=by_role)
            runs = groupby(order, key=lambda name: tensors[name])
            models[-1]["tensors"] = [[shape, list(names)] for shape, names in runs]
            models[-1]["choices"] = all_choices(path, order)
    lines = ",\n".join(json.dumps(model, separators=(",", ":")) for model in models)
    OUT.write_text(f"[\n{lines}\n]\n")


def all_choices(path: str, order: list[str]) -> dict[str, str]:
    """File type and case -> types; a case that makes no difference is left out."""
    choices: dict[str, str] = {}
    for name, value in FILE_TYPES.items():
        for case in ("", " imatrix", " pure"):
            types = grouped(chosen(path, value, case == " imatrix", case == " pure"), order)
            if types != choices.get(name):
                choices[name + case] = types
    return choices


def by_role(name: str) -> tuple[str, int]:
    """Sorts layers of one role together, so that equal types stand in a row."""
    layer = re.search(r"\d+", name)
    return re.sub(r"\d+", "#", name, count=1), int(layer[0]) if layer else 0


def grouped(types: dict[str, str] | None, order: list[str]) -> str:
    """Types in order, runs joined: "Q4_K*3 F16 -"; "-" stays as it is; "refused"."""
    if types is None:
        return "refused"
    runs = [(type_, len(list(run))) for type_, run in groupby(types.get(n, "-") for n in order)]
    return " ".join(type_ if n == 1 else f"{type_}*{n}" for type_, n in runs)


if __name__ == "__main__":
    main()
