"""Tiny random models of the architectures whose layers are not all of Llama's kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tiny import build_tokenizer

VOCABULARY = 384
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
_NO_HEAD_DIM = {key: value for key, value in TEXT.items() if key != "head_dim"}
_GPT = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 2}
_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LINEAR_ATTENTION = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
}
_EYES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_GEMMA4 = {
    **TEXT,
    "global_head_dim": 32,
    "num_global_key_value_heads": 1,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 0,
    "layer_types": ["sliding_attention", "full_attention"],
}

#: transformers' model type → what its configuration needs.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": TEXT,
    "gpt2": {**_GPT, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "phi": _NO_HEAD_DIM,
    "mixtral": {**TEXT, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**TEXT, **_MOE, "shared_expert_intermediate_size": 48},
    "qwen3_moe": {**TEXT, **_MOE},
    "qwen3_next": {
        **TEXT,
        **_MOE,
        **_LINEAR_ATTENTION,
        "shared_expert_intermediate_size": 32,
    },
    "olmoe": {**TEXT, "num_experts": 4, "num_experts_per_tok": 2},
    "deepseek_v3": {
        **_NO_HEAD_DIM,
        "num_key_value_heads": 4,
        "moe_intermediate_size": 32,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 16,
        "q_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 16,
    },
    "glm4_moe": {
        **TEXT,
        "moe_intermediate_size": 32,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
    },
    "gpt_oss": {**TEXT, "num_local_experts": 4, "num_experts_per_tok": 2},
    "granitemoe": {**TEXT, "num_local_experts": 4, "num_experts_per_tok": 2},
    "llama4_text": {
        **TEXT,
        "intermediate_size_mlp": 96,
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 2,
    },
    "bloom": {**_GPT, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    "modernbert-decoder": {**_NO_HEAD_DIM, "sep_token_id": 2, "cls_token_id": 0},
    "git": {**_NO_HEAD_DIM, "vision_config": _EYES},
    "mamba": {
        **_GPT,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "state_size": 8,
        "pad_token_id": 2,
    },
    "rwkv": {**_GPT, "hidden_size": 64, "num_hidden_layers": 2, "context_length": 512},
    "falcon_h1": {
        **TEXT,
        "mamba_n_heads": 8,
        "mamba_d_head": 16,
        "mamba_n_groups": 1,
        "mamba_d_state": 16,
        "mamba_d_ssm": 128,
    },
    "gemma3n_text": {
        **TEXT,
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 0,
        "laurel_rank": 4,
        "altup_num_inputs": 2,
        "layer_types": ["sliding_attention", "full_attention"],
        "activation_sparsity_pattern": [0.5, 0.0],
        "intermediate_size": [96, 96],
    },
    "gemma4_text": _GEMMA4,
    "gemma3": {
        "text_config": TEXT,
        "vision_config": _EYES,
        "mm_tokens_per_image": 4,
        "boi_token_index": 380,
        "eoi_token_index": 381,
        "image_token_index": 382,
    },
    "gemma4": {
        "text_config": _GEMMA4,
        "vision_config": {**_EYES, "num_key_value_heads": 2, "head_dim": 16},
        "audio_config": None,
        "boi_token_id": 380,
        "eoi_token_id": 381,
        "image_token_id": 382,
        "audio_token_id": 383,
        "video_token_id": 379,
    },
    "mistral3": {
        "text_config": {**TEXT, "model_type": "mistral", "sliding_window": None},
        "vision_config": {**_EYES, "model_type": "pixtral"},
        "image_token_index": 382,
        "spatial_merge_size": 1,
    },
    "qwen3_5": {
        "text_config": {**TEXT, **_LINEAR_ATTENTION},
        "vision_config": {
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "patch_size": 14,
        },
    },
    "llama4": {
        "text_config": {
            **TEXT,
            "intermediate_size_mlp": 96,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 2,
        },
        "vision_config": {
            **_EYES,
            "vision_output_dim": 64,
            "projector_input_dim": 64,
            "projector_output_dim": 64,
        },
    },
}


def make_config(name: str, **changes: Any) -> Any:
    """The configuration of a tiny model of this architecture."""
    from transformers import AutoConfig

    return AutoConfig.for_model(name, **{**ARCHITECTURES[name], **changes})


def make_model(name: str, **changes: Any) -> Any:
    """A random model, with weights so large that every part changes the logits."""
    import torch

    from harness.models.architecture import pick_class

    config = make_config(name, **changes)
    torch.manual_seed(0)
    model = pick_class(config, name).from_config(config).float().eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "conv" not in parameter_name and "time" not in parameter_name:
                parameter.copy_(torch.randn(parameter.shape) * parameter.shape[-1] ** -0.5)
    return model


def build(name: str, folder: Path, **changes: Any) -> Path:
    """Write such a model and a tokenizer."""
    make_model(name, **changes).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder
