"""The tiny random models by which every architecture is compared with llama.cpp, as recipes.

Each has what its family may have: odd sizes, grouped heads, optional tensors there and missing.
Source: keys and defaults as llama.cpp's src/models/*.cpp (`load_arch_hparams`) reads them.
"""

from tests.model.random_model import Recipe

__all__ = ["RECIPES"]

WINDOW = {"attention.sliding_window": 24}
EXPERTS = {"expert_count": 6, "expert_used_count": 2}
SIZED = EXPERTS | {"expert_feed_forward_length": 24}
SHARED = SIZED | {"expert_shared_count": 2, "leading_dense_block_count": 1}
ROUTED = SHARED | {"expert_weights_scale": 1.6, "expert_weights_norm": True}
SIGMOID = ROUTED | {"expert_gating_func": 2}
WIDE = {"attention.key_length": 20, "attention.value_length": 20}  # a head is not n_embd / n_head
MHA = {"attention.head_count_kv": 4}
SCALES = {"logit_scale": 1.7, "residual_scale": 0.7, "embedding_scale": 3.0}
CAPS = {  # and clamps and slopes
    "final_logit_softcapping": 4.0,
    "attn_logit_softcapping": 2.0,
    "attention.clamp_kqv": 0.9,
    "attention.max_alibi_bias": 6.0,
}
YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 64,
}
MLA = SHARED | {
    "attention.head_count_kv": 1,
    "attention.q_lora_rank": 20,
    "attention.kv_lora_rank": 16,
    "attention.key_length": 24,
    "attention.value_length": 16,
    "attention.key_length_mla": 20,
    "attention.value_length_mla": 12,
    "rope.dimension_count": 8,
}
LEGACY_MLA = {key: value for key, value in MLA.items() if not key.endswith("_mla")} | {
    "attention.head_count_kv": 4,
    "attention.key_length": 20,
    "attention.value_length": 12,
}
XIELU = {"xielu.alpha_p": [0.8, 0.5, 1.1], "xielu.alpha_n": [0.3, 0.6, 0.9]}
XIELU |= {"xielu.beta": [0.5, 0.4, 0.6], "xielu.eps": [-1e-6, -1e-2, -1e-6]}
SECTIONS = {"rope.dimension_sections": [2, 1, 1, 0]}
NO_BIAS = (
    "*attn_[qkv].bias",
    "*attn_output.bias",
    "*ffn_gate.bias",
    "*ffn_up.bias",
    "*ffn_down.bias",
)
PLM = {
    "attention.head_count_kv": 4,
    "attention.kv_lora_rank": 16,
    "attention.key_length": 20,
    "attention.value_length": 12,
    "rope.dimension_count": 8,
}
NO_FACTORS = ("rope_f*", "blk.*.rope_f*")
TIED = ("output.weight",)

