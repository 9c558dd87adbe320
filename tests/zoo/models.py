"""A tiny random model of every architecture that transformers loads as a language model.

``build(name, folder)`` writes one as people store it, with a tokenizer: two layers, or one of each
kind, 384 tokens, windows of 24 tokens, and weights so large that no part can be left out unseen.
The architectures are those of transformers' own tables, their sizes those of ``SIZES``. What this
gets wrong for an architecture is one line of ``CHANGES``; another setting of it is one line of
``VARIANTS``; one that the tables lack is one line of ``MORE``.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from tests.tiny import build_tokenizer

VOCABULARY, WINDOW, POSITIONS = 384, 24, 2048

#: A size, and the fields of configurations that get it. What is None by default stays None.
_SIZES = f"""
{VOCABULARY} vocab_size vocab_size_per_layer_input unpadded_vocab_size
{POSITIONS} max_position_embeddings n_positions n_ctx max_seq_len context_length
{WINDOW} sliding_window sliding_window_size attention_window_size attention_chunk_size window_size
{WINDOW} local_attention keep_window_size
2   num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers depth
2   num_encoder_layers num_decoder_layers conf_num_hidden_layers
64  hidden_size d_model n_embd emb_dim embed_dim lru_width word_embed_proj_dim projection_dim
64  vision_output_dim out_hidden_size output_hidden_size projector_input_dim projector_output_dim
64  adapter_input_size adapter_in_dim adapter_out_dim
128 intermediate_size ffn_dim dff dim_ff d_inner encoder_ffn_dim decoder_ffn_dim feed_forward_size
128 ffn_hidden_size intermediate_size_mlp dense_intermediate_size mamba_d_ssm
4   num_attention_heads n_head n_heads num_heads attention_heads encoder_attention_heads
4   decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads
4   swa_num_attention_heads linear_num_value_heads linear_num_heads
2   num_key_value_heads num_kv_heads kv_n_heads swa_num_key_value_heads linear_num_key_heads
2   altup_num_inputs
16  index_n_heads
16  head_dim dim_head d_head swa_head_dim v_head_dim kv_channels index_head_dim mamba_head_dim
16  linear_head_dim linear_key_head_dim linear_value_head_dim attention_head_size
16  kv_lora_rank q_lora_rank o_lora_rank gated_norm_rank adapter_rank laurel_rank
16  mamba_d_state state_size ssm_state_size index_topk query_pre_attn_scalar
8   qk_nope_head_dim qk_rope_head_dim rotary_dim hidden_size_per_layer_input
8   mamba_n_heads mamba_num_heads n_mamba_heads
32  moe_intermediate_size expert_ffn_hidden_size embedding_size input_embedding_size global_head_dim
32  router_hidden_size mamba_chunk_size chunk_size block_size
48  shared_expert_intermediate_size shared_experts_intermediate_size shared_intermediate_size
48  moe_shared_expert_intermediate_size output_embedding_size
4   num_experts num_local_experts n_routed_experts moe_num_experts
2   num_experts_per_tok moe_k moe_topk moe_top_k top_k_experts zero_expert_num
1   n_group topk_group n_groups mamba_n_groups first_k_dense_replace num_dense_layers
1   n_shared_experts num_shared_experts moe_num_shared_experts
2.0 embedding_multiplier logits_scaling
0.5 residual_multiplier attention_multiplier
28  image_size
14  patch_size
"""
SIZES = {
    name: float(size) if "." in size else int(size)
    for size, *of in map(str.split, _SIZES.strip().splitlines())
    for name in of
}

_GEMMA_3N = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2,
    "intermediate_size": [128] * 4,
    "activation_sparsity_pattern": [0.5, 0.5, 0.0, 0.0],
}
_GEMMA_4 = {"global_head_dim": 32, "num_global_key_value_heads": 1}
_EYES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
_LLAMA_4 = {"no_rope_layers": [1, 0], "interleave_moe_layer_step": 2, "num_experts_per_tok": 1}
_QWEN_4 = {
    "ngram_vocab_size_base": 256,
    "split_ngram_parts": 2,
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 16,
    "indexer_compress_ratio": 4,
}
#: Latent attention has as many key heads as query heads.
_OWN_HEADS = {"num_key_value_heads": 4}
_DOTS_3 = {
    "num_key_value_heads": 4,
    "per_layer_config": {
        0: {"head_dim": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 16}
    },
}
#: Architecture → what it needs beside SIZES. A part's settings are in its own dictionary.
CHANGES: dict[str, dict[str, Any]] = {
    "axk2": _OWN_HEADS,
    "bamba": {"attn_layer_indices": [1]},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4}
            for kind in ("sliding_attention", "full_attention")
        },
    },
    "dbrx": {"attn_config": {"rope_theta": 1e4, "clip_qkv": 8}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "deepseek_v32": _OWN_HEADS,
    "deepseek_v4": {
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8}
    },
    "doge": {"keep_window_size": POSITIONS},  # beyond it equal words tie for the last place
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note": {"text_config": _DOTS_3},
    "dots3_note_text": _DOTS_3,
    "emu3": {"vocabulary_map": {"<image>": VOCABULARY - 1}, "vq_config": {"base_channels": 32}},
    "gemma3n": {"text_config": _GEMMA_3N},
    "gemma3n_text": _GEMMA_3N,
    "gemma4": {"text_config": _GEMMA_4, "vision_config": _EYES},
    "gemma4_text": _GEMMA_4,
    "gemma4_unified": {
        "text_config": _GEMMA_4,
        "vision_config": {"mm_embed_dim": 32, "mm_posemb_size": 16, "output_proj_dims": 32},
    },
    "gemma4_unified_text": _GEMMA_4,
    "glm_moe_dsa": _OWN_HEADS,
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "llama": {"num_key_value_heads": 2},
    "llama4": {"text_config": _LLAMA_4},
    "llama4_text": _LLAMA_4,
    "longcat_flash": {"head_dim": 8},
    "mamba2": {"num_heads": 8},
    "mllama": {
        "text_config": {"num_hidden_layers": 3, "cross_attention_layers": [1]},
        "vision_config": {"intermediate_layers_indices": [0, 1], "num_global_layers": 1},
    },
    "qwen2_5_vl": {
        "text_config": {
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [2, 3, 3],
            }
        }
    },
    "qwen4_exp": {"text_config": _QWEN_4},
    "qwen4_exp_text": _QWEN_4,
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [32, 64],
        "axial_pos_embds_dim": [32, 32],
    },
    "roc_bert": {"pronunciation_embed_dim": 16, "shape_embed_dim": 16, "shape_vocab_size": 100},
    "smollm3": {"no_rope_layers": [1, 0]},
    "xlstm": {"qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zaya": {"num_experts_per_tok": 1},
}

#: Name → architecture and settings: what people change in one architecture.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama (biases, tied)": (
        "llama",
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    ),
    "llama (llama3 positions)": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 256,
            }
        },
    ),
    "llama (yarn positions)": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 128,
            }
        },
    ),
    "llama (dynamic positions)": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "mistral (no window)": ("mistral", {"sliding_window": None}),
    "qwen2 (window)": (
        "qwen2",
        {
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "layer_types": ["full_attention", "sliding_attention"],
        },
    ),
    "phi3 (long positions)": (
        "phi3",
        {
            "max_position_embeddings": 512,
            "original_max_position_embeddings": 64,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "short_factor": [1.0] * 8,
                "long_factor": [4.0] * 8,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    "gpt_neo (window 64)": ("gpt_neo", {"window_size": 64}),
    "falcon (ALiBi)": (
        "falcon",
        {"alibi": True, "multi_query": False, "parallel_attn": False, "num_kv_heads": 4},
    ),
    "granitemoehybrid (attention)": (
        "granitemoehybrid",
        {
            "layer_types": ["attention", "attention"],
            "num_local_experts": 0,
            "position_embedding_type": "rope",
        },
    ),
}

#: Architectures outside transformers' table of causal language models: text models with eyes.
MORE = ("mistral3", "qwen3_vl", "qwen2_5_vl", "llava")

#: Architectures of the table that are no language model of text, and why.
LEFT_OUT = {
    "musicgen": "tokens of sound",
    "musicgen_melody": "tokens of sound",
    "moshi": "tokens of sound",
    "whisper": "half of a speech recogniser",
    "trocr": "half of a text recogniser",
    "blt": "reads bytes, cut into patches by another model",
    "gemma4_assistant": "drafts from another model's states",
    "gemma4_unified_assistant": "drafts from another model's states",
}

#: Set also where the default is to derive them.
_NEEDED = ("head_dim", "num_key_value_heads")
#: Parameters that set how fast a state decays: at random it would explode.
_DYNAMICS = re.compile(
    r"A_log|dt_bias|\bD$|time_(decay|first|mix)|rg_lru|inv_freq|layer_scalar|_alpha$|lambda_"
)
_SPECIAL_ID = re.compile(r"_token_(id|index)$")
_OF_PICTURES = re.compile(r"(image|video|audio|vision_\w+|bo[ia]|eo[ia])_token_(id|index)$")


def names() -> list[str]:
    """Every architecture and variant, by name."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as TABLE

    return sorted((TABLE.keys() - LEFT_OUT.keys()) | {*MORE, *VARIANTS})


