"""Tiny multimodal models: a text decoder of two to four layers beside a small vision tower."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from tests.tiny import build_tokenizer

#: The tokenizer of tests.tiny has 355 tokens at most; the ids of images lie behind them.
VOCABULARY = 376
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
KINDS = ("gemma3", "mistral3", "qwen3_5", "llama4")


def config(kind: str):
    import transformers as T

    if kind == "gemma3":
        return T.Gemma3Config(
            text_config={**TEXT, "sliding_window": 24, "query_pre_attn_scalar": 16},
            vision_config=VISION,
            mm_tokens_per_image=4,
            boi_token_index=370,
            eoi_token_index=371,
            image_token_index=372,
        )
    if kind == "mistral3":
        return T.Mistral3Config(
            text_config={**TEXT, "model_type": "mistral", "sliding_window": None},
            vision_config={**VISION, "model_type": "pixtral"},
            image_token_index=372,
            spatial_merge_size=1,
        )
    if kind == "qwen3_5":
        return T.Qwen3_5Config(
            text_config={
                **TEXT,
                "num_hidden_layers": 4,
                "linear_num_value_heads": 4,
                "linear_num_key_heads": 2,
                "linear_key_head_dim": 16,
                "linear_value_head_dim": 16,
            },
            vision_config={
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_heads": 2,
                "out_hidden_size": 64,
                "patch_size": 14,
            },
        )
    return T.Llama4Config(
        text_config={
            **TEXT,
            "num_hidden_layers": 4,
            "intermediate_size": 64,
            "intermediate_size_mlp": 128,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "attention_chunk_size": 24,
            "interleave_moe_layer_step": 2,
            "no_rope_layers": [1, 1, 1, 0],
        },
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "vision_output_dim": 64,
            "image_size": 28,
            "patch_size": 14,
            "projector_input_dim": 64,
            "projector_output_dim": 64,
        },
    )


def skip_where_broken(kind: str) -> None:
    """transformers 5.24.0 has no ``image_outputs`` for a Llama 4 that was given no picture."""
    if kind == "llama4" and transformers.__version__ == "5.24.0":
        pytest.skip("transformers 5.24.0: Llama 4 fails on text without a picture")


def build(kind: str, folder: Path) -> None:
    """Write a random multimodal model and its tokenizer."""
    import torch
    from transformers import AutoModelForImageTextToText

    skip_where_broken(kind)
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config(kind)).float().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
