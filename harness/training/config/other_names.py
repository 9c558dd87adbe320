"""Names that are not ours: those of other trainers and those that were removed.

The error that rejects such a name says what to use instead.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

#: Trainer → its key → ours, with an explanation where one is needed.
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
        "sample_packing": "max_tokens_per_batch: rows of a step are laid end to end by themselves",
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
        "mask_history": "last_turn_only",
        "train_on_prompt": '"train": true on a message of the data',
        "infer_dtype": "dtype",
        "pure_bf16": 'dtype = "bfloat16"',
        "packing": "max_tokens_per_batch: rows of a step are laid end to end by themselves",
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
    "peft or unsloth": {
        "r": "lora_r",
        "target_modules": "lora_target_modules",
        "use_gradient_checkpointing": "gradient_checkpointing",
        "last_response_only": "last_turn_only",
    },
    "": {
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
        "paged_adamw": "paged_adamw_8bit",
    },
    "schema": {
        "chat_template": "messages",
        "chatml": "messages",
        "openai": "messages",
        "completion": "text",
        "pretrain": "text",
    },
}


#: section.key of a removed setting → the value that now always applies, and what to do instead.
_REMOVED: dict[str, tuple[Any, str]] = {
    "schedule.decay_type": ("1-sqrt", 'use lr_scheduler_type = "piecewise" with points'),
    "schedule.midpoint": (0.5, 'use lr_scheduler_type = "piecewise" with points'),
    "schedule.steepness": (10.0, 'use lr_scheduler_type = "piecewise" with points'),
    "objective.hold_native": (True, "the native side never has a gradient"),
    "evaluation.greater_is_better": (False, "lower is better in all logged metrics"),
    "auto_branch.branch_margin": (1.0, "use harness pick --margin, then harness branch"),
}
_REMOVED_VALUES = {
    "mixing": {"fixed": 'use "balanced"'},
    "optim": {"paged_adamw_32bit": 'use "paged_adamw_8bit"'},
}


def explain_key(key: str) -> str:
    """What to use instead of an unknown key, or ""."""
    for place, (_, instead) in _REMOVED.items():
        if place.endswith(f".{key}"):
            return f"removed: {instead}"
    for trainer, keys in _KEYS.items():
        if key in keys:
            return f"{trainer}'s name; " * bool(trainer) + f"here it is called {keys[key]}"
    return ""


def explain_value(place: str, value: object) -> str:
    """What to use instead of a value of ``section.key`` that is not one of ours, or ""."""
    key = place.rpartition(".")[2]
    if not isinstance(value, str):
        return ""
    if instead := _REMOVED_VALUES.get(key, {}).get(value):
        return f"removed: {instead}"
    ours = _VALUES.get(key, {}).get(value)
    return f"here it is called {ours}" if ours else ""


def without_removed(settings: dict[str, Any]) -> dict[str, Any]:
    """Recorded settings less the removed ones that had the value which now always applies."""
    kept = deepcopy(settings)
    for place, (value, _) in _REMOVED.items():
        section, key = place.split(".")
        if key in (table := kept.get(section, {})) and table[key] == value:
            del table[key]
    return kept


def with_removed(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as versions before the removal recorded them, section by section."""
    full = deepcopy(settings)
    for place, (value, _) in _REMOVED.items():
        section, key = place.split(".")
        if section in full:
            full[section][key] = value
    return full