def build(name: str, folder: Path) -> None:
    """Write the model's folder: configuration, weights, tokenizer and chat template."""
    import torch
    from transformers import CONFIG_MAPPING

    architecture, changes = VARIANTS.get(name, (name, {}))
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    config = shrunk(
        CONFIG_MAPPING[architecture](), CHANGES.get(architecture, {}) | changes, tokenizer
    )
    model = stored_class(architecture)(config).float().eval()
    enlarge(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def stored_class(architecture: str) -> Any:
    """The class that such a model is stored as: with its eyes, or with its encoder."""
    import transformers
    from transformers.models.auto import modeling_auto

    for table in ("IMAGE_TEXT_TO_TEXT", "SEQ_TO_SEQ_CAUSAL_LM", "CAUSAL_LM"):
        known = getattr(modeling_auto, f"MODEL_FOR_{table}_MAPPING_NAMES")
        if architecture in known:
            return getattr(transformers, known[architecture])
    raise KeyError(architecture)


def shrunk(default: Any, changes: dict[str, Any], tokenizer: Any) -> Any:
    """A configuration of the same kind in the sizes of SIZES, its parts as well.

    It has a layer of each kind that the default has, no dropout, and the tokenizer's ids. Ids of pictures and
    the like are the last of the vocabulary, which the tokenizer does not use.
    """
    from transformers import PreTrainedConfig

    ids = iter(range(VOCABULARY - 1, len(tokenizer), -1))
    made = _layers(default)
    for field in sorted(dataclasses.fields(default), key=lambda field: field.name):
        name, value = field.name, _value(default, field.name)
        if isinstance(value, PreTrainedConfig):
            made[name] = shrunk(value, changes.get(name, {}), tokenizer)
        elif name in changes:
            made[name] = changes[name]
        elif name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            made[name] = getattr(tokenizer, name)
        elif isinstance(value, int) and (
            _OF_PICTURES.search(name) or (_SPECIAL_ID.search(name) and value >= len(tokenizer))
        ):
            made[name] = next(ids)
        elif name in SIZES and (isinstance(value, int | float) or name in _NEEDED):
            made.setdefault(name, SIZES[name])
        elif isinstance(value, float) and "drop" in name:
            made[name] = 0.0
        elif isinstance(value, str | bool | None) and value != field.default:
            made.setdefault(name, value)
    more = {name: value for name, value in changes.items() if name not in made}
    return type(default)(**made | more)


def _value(config: Any, name: str) -> Any:
    """A setting for all layers, also where single ones have their own, which transformers hides."""
    return vars(config)[name] if name in vars(config) else getattr(config, name, None)


def _layers(default: Any) -> dict[str, Any]:
    """One layer of each kind, and at least two: of attention, and of what follows it."""
    fields = {field.name for field in dataclasses.fields(default)}
    kinds = {
        name: list(dict.fromkeys(value))
        for name in sorted(fields)
        if name in ("layer_types", "mlp_layer_types", "layers_block_type")
        and (value := _value(default, name))
    }
    if not kinds:
        return {}
    count = max(2, *map(len, kinds.values()))
    lists = {name: [of[at % len(of)] for at in range(count)] for name, of in kinds.items()}
    return {"num_hidden_layers": count, **lists}


def enlarge(model: Any) -> None:
    """Give every weight a size at which it matters; what sets a state's decay stays as it is."""
    import torch

    random = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if _DYNAMICS.search(name) or not weight.is_floating_point():
            continue
        noise = torch.randn(weight.shape, generator=random)
        with torch.no_grad():
            if weight.ndim < 2:
                weight.add_(0.3 * noise)
            else:
                weight.copy_(noise * (0.5 if "embed" in name else 1.2 / weight.shape[-1] ** 0.5))
