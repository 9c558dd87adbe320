"""Tiny random models, one of each kind of cache that transformers has, and the engine of each.

The weights are so large that every part matters; windows, chunks and blocks are shorter than the
prompts of the tests.
"""

from __future__ import annotations

import re
from dataclasses import replace

WINDOW, CHUNK = 24, 32
PADDED, SINGLE, UNCACHED = "padded rows", "single rows", "single rows without cache"

_MIXED = {"num_hidden_layers": 3, "layer_types": ["mamba", "attention", "mamba"]}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_DELTA = {
    "num_hidden_layers": 4,
    "head_dim": 16,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
}
_MAMBA = {
    "mamba_n_heads": 8,
    "mamba_n_groups": 1,
    "mamba_d_state": 16,
    "mamba_d_head": 16,
    "mamba_expand": 2,
    "mamba_chunk_size": CHUNK,
}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 8,
    "long_factor": [4.0] * 8,
    "original_max_position_embeddings": 96,
}

#: Name → architecture, its settings, and how the description of its engine begins.
MODELS: dict[str, tuple[str, dict, str]] = {
    # keys and values
    "llama": ("llama", {}, "fast"),
    "qwen3": ("qwen3", {"head_dim": 16}, "modules"),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}, PADDED),
    "falcon with ALiBi": (
        "falcon",
        {"alibi": True, "multi_query": False, "parallel_attn": False},
        PADDED,
    ),
    # windows and chunks
    "mistral": (
        "mistral",
        {"sliding_window": WINDOW},
        f"fast up to {WINDOW} tokens, then {PADDED}",
    ),
    "gemma2": (
        "gemma2",
        {"head_dim": 16, "sliding_window": WINDOW, "query_pre_attn_scalar": 16},
        f"modules up to {WINDOW} tokens, then {PADDED}",
    ),
    "gpt_neo": ("gpt_neo", {"window_size": WINDOW}, PADDED),
    "gpt_neo, a wider window": ("gpt_neo", {"window_size": 64}, PADDED),
    "llama4": (
        "llama4_text",
        {
            "head_dim": 16,
            "num_hidden_layers": 4,
            "intermediate_size_mlp": 128,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "attention_chunk_size": WINDOW,
            "no_rope_layers": [1, 1, 1, 0],
        },
        PADDED,
    ),
    # an indexer of two heads, whose scores tie at zero: the sixteen keys that it leaves depend on
    # the length of the row
    "deepseek_v32": (
        "deepseek_v32",
        {
            **_EXPERTS,
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "kv_lora_rank": 16,
            "q_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 8,
            "v_head_dim": 16,
            "index_topk": 16,
            "index_n_heads": 2,
            "index_head_dim": 16,
        },
        UNCACHED,
    ),
    # positions that depend on the longest row
    "phi3 with longrope": (
        "phi3",
        {
            "sliding_window": None,
            "max_position_embeddings": 512,
            "original_max_position_embeddings": 96,
            "rope_parameters": _LONGROPE,
        },
        f"modules up to 96 tokens, then {PADDED}",
    ),
    # states and convolutions
    "mamba": ("mamba", {"state_size": 8}, PADDED),
    "mamba2": (
        "mamba2",
        {"state_size": 16, "num_heads": 8, "head_dim": 16, "n_groups": 1, "chunk_size": CHUNK},
        PADDED,
    ),
    "falcon_mamba": ("falcon_mamba", {"state_size": 8}, PADDED),
    "rwkv": ("rwkv", {"context_length": 1024}, SINGLE),
    "recurrent_gemma": (
        "recurrent_gemma",
        {
            "num_hidden_layers": 3,
            "num_key_value_heads": 1,
            "lru_width": 64,
            "attention_window_size": WINDOW,
            "head_dim": 16,
        },
        UNCACHED,
    ),
    "minimax": (
        "minimax",
        {
            "layer_types": ["linear_attention", "full_attention"],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "head_dim": 16,
            "block_size": CHUNK,
        },
        SINGLE,
    ),
    # both
    "qwen3_5": ("qwen3_5_text", _DELTA, PADDED),
    "qwen3_next": (
        "qwen3_next",
        {**_DELTA, **_EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 32},
        PADDED,
    ),
    "granite 4": (
        "granitemoehybrid",
        {
            **_MIXED,
            **_MAMBA,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "shared_intermediate_size": 64,
        },
        PADDED,
    ),
    "lfm2": (
        "lfm2",
        {
            "num_hidden_layers": 3,
            "layer_types": ["conv", "full_attention", "conv"],
            "block_ff_dim": 128,
            "block_auto_adjust_ff_dim": False,
        },
        PADDED,
    ),
    "jamba": (
        "jamba",
        {
            "num_hidden_layers": 4,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
        PADDED,
    ),
    "bamba": ("bamba", {**_MAMBA, "num_hidden_layers": 3, "attn_layer_indices": [1]}, PADDED),
    "zamba2": (
        "zamba2",
        {
            "num_hidden_layers": 3,
            "num_key_value_heads": 4,
            "mamba_d_state": 16,
            "n_mamba_heads": 8,
            "mamba_ngroups": 1,
            "layers_block_type": ["mamba", "hybrid", "mamba"],
            "num_mem_blocks": 1,
            "use_mem_rope": True,
            "chunk_size": CHUNK,
            "attention_hidden_size": 128,
            "attention_head_dim": 32,
        },
        PADDED,
    ),
    "nemotron_h": (
        "nemotron_h",
        {
            "num_hidden_layers": 3,
            "layers_block_type": ["mamba", "attention", "moe"],
            "mamba_num_heads": 8,
            "mamba_head_dim": 16,
            "n_groups": 1,
            "ssm_state_size": 16,
            "chunk_size": CHUNK,
        },
        PADDED,
    ),
    "falcon_h1": ("falcon_h1", {**_MAMBA, "mamba_d_ssm": 128}, PADDED),
}

#: Sizes of every model that does not set another.
_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
#: Architectures whose attention and layers have names and sizes of their own.
_OF_THEIR_OWN = {
    "bloom": {"hidden_size": 64},
    "mamba": {"hidden_size": 64, "num_hidden_layers": 2},
    "mamba2": {"hidden_size": 64, "num_hidden_layers": 2},
    "falcon_mamba": {"hidden_size": 64, "num_hidden_layers": 2},
    "rwkv": {"hidden_size": 64, "num_hidden_layers": 2},
    "gpt_neo": {
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "max_position_embeddings": 1024,
        "intermediate_size": 128,
    },
}
#: Parameters that set how fast a state decays: large ones would make it explode.
_DECAYS = re.compile(r"A_log|dt_bias|\bD$|time_|rg_lru|_alpha")


def cache_model(name, tiny):
    """The model in evaluation mode, with the tiny model's tokenizer, as it is when loaded."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    architecture, settings, _ = MODELS[name]
    tokenizer = tiny.tokenizer
    config = AutoConfig.for_model(
        architecture,
        vocab_size=384,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **{**_OF_THEIR_OWN.get(architecture, _SIZES), **settings},
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    enlarge(model)
    return replace(tiny, model=model.to(tiny.device))


def enlarge(model):
    """Give every weight a size at which it matters."""
    import torch

    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=random)
            if _DECAYS.search(name):
                continue
            if weight.ndim < 2:
                weight.add_(0.3 * noise)
            else:
                weight.copy_(noise * (0.5 if "embed" in name else 1.2 / weight.shape[-1] ** 0.5))
