"""What the pictures show, computed: arrays in, frozen dataclasses and tables out.

file_map         what is in a file, and where its bytes go
next_token       a distribution before and after a sampler chain; stage_strip: stage by stage
generated_text   a text with probability, rank and entropy of each of its tokens
token_tree       a text that branches                     sampling_sweep: one prompt, many settings
chat_tokens      a rendered conversation, token by token
vocabulary       what is in a vocabulary; vocabulary_texts: what texts cost in it
tokenizer_compare  one text in several tokenizers; tokenizer_json: beside a tokenizer.json
quant_error      what quantization does to a tensor; quant_maps: where in it
quant_codes      how codes and scales are used, and one block looked at closely
quant_model      the same for every tensor of a file, or between two files
imatrix          the importance of columns, from a text
quant_lattice    signs that weights were quantized before
attention        where each head looks                    ablation: what is said without it
kv_arrays        cached keys and values                   kv_errors: what coarser types do to them
kv_channels      which of their numbers are large         kv_directions: which way they point
kv_heads         what each head is for                    kv_growth: bytes, norms, attention got
kv_eviction      a cache that forgets, by the policies of kv_policies, replayed and really run
kv_frontier      what forgetting and coarser types cost, KL against bytes
residual_stream  what every layer adds to the stream      logit_lens: what it says by then
attribution      one logit as a sum of heads and networks
perplexity       of a text, and KL divergence between models     divergence: of logits
parity           our logits beside llama.cpp's
layer_divergence how far two models drift apart           patching: which layer's damage matters
speed            how fast the package is beside others; tokenizer_speed: tokenizers;
                 sampling_speed: a sampler chain
model_speed      tokens per second, beside llama.cpp; speed_run: what a measurement is
synthetic        models of random weights, to measure speed on
token_budget     the bytes behind one token, by layer and family; memory_plan: of the whole
speed_record     recorded speeds beside the peer's and the machine's ceilings
"""

from .ablation import (
    HeadAblation,
    NextTokenChange,
    ablate_each_head,
    logits_without,
    next_token_change,
)
from .attention import AttentionMaps, attention_maps
from .attribution import LogitAttribution, logit_attribution
from .chat_tokens import ChatToken, ChatTokens, chat_tokens
from .divergence import LogitDivergence, compare_logits, kl_by_position, nmse
from .file_map import (
    Memory,
    Size,
    SizeBy,
    Treemap,
    TreemapRect,
    memory_by_part,
    metadata_table,
    size_by,
    tensor_table,
    treemap,
)
from .generated_text import GeneratedText, generated_text, judged_text
from .gguf_diff import GGUFDiff, diff_gguf, type_matrix
from .imatrix import ImatrixStatistics, collect_imatrix, imatrix_statistics
from .kv_arrays import KVArrays, kv_arrays
from .kv_channels import OutlierChannels, outlier_channels
from .kv_directions import CosineDrift, EffectiveRanks, cosine_drift, effective_ranks
from .kv_errors import KV_ERROR_TYPES, kv_errors
from .kv_eviction import (
    EvictionReplay,
    EvictionResult,
    full_logits,
    replay_eviction,
    run_eviction,
)
from .kv_frontier import eviction_table, kv_frontier, kv_type_table
from .kv_growth import (
    AttentionReceived,
    KVGrowth,
    KVNorms,
    attention_received,
    kv_growth,
    kv_norms,
)
from .kv_heads import (
    HEAD_CLASSES,
    HeadClasses,
    follower_positions,
    head_classes,
    looks_of_heads,
    repeated_tokens,
)
from .kv_policies import EVICTION_POLICIES
from .kv_stats import CacheEffect
from .layer_divergence import LayerDivergence, layer_divergence
from .logit_lens import LogitLens, logit_lens
from .machine import copy_bandwidth
from .memory_model import MemoryModel, MemoryTerm, memory_model
from .memory_plan import MemoryPlan, memory_plan
from .model_speed import bytes_per_token, model_speed, speed_run
from .next_token import NextToken, display_piece, next_token
from .open_speed import open_speed
from .parity import Parity, parity, parity_table
from .patching import PatchMap, PatchScan, patch_by_layer, patch_by_position
from .perplexity import KLDivergence, Perplexity, kl_divergence, perplexity
from .quant_codes import BlockZoom, CodeUsage, ScaleSpread, block_zoom, code_usage, scale_spread
from .quant_error import QuantError, frontier, quant_error
from .quant_lattice import LatticeEvidence, find_lattice, lattice_table
from .quant_maps import ErrorByValue, ErrorMap, error_by_value, error_map
from .quant_model import (
    error_change,
    error_pivot,
    file_errors,
    matrices,
    model_errors,
    weight_types,
)
from .residual_stream import ResidualNorms, residual_norms, stream_names, stream_taps
from .sampling_speed import sampling_speed
from .sampling_sweep import SamplingSweep, sampling_sweep
from .speed import dequantize_speed
from .speed_record import SpeedRecord, read_speed_record
from .speed_run import SpeedResult, SpeedRun, SpeedTest, speed_tests
from .stage_strip import StageRow, stage_strip
from .synthetic import synthetic_model
from .token_budget import budget_by_family, token_budget
from .token_tree import Alternatives, TokenNode, TokenTree
from .tokenizer_compare import (
    ComparedToken,
    Segment,
    TokenizerComparison,
    compare_tokenizers,
)
from .tokenizer_json import JsonComparison, StageDifference, compare_tokenizer_json
from .tokenizer_speed import sample_text, tokenizer_speed
from .vocabulary import TokenFinding, VocabularyAudit, audit_vocabulary
from .vocabulary_samples import ODD_STRINGS, SAMPLES, script_of
from .vocabulary_texts import (
    Fertility,
    RoundTrip,
    RoundTrips,
    TextCost,
    fertility,
    round_trips,
)

