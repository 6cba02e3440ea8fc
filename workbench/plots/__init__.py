"""Pictures: a dataclass of `analysis` and an axes in, the axes out. Nothing is computed here.

Colours stay apart for colour-blind readers; axes carry units.
"""

from .attention import (
    plot_attention_head,
    plot_attention_tiles,
    plot_head_ablation,
    plot_next_token_change,
)
from .chat_tokens import chat_tokens_html
from .file_map import plot_memory, plot_size_by, plot_treemap
from .file_strip import plot_file_strip, plot_memory_model, plot_type_matrix
from .generated_text import generated_text_html, plot_generated_text
from .kv_arrays import (
    plot_channel_map,
    plot_channel_shares,
    plot_cosine_drift,
    plot_effective_ranks,
    plot_kv_errors,
)
from .kv_eviction import plot_kept_positions, plot_kv_frontier, plot_lost_attention
from .kv_growth import (
    plot_attention_received,
    plot_kv_growth,
    plot_kv_norms,
    plot_received_by_head,
)
from .kv_heads import plot_head_classes, plot_head_looks
from .kv_step import plot_head_shares, plot_layer_shares
from .layers import (
    plot_head_attribution,
    plot_layer_attribution,
    plot_layer_divergence,
    plot_patch_map,
    plot_patch_scan,
    plot_residual_norms,
)
from .logit_lens import plot_logit_lens
from .next_token import plot_next_token
from .quant_error import (
    plot_block,
    plot_code_usage,
    plot_error_by_value,
    plot_error_change,
    plot_error_heatmap,
    plot_error_map,
    plot_frontier,
    plot_scales,
)
from .sampling_sweep import plot_acceptance, plot_sampling_sweep
from .speed import (
    plot_family_times,
    plot_launch_gaps,
    plot_memory_plan,
    plot_roofline,
    plot_speed_record,
    plot_token_budget,
)
from .stage_strip import plot_stage_strip, stage_strip_html
from .token_trace import pieces_html, plot_merge_ranks, plot_merge_tree, plot_pieces
from .token_tree import plot_token_tree
from .tokenizer_compare import plot_tokenizer_comparison
from .vocabulary import plot_fertility, plot_vocabulary_audit

__all__ = [
    "chat_tokens_html",
    "generated_text_html",
    "pieces_html",
    "plot_acceptance",
    "plot_attention_head",
    "plot_attention_received",
    "plot_attention_tiles",
    "plot_block",
    "plot_channel_map",
    "plot_channel_shares",
    "plot_code_usage",
    "plot_cosine_drift",
    "plot_effective_ranks",
    "plot_error_by_value",
    "plot_error_change",
    "plot_error_heatmap",
    "plot_error_map",
    "plot_family_times",
    "plot_fertility",
    "plot_file_strip",
    "plot_frontier",
    "plot_generated_text",
    "plot_head_ablation",
    "plot_head_attribution",
    "plot_head_classes",
    "plot_head_looks",
    "plot_head_shares",
    "plot_kept_positions",
    "plot_kv_errors",
    "plot_kv_frontier",
    "plot_kv_growth",
    "plot_kv_norms",
    "plot_launch_gaps",
    "plot_layer_attribution",
    "plot_layer_divergence",
    "plot_layer_shares",
    "plot_logit_lens",
    "plot_lost_attention",
    "plot_memory",
    "plot_memory_model",
    "plot_memory_plan",
    "plot_merge_ranks",
    "plot_merge_tree",
    "plot_next_token",
    "plot_next_token_change",
    "plot_patch_map",
    "plot_patch_scan",
    "plot_pieces",
    "plot_received_by_head",
    "plot_residual_norms",
    "plot_roofline",
    "plot_sampling_sweep",
    "plot_scales",
    "plot_size_by",
    "plot_speed_record",
    "plot_stage_strip",
    "plot_token_budget",
    "plot_token_tree",
    "plot_tokenizer_comparison",
    "plot_treemap",
    "plot_type_matrix",
    "plot_vocabulary_audit",
    "stage_strip_html",
]
