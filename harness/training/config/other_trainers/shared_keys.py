"""Keys of transformers' TrainingArguments, which TRL, unsloth, LLaMA-Factory and axolotl share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.training.config.other_trainers.draft import Changed, Draft, Refused

MORE_FORMATS = "--formats common trains across formats"
#: Same name and meaning there and here: their key → our setting.
SAME = {
    **{
        key: f"optimisation.{key}"
        for key in (
            "learning_rate",
            "gradient_accumulation_steps",
            "weight_decay",
            "max_grad_norm",
            "adam_beta1",
            "adam_beta2",
            "adam_epsilon",
            "loraplus_lr_ratio",
        )
    },
    "output_dir": "output_dir",
    "seed": "seed",
    "lora_r": "adapter.lora_r",
    "lora_alpha": "adapter.lora_alpha",
    "lora_dropout": "adapter.lora_dropout",
    "run_name": "tracking.run_name",
}
_OPTIMISERS = {
    "adamw_torch": "adamw_torch",
    "adamw_torch_fused": "adamw_torch",
    "adamw_hf": "adamw_torch",
    "adamw": "adamw_torch",
    "adamw_8bit": "adamw_8bit",
    "adamw_bnb_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
}
_SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant",
    "cosine_with_restarts": "cosine_with_restarts",
    "cosine_with_min_lr": "cosine",
    "polynomial": "linear",
    "warmup_stable_decay": "warmup_stable_decay",
}
_TRACKERS = ("tensorboard", "wandb", "trackio")


def shared_keys(draft: Draft) -> None:
    """Keep what all these trainers spell alike."""
    for key, place in SAME.items():
        draft.take(key, place)
    for key in ("use_rslora", "use_dora"):
        draft.take(key, f"adapter.{key}")
    draft.take("max_steps", "optimisation.max_steps", _steps)
    draft.take("save_total_limit", "checkpoints.save_total_limit")
    _precision(draft)
    _tracking(draft)
    _saving(draft)
    draft.take("gradient_checkpointing", "optimisation.gradient_checkpointing", _switch)
    draft.take("activation_checkpointing", "optimisation.gradient_checkpointing", _switch)


def quantisation(draft: Draft) -> None:
    """The keys of BitsAndBytesConfig."""
    for key in ("load_in_4bit", "load_in_8bit"):
        draft.take(key, f"quantisation.{key}")
    draft.take("bnb_4bit_quant_type", "quantisation.bnb_4bit_quant_type")
    for key in ("use_bnb_nested_quant", "bnb_4bit_use_double_quant"):
        draft.take(key, "quantisation.bnb_4bit_use_double_quant")


def optimiser(draft: Draft, key: str) -> None:
    """The optimiser under its key."""

    def convert(name: Any) -> Any:
        if name == "paged_adamw_32bit":
            return Changed("paged_adamw_8bit", "its states have 8 bits here, not 32")
        return _OPTIMISERS.get(str(name)) or Refused("not an optimiser here: adamw_torch is taken")

    draft.take(key, "optimisation.optim", convert)


def schedule(draft: Draft, key: str) -> None:
    """The learning-rate schedule under its key, with its warm-up and its kwargs."""
    given = str(draft.left.get(key, ""))

    def convert(name: Any) -> Any:
        ours = _SCHEDULES.get(str(name))
        if ours is None:
            return Refused("not a schedule here: cosine is taken")
        if name == "warmup_stable_decay":
            return Changed(ours, "the rate falls as 1 − √ over the last decay_ratio of the steps")
        return ours

    draft.take(key, "schedule.lr_scheduler_type", convert)
    kwargs = draft.left.get("lr_scheduler_kwargs")
    if isinstance(kwargs, dict):
        del draft.left["lr_scheduler_kwargs"]
        draft.left |= {f"lr_scheduler_kwargs.{name}": value for name, value in kwargs.items()}
    for prefix in ("lr_scheduler_kwargs.", ""):
        for name in ("min_lr_rate", "min_lr_ratio"):
            draft.take(f"{prefix}{name}", "schedule.min_lr_ratio")
    draft.take("lr_scheduler_kwargs.min_lr", "schedule.min_lr_ratio", _share_of_rate(draft))
    if given == "cosine_with_restarts":
        draft.take("lr_scheduler_kwargs.num_cycles", "schedule.num_cycles")
    if given == "constant":
        for name in ("warmup_steps", "warmup_ratio"):
            draft.drop(name, "transformers' constant schedule has no warm-up")
    _warmup(draft)


def _share_of_rate(draft: Draft) -> Any:
    def convert(value: Any) -> Any:
        try:
            return float(value) / float(draft.get("optimisation.learning_rate"))
        except (TypeError, ValueError, ZeroDivisionError):
            return Refused("no learning rate that it could be a share of")

    return convert


def _warmup(draft: Draft) -> None:
    steps = _number(draft.left.get("warmup_steps"))
    if steps is not None and 0 < steps < 1:  # transformers 5 reads a fraction as a ratio
        draft.take("warmup_steps", "schedule.warmup_ratio", _number)
    elif steps is not None and steps >= 1:
        draft.take("warmup_steps", "schedule.warmup_steps", lambda value: int(_number(value) or 0))
        draft.put("schedule.warmup_ratio", 0.0)
        draft.drop("warmup_ratio", "warmup_steps overrides it, as in transformers")
    else:
        draft.take("warmup_ratio", "schedule.warmup_ratio")
        if steps is None:
            draft.take("warmup_steps", "schedule.warmup_steps")
        else:
            draft.put("schedule.warmup_ratio", draft.get("schedule.warmup_ratio") or 0.0)
            draft.keep("warmup_steps", "schedule.warmup_ratio")


def _number(value: Any) -> float | None:
    """A number, also one that YAML reads as text (2e-5 without a dot)."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _steps(value: Any) -> Any:
    number = _number(value)
    return 0 if number is not None and number < 0 else value