__all__ = [
    "Alternatives",
    "AttentionMaps",
    "AttentionReceived",
    "BlockZoom",
    "CacheEffect",
    "ChatToken",
    "ChatTokens",
    "CodeUsage",
    "ComparedToken",
    "CosineDrift",
    "EVICTION_POLICIES",
    "EffectiveRanks",
    "ErrorByValue",
    "ErrorMap",
    "EvictionReplay",
    "EvictionResult",
    "Fertility",
    "GGUFDiff",
    "GeneratedText",
    "HEAD_CLASSES",
    "HeadAblation",
    "HeadClasses",
    "ImatrixStatistics",
    "JsonComparison",
    "KLDivergence",
    "KVArrays",
    "KVGrowth",
    "KVNorms",
    "KV_ERROR_TYPES",
    "LatticeEvidence",
    "LayerDivergence",
    "LogitAttribution",
    "LogitDivergence",
    "LogitLens",
    "Memory",
    "MemoryModel",
    "MemoryPlan",
    "MemoryTerm",
    "NextToken",
    "NextTokenChange",
    "ODD_STRINGS",
    "OutlierChannels",
    "Parity",
    "PatchMap",
    "PatchScan",
    "Perplexity",
    "QuantError",
    "ResidualNorms",
    "RoundTrip",
    "RoundTrips",
    "SAMPLES",
    "SamplingSweep",
    "ScaleSpread",
    "Segment",
    "Size",
    "SizeBy",
    "SpeedRecord",
    "SpeedResult",
    "SpeedRun",
    "SpeedTest",
    "StageDifference",
    "StageRow",
    "TextCost",
    "TokenFinding",
    "TokenNode",
    "TokenTree",
    "TokenizerComparison",
    "Treemap",
    "TreemapRect",
    "VocabularyAudit",
    "ablate_each_head",
    "attention_maps",
    "attention_received",
    "audit_vocabulary",
    "block_zoom",
    "budget_by_family",
    "bytes_per_token",
    "chat_tokens",
    "code_usage",
    "collect_imatrix",
    "compare_logits",
    "compare_tokenizer_json",
    "compare_tokenizers",
    "copy_bandwidth",
    "cosine_drift",
    "dequantize_speed",
    "diff_gguf",
    "display_piece",
    "effective_ranks",
    "error_by_value",
    "error_change",
    "error_map",
    "error_pivot",
    "eviction_table",
    "fertility",
    "file_errors",
    "find_lattice",
    "follower_positions",
    "frontier",
    "full_logits",
    "generated_text",
    "head_classes",
    "imatrix_statistics",
    "judged_text",
    "kl_by_position",
    "kl_divergence",
    "kv_arrays",
    "kv_errors",
    "kv_frontier",
    "kv_growth",
    "kv_norms",
    "kv_type_table",
    "lattice_table",
    "layer_divergence",
    "logit_attribution",
    "logit_lens",
    "logits_without",
    "looks_of_heads",
    "matrices",
    "memory_by_part",
    "memory_model",
    "memory_plan",
    "metadata_table",
    "model_errors",
    "model_speed",
    "next_token",
    "next_token_change",
    "nmse",
    "open_speed",
    "outlier_channels",
    "parity",
    "parity_table",
    "patch_by_layer",
    "patch_by_position",
    "perplexity",
    "quant_error",
    "read_speed_record",
    "repeated_tokens",
    "replay_eviction",
    "residual_norms",
    "round_trips",
    "run_eviction",
    "sample_text",
    "sampling_speed",
    "sampling_sweep",
    "scale_spread",
    "script_of",
    "size_by",
    "speed_run",
    "speed_tests",
    "stage_strip",
    "stream_names",
    "stream_taps",
    "synthetic_model",
    "tensor_table",
    "token_budget",
    "tokenizer_speed",
    "treemap",
    "type_matrix",
    "weight_types",
]