RECIPES = {
    "llama": Recipe("llama", {}, NO_BIAS + NO_FACTORS),
    "llama-biases": Recipe("llama", {"rope.freq_base": 500.0}, ("rope_factors*", *TIED)),
    "llama-fused": Recipe("llama", {"rope.freq_base": 5e5}, NO_FACTORS, fused=True),
    "llama-yarn": Recipe("llama", YARN | MHA, NO_BIAS + NO_FACTORS),
    "llama-experts": Recipe("llama", EXPERTS, NO_BIAS + NO_FACTORS),
    "llama-head20": Recipe(
        "llama", WIDE | {"rope.dimension_count": 20, "attention.scale": 0.3}, NO_BIAS + NO_FACTORS
    ),
    "llama-window": Recipe("llama", WINDOW, NO_BIAS + NO_FACTORS),
    "qwen2": Recipe("qwen2", {"rope.freq_base": 1e5}),
    "qwen2moe": Recipe("qwen2moe", SIZED | {"expert_shared_feed_forward_length": 40}),
    "qwen3": Recipe("qwen3", WIDE | {"attention.head_count_kv": 1}, NO_BIAS),
    "qwen3moe": Recipe("qwen3moe", SIZED | WIDE, NO_BIAS),
    "gemma": Recipe("gemma", WIDE | {"attention.head_count_kv": 1}, NO_BIAS),
    "gemma2": Recipe(
        "gemma2", WINDOW | WIDE | {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0}
    ),
    "gemma2-46": Recipe("gemma2", WINDOW | WIDE | {"block_count": 46}, NO_BIAS),
    "gemma3": Recipe("gemma3", WINDOW | {"block_count": 7, "rope.freq_base": 1e6}, NO_BIAS),
    "gemma3-linear": Recipe(
        "gemma3",
        WINDOW | {"block_count": 7, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
        NO_BIAS + TIED,
    ),
    "phi2": Recipe("phi2", MHA | {"rope.dimension_count": 6}),
    "phi2-fused": Recipe("phi2", MHA | {"rope.dimension_count": 4}, fused=True),
    "phi3": Recipe("phi3", {"rope.scaling.attn_factor": 1.2}, NO_FACTORS + NO_BIAS, fused=True),
    "phi3-longrope": Recipe(
        "phi3",
        {"rope.scaling.original_context_length": 64, "rope.scaling.attn_factor": 1.2},
        NO_BIAS,
        fused=True,
    ),
    "phimoe": Recipe("phimoe", EXPERTS),
    "gpt2": Recipe("gpt2", MHA, fused=True),
    "starcoder": Recipe("starcoder", {"attention.head_count_kv": 1}, fused=True),
    "starcoder2": Recipe("starcoder2"),
    "stablelm": Recipe("stablelm", {"rope.dimension_count": 4}, ("*_norm.weight_no",)),
    "stablelm-parallel": Recipe(
        "stablelm", {"rope.dimension_count": 4}, ("*ffn_norm*", "*_q_norm*", "*_k_norm*")
    ),
    "stablelm-plain": Recipe("stablelm", {}, ("*_q_norm*", "*_k_norm*", "blk.*attn_?.bias")),
    "falcon-7b": Recipe("falcon", {"attention.head_count_kv": 1}, ("*attn_norm_2*",), fused=True),
    "falcon-40b": Recipe("falcon", {}, fused=True),
    "command-r": Recipe("command-r", {"logit_scale": 0.3}),
    "command-r-plain": Recipe("command-r", {}, ("*_q_norm*", "*_k_norm*", *NO_BIAS)),
    "olmo": Recipe("olmo", {"attention.clamp_kqv": 1.5}, NO_BIAS),
    "olmo2": Recipe("olmo2", {}, NO_BIAS),
    "olmo3": Recipe("olmo2", WINDOW | YARN | {"block_count": 5}, NO_BIAS),
    "olmoe": Recipe("olmoe", EXPERTS | MHA, NO_BIAS),
    "smollm3": Recipe("smollm3", {"block_count": 5}, NO_BIAS),
    "granite": Recipe("granite", SCALES | {"attention.scale": 0.2}, NO_BIAS + NO_FACTORS),
    "granite-nope": Recipe(
        "granite", SCALES | {"rope.scaling.finetuned": False}, NO_BIAS + NO_FACTORS
    ),
    "granitemoe": Recipe(
        "granite" + "moe",
        SCALES | EXPERTS | {"expert_shared_feed_forward_length": 20, "attention.scale": 0.2},
        NO_BIAS + NO_FACTORS,
    ),
    "gpt-oss": Recipe("gpt-oss", SIZED | WINDOW | YARN | {"block_count": 4}),
    "deepseek2": Recipe("deepseek2", MLA | {"expert_weights_scale": 2.0}),
    "deepseek3": Recipe(
        "deepseek2",
        MLA | YARN | SIGMOID | MLA | {"rope.scaling.yarn_log_multiplier": 0.1},
    ),
    "deepseek2-legacy": Recipe("deepseek2", LEGACY_MLA),
    "deepseek2-lite": Recipe("deepseek2", MLA | {"block_count": 27, "embedding_length": 16}),
    "deepseek": Recipe("deepseek", SHARED | MHA | {"expert_weights_scale": 1.4}, NO_BIAS),
    "gptneox": Recipe(
        "gptneox", MHA | {"use_parallel_residual": True, "rope.dimension_count": 4}, fused=True
    ),
    "gptneox-serial": Recipe("gptneox", MHA | {"use_parallel_residual": False}, fused=True),
    "bloom": Recipe("bloom", MHA, fused=True),
    "mpt": Recipe(
        "mpt",
        MHA | {"attention.max_alibi_bias": 8.0, "attention.clamp_kqv": 1.5},
        ("*_k_norm*",),  # with query and key norms llama.cpp aborts
        fused=True,
    ),
    "mpt-plain": Recipe(
        "mpt",
        {"attention.max_alibi_bias": 4.0},
        ("*.bias", "*_q_norm*", "*_k_norm*", "position*", "*.scales", *TIED),
        fused=True,
    ),
    "glm4": Recipe("glm4", {"rope.dimension_count": 4}, fused=False),
    "chatglm": Recipe("chatglm", {"rope.dimension_count": 4}, fused=True),
    "glm4moe": Recipe("glm4moe", SIGMOID | {"rope.dimension_count": 4}),
    "nemotron": Recipe("nemotron", {"rope.dimension_count": 4}),
    "internlm2": Recipe("internlm2", {}, NO_BIAS),
    "exaone": Recipe("exaone", {}, NO_BIAS),
    "exaone4": Recipe("exaone4", {}, NO_BIAS),
    "exaone4-window": Recipe("exaone4", WINDOW | {"block_count": 64}, NO_BIAS + NO_FACTORS),
    "cohere2": Recipe("cohere2", WINDOW | {"block_count": 5, "logit_scale": 0.3}, NO_BIAS),
    "llama4": Recipe(
        "llama4", SIZED | {"block_count": 5, "interleave_moe_layer_step": 2}, NO_BIAS + NO_FACTORS
    ),
    "minicpm": Recipe("minicpm", {}, NO_BIAS + NO_FACTORS),
    "orion": Recipe("orion", MHA, NO_BIAS),
    "baichuan": Recipe("baichuan", MHA, NO_BIAS),
    "baichuan-alibi": Recipe("baichuan", MHA | {"block_count": 40}, NO_BIAS),
    "xverse": Recipe("xverse", MHA, NO_BIAS),
    "arctic": Recipe("arctic", EXPERTS, NO_BIAS),
    "dbrx": Recipe("dbrx", EXPERTS | {"attention.clamp_kqv": 1.5}, NO_BIAS, fused=True),
    "jais": Recipe("jais", MHA | {"attention.max_alibi_bias": 8.0}, fused=True),
    "codeshell": Recipe("codeshell", {}, fused=True),
    "refact": Recipe("refact", {"attention.head_count_kv": 1}, NO_BIAS + NO_FACTORS),
    "dots1": Recipe("dots1", SIGMOID | MHA),
    "ernie4_5": Recipe("ernie4_5", {}, ("*attn_output.bias",)),
    "ernie4_5-moe": Recipe(
        "ernie4_5-moe",
        SHARED | {"expert_shared_feed_forward_length": 20, "interleave_moe_layer_step": 1},
        ("*attn_output.bias",),
    ),
    "hunyuan-moe": Recipe("hunyuan-moe", SIZED | {"expert_shared_feed_forward_length": 20}),
    "hunyuan-dense": Recipe("hunyuan-dense"),
    "bailingmoe": Recipe("bailingmoe", ROUTED),
    "bailingmoe2": Recipe("bailingmoe2", SIGMOID | {"expert_shared_feed_forward_length": 20}),
    "seed_oss": Recipe("seed_oss"),
    "arcee": Recipe("arcee", {}, NO_BIAS + NO_FACTORS),
    "plamo": Recipe("plamo", MHA, NO_BIAS),
    "qwen": Recipe("qwen", MHA, fused=True),
    "smallthinker": Recipe(
        "smallthinker", SIZED | WINDOW | {"block_count": 5, "expert_gating_func": 2}, NO_BIAS
    ),
    "smallthinker-full": Recipe("smallthinker", SIZED | {"expert_gating_func": 1}, NO_BIAS),
    "openelm": Recipe(
        "openelm",
        {
            "attention.head_count": [4, 8, 4],
            "attention.head_count_kv": [2, 4, 1],
            "attention.key_length": 8,
            "attention.value_length": 8,
            "feed_forward_length": [48, 64, 40],
        },
        NO_BIAS,
        fused=True,
    ),
    "mistral3": Recipe("mistral3", YARN | {"attention.temperature_scale": 0.3}, NO_BIAS),
    "apertus": Recipe("apertus", XIELU, (*NO_BIAS, "*_norm.bias")),
    "grok": Recipe("grok", EXPERTS | {"embedding_scale": 4.0}, NO_BIAS),
    "exaone-moe": Recipe("exaone-moe", SIGMOID | WINDOW | {"block_count": 5}, NO_BIAS),
    "minimax-m2": Recipe("minimax-m2", SIZED | {"expert_gating_func": 2}, NO_BIAS),
    "pangu-embedded": Recipe("pangu-embedded", {}, NO_FACTORS),
    "maincoder": Recipe("maincoder", {}, NO_BIAS),
    "bitnet": Recipe("bitnet", {}, NO_BIAS),
    "deci": Recipe(
        "deci",
        {
            "attention.head_count": [4, 4, 4],
            "attention.head_count_kv": [2, 4, 1],
            "feed_forward_length": [48, 64, 40],
        },
        NO_BIAS + NO_FACTORS,
    ),
    "qwen3moe-fused": Recipe("qwen3moe", SIZED, NO_BIAS, fused=True),
    "deepseek2-fused": Recipe("deepseek2", MLA | ROUTED | MLA, fused_experts=True),
    "llama-unscaled": Recipe("llama", {"rope.scaling.type": "none", "rope.scaling.factor": 3.0}),
    "llama-linear": Recipe("llama", {"rope.scaling.factor": 3.0}, NO_BIAS + NO_FACTORS),
    "gemma2-pattern": Recipe(
        "gemma2",
        WINDOW | {"attention.sliding_window_pattern": [False, True, True]},
        NO_BIAS,
    ),
    "gemma3-own-base": Recipe(
        "gemma3",
        WINDOW | {"attention.sliding_window_pattern": 2, "rope.freq_base_swa": 300.0},
        NO_BIAS,
    ),
    "qwen2vl": Recipe(  # whose epsilon llama.cpp forgets to read: 0
        "qwen2vl", SECTIONS | {"attention.layer_norm_rms_epsilon": 1e-12}
    ),
    "qwen3vl": Recipe("qwen3vl", SECTIONS, NO_BIAS),
    "qwen3vlmoe": Recipe("qwen3vlmoe", SIZED | SECTIONS, NO_BIAS),
    "hunyuan_vl": Recipe("hunyuan_vl", SECTIONS | {"rope.scaling.alpha": 3.0}),
    "jais2": Recipe("jais2"),
    "mellum": Recipe("mellum", SIZED | WINDOW | {"block_count": 5}, NO_BIAS),
    "afmoe": Recipe("afmoe", SIGMOID | WINDOW | {"block_count": 5}, NO_BIAS),
    "minicpm3": Recipe(
        "minicpm3",
        MHA
        | {
            "attention.q_lora_rank": 20,
            "attention.kv_lora_rank": 16,
            "attention.key_length": 20,
            "attention.value_length": 8,
            "rope.dimension_count": 8,
        },
        NO_BIAS,
    ),
    "deepseek3-groups": Recipe(
        "deepseek2",
        MLA
        | SIGMOID
        | MLA
        | {"expert_count": 8, "expert_group_count": 4, "expert_group_used_count": 2},
    ),
    "deepseek2-temperature": Recipe(
        "deepseek2",
        MLA | {"attention.temperature_scale": 0.4, "attention.temperature_length": 16},
    ),
    "bailingmoe2-groups": Recipe(
        "bailingmoe2",
        SIGMOID | {"expert_count": 9, "expert_group_count": 3, "expert_group_used_count": 2},
    ),
    "glm4moe-nextn": Recipe("glm4moe", SIGMOID | {"block_count": 4}, n_nextn=1),
    "deepseek3-nextn": Recipe("deepseek2", MLA | SIGMOID | MLA | {"block_count": 4}, n_nextn=1),
    "qwen2-stray-keys": Recipe("qwen2", WINDOW | SCALES | CAPS | {"attention.scale": 0.4}),
    "cohere2-stray-keys": Recipe(
        "cohere2",
        CAPS
        | WINDOW
        | SCALES
        | {"block_count": 5, "rope.freq_base_swa": 300.0, "attention.scale": 0.4},
        NO_BIAS,
    ),
    "plm": Recipe("plm", PLM),
}