def _switch(value: Any) -> Any:
    if value in ("unsloth", "offload", "offload_disk"):
        return Changed(True, "activations are computed again and stay on the device")
    return value


def _precision(draft: Draft) -> None:
    for key, dtype in (("bf16", "bfloat16"), ("fp16", "float16"), ("pure_bf16", "bfloat16")):
        given = draft.left.get(key)
        if given is True or given == "full":
            draft.left[key] = dtype
            draft.take(key, "dtype")
        elif given == "auto":
            draft.take(key, "dtype")
        elif given is False:
            draft.drop(key, "switched off there, and dtype has one value")
    for key in ("dtype", "torch_dtype", "infer_dtype"):
        draft.take(key, "dtype", _dtype)


def _dtype(value: Any) -> Any:
    name = str(value).removeprefix("torch.")
    name = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}.get(name, name)
    known = ("auto", "float32", "bfloat16", "float16")
    return name if name in known else Refused("not a dtype of a frozen base here")


def _tracking(draft: Draft) -> None:
    given = draft.left.get("report_to")
    if given is None:
        return
    named = [str(name) for name in (given if isinstance(given, list) else [given])]
    kept = [name for name in named if name in _TRACKERS]
    others = [name for name in named if name not in (*_TRACKERS, "none")]
    if others:
        draft.drop("report_to", f"trackers here: {', '.join(_TRACKERS)}")
        if kept:
            draft.put("tracking.report_to", kept)
            draft.notes.append(f"report_to: {', '.join(kept)} kept")
        return
    draft.put("tracking.report_to", kept)
    draft.keep("report_to", "tracking.report_to")


def _saving(draft: Draft) -> None:
    strategy = draft.left.get("save_strategy", "steps")
    steps = _number(draft.left.get("save_steps"))
    if strategy == "steps" and steps is not None and steps >= 1:
        draft.take("save_steps", "checkpoints.save_steps", lambda value: int(_number(value) or 0))
        if "save_strategy" in draft.left:
            draft.keep("save_strategy", "checkpoints.save_steps")


def take_template(draft: Draft, key: str, known: Mapping[str, str], trainer: str) -> None:
    """Train in our format for a template of the trainer's, else in the model's own."""
    name = draft.left.get(key)
    if name in known:
        ours = known[str(name)]
        draft.take(key, "formats.train", lambda _name: [ours])
        draft.notes.append(
            f"{trainer}'s template {name} is taken to be our format {ours}: {MORE_FORMATS}"
        )
        return
    draft.put("formats.train", ["native"])
    draft.drop(key, "no format here is known to equal it: give --formats")
    draft.notes.append(f"trained in the model's own format: {MORE_FORMATS}")
