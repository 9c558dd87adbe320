"""What other trainers call our keys and values, named in the error that rejects them."""

from __future__ import annotations

#: (whose, its key) → ours. Where theirs needs a word of explanation, ours carries it.
_KEYS = {
    "axolotl": {
        "base_model": "model",
        "num_epochs": "num_train_epochs",
        "micro_batch_size": "per_device_train_batch_size",
        "eval_batch_size": "max_tokens_per_batch",
        "sequence_len": "max_length",
        "lora_target_linear": 'lora_target_modules = "all-linear"',
        "peft_use_dora": "use_dora",
        "peft_use_rslora": "use_rslora",
        "lr_scheduler": "lr_scheduler_type",
        "cosine_min_lr_ratio": "min_lr_ratio",
        "optimizer": "optim",
        "datasets": "data.train",
        "chat_template": "formats.train",
        "bf16": 'dtype = "bfloat16"',
        "fp16": 'dtype = "float16"',
        "saves_per_epoch": "save_steps",
        "wandb_project": "project",
        "wandb_name": "run_name",
        "sample_packing": "max_tokens_per_batch; rows are batched by length, never joined",
        "train_on_inputs": '"train": true on a message of the data',
        "roles_to_train": '"train": true on a message of the data',
        "type": "schema",
    },
    "LLaMA-Factory": {
        "model_name_or_path": "model",
        "cutoff_len": "max_length",
        "lora_rank": "lora_r",
        "lora_target": "lora_target_modules",
        "quantization_bit": "load_in_4bit",
        "quantization_type": "bnb_4bit_quant_type",
        "double_quantization": "bnb_4bit_use_double_quant",
        "dataset": "data.train",
        "interleave_probs": "the weights of data.train",
        "mix_strategy": "the weights of data.train",
        "template": "formats.train",
        "mask_history": '"train": false on a message of the data',
        "train_on_prompt": '"train": true on a message of the data',
        "infer_dtype": "dtype",
        "pure_bf16": 'dtype = "bfloat16"',
        "packing": "max_tokens_per_batch; rows are batched by length, never joined",
        "formatting": "schema",
    },
    "TRL or transformers": {
        "max_seq_length": "max_length",
        "torch_dtype": "dtype",
        "bnb_4bit_compute_dtype": "dtype",
        "activation_checkpointing": "gradient_checkpointing",
        "use_bnb_nested_quant": "bnb_4bit_use_double_quant",
        "lr_scheduler_kwargs": "the keys of [schedule]",
        "dataset_name": "data.train",
        "assistant_only_loss": "always so",
        "completion_only_loss": "always so",
        "min_lr_rate": "min_lr_ratio",
        "num_decay_steps": "decay_ratio",
        "per_device_eval_batch_size": "max_tokens_per_batch",
        "eval_steps": "save_steps: what is saved is measured",
    },
    "peft or unsloth": {"r": "lora_r", "target_modules": "lora_target_modules"},
    "everyday speech": {
        "lr": "learning_rate",
        "epochs": "num_train_epochs",
        "batch_size": "per_device_train_batch_size",
        "alpha": "lora_alpha",
        "rank": "lora_r",
    },
}

#: Values of other spellings, by our key.
_VALUES = {
    "lr_scheduler_type": {
        "wsd": "warmup_stable_decay",
        "cosine-restarts": "cosine_with_restarts",
        "constant_with_warmup": "constant, with warmup_ratio or warmup_steps",
        "cosine_with_min_lr": "cosine, with min_lr_ratio",
        "rex": "sigmoid",
        "polynomial": "linear, or piecewise",
        "inverse_sqrt": "piecewise",
    },
    "optim": {
        "adamw_torch_fused": "adamw_torch, which is fused where it can be",
        "adamw": "adamw_torch",
        "adamw_bnb_8bit": "adamw_8bit",
        "paged_adamw": "paged_adamw_32bit",
    },
    "schema": {
        "chat_template": "messages",
        "chatml": "messages",
        "openai": "messages",
        "completion": "text",
        "pretrain": "text",
    },
}


def foreign_key(key: str) -> str:
    """What a key of another trainer is called here, or ""."""
    for whose, keys in _KEYS.items():
        if key in keys:
            return (
                f"here it is called {keys[key]}"
                if whose == "everyday speech"
                else f"{whose}'s name; here it is called {keys[key]}"
            )
    return ""


def foreign_value(key: str, value: object) -> str:
    """What a value of another spelling is called here, or ""."""
    ours = _VALUES.get(key.rsplit(".", 1)[-1], {}).get(value) if isinstance(value, str) else None
    return f"here it is called {ours}" if ours else ""
