"""axolotl's YAML as settings. By the documentation of axolotl 0.19 (docs.axolotl.ai)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.formats.trainers.trainer_file import AXOLOTL_TEMPLATES, beside
from harness.training.config.other_trainers.draft import Changed, Draft, OtherRecipe
from harness.training.config.other_trainers.shared_keys import (
    optimiser,
    quantisation,
    schedule,
    shared_keys,
    take_template,
)
from harness.training.config.other_trainers.trl_recipe import (
    dataset_sources,
    short,
    targets,
)

_RENAMED = {
    "base_model": "model",
    "num_epochs": "optimisation.num_train_epochs",
    "peft_use_dora": "adapter.use_dora",
    "peft_use_rslora": "adapter.use_rslora",
    "cosine_min_lr_ratio": "schedule.min_lr_ratio",
    "wandb_project": "tracking.project",
    "early_stopping_patience": "stopping.early_stopping_patience",
}
#: The type of a data set → the schema of its rows.
_TYPES = {
    "chat_template": "auto",
    "alpaca": "alpaca",
    "sharegpt": "sharegpt",
    "completion": "text",
    "input_output": "auto",
}
_ASSISTANT = (["assistant"], ["gpt"], ["assistant", "gpt"], ["gpt", "assistant"], "assistant")


def axolotl_recipe(path: Path, given: Mapping[str, Any]) -> OtherRecipe:
    """axolotl's settings as ours. Raises HarnessError for another task than supervised training."""
    if given.get("rl"):
        raise HarnessError(f"rl = {given['rl']}: harness train learns from answers", str(path))
    draft = Draft.of(path, given)
    for key, place in _RENAMED.items():
        draft.take(key, place)
    shared_keys(draft)
    _adapter(draft)
    quantisation(draft)
    optimiser(draft, "optimizer")
    schedule(draft, "lr_scheduler")
    packed = draft.left.get("sample_packing") is True
    draft.take("micro_batch_size", "optimisation.per_device_train_batch_size", _batch(packed))
    draft.take("sequence_len", "data.max_length", _length(draft))
    draft.put("data.on_refuse", "skip")
    draft.take("wandb_name", "tracking.run_name")
    if "wandb_project" in draft.kept and not draft.has("tracking.report_to"):
        draft.put("tracking.report_to", ["wandb"])
    if draft.left.get("use_tensorboard") is True and not draft.has("tracking.report_to"):
        draft.put("tracking.report_to", ["tensorboard"])
        draft.keep("use_tensorboard", "tracking.report_to")
    _datasets(draft)
    _template(draft)
    _masks(draft, "")
    draft.default(
        data__max_length=512,
        optimisation__num_train_epochs=1.0,
        optimisation__per_device_train_batch_size=1,
        schedule__lr_scheduler_type="cosine",
        **({} if draft.has("schedule.warmup_steps") else {"schedule__warmup_ratio": 0.03}),
    )
    return draft.finish("axolotl")


def _adapter(draft: Draft) -> None:
    kind = draft.left.get("adapter")
    if kind == "qlora":
        draft.put("quantisation.load_in_4bit", True)
        draft.drop("load_in_4bit", "adapter = qlora says so already")
        draft.keep("adapter", "quantisation.load_in_4bit")
    elif kind == "lora":
        draft.keep("adapter", "adapter.lora_r")
    elif kind is None:
        draft.notes.append("full fine-tuning there; here a LoRA adapter is trained")
    else:
        draft.drop("adapter", "a plain LoRA is trained instead")
    linear, named = draft.left.get("lora_target_linear"), draft.left.get("lora_target_modules")
    if linear is True:
        names = named if isinstance(named, list) else [named] if isinstance(named, str) else []
        draft.put("adapter.lora_target_modules", ["all-linear", *map(str, names)])
        draft.keep("lora_target_linear", "adapter.lora_target_modules")
        if named is not None:
            draft.keep("lora_target_modules", "adapter.lora_target_modules")
    else:
        draft.take("lora_target_modules", "adapter.lora_target_modules", targets)
        draft.drop("lora_target_linear", "switched off there")


def _batch(packed: bool) -> Any:
    difference = "a packed sequence holds several conversations there; here a conversation counts"
    return lambda value: Changed(value, difference) if packed else value


def _length(draft: Draft) -> Any:
    cut = draft.left.get("excess_length_strategy") == "truncate"
    difference = "a longer row is cut there; here it is left out and counted"
    return lambda value: Changed(value, difference) if cut else value


def _datasets(draft: Draft) -> None:
    """Each entry of ``datasets``, key by key."""
    sets = draft.left.pop("datasets", None)
    entries = sets if isinstance(sets, list) else []
    sources = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            where = f"{draft.path}: datasets.{number}"
            raise HarnessError(f"expected a table with a path, not {entry!r}", where)
        prefix = f"datasets.{number}"
        draft.left |= {f"{prefix}.{key}": v for key, v in entry.items() if v is not None}
        schema = _schema(draft, prefix)
        sources += [{**source, **schema} for source in dataset_sources(draft, prefix)]
        draft.drop(f"{prefix}.ds_type", "the ending of a file says how it is written")
        _masks(draft, f"{prefix}.")
        for key in ("chat_template", "chat_template_jinja"):
            if f"{prefix}.{key}" in draft.left and key not in draft.left:
                draft.left[key] = draft.left[f"{prefix}.{key}"]
                draft.keep(f"{prefix}.{key}", "formats.train")
    if sources:
        draft.put("data.train", [short(source) for source in sources])


def _schema(draft: Draft, prefix: str) -> dict[str, str]:
    key = f"{prefix}.type"
    kind = draft.left.get(key)
    base = str(kind).partition(".")[0]
    if kind is None:
        return {}
    if isinstance(kind, Mapping) or base not in _TYPES:
        draft.drop(key, "the schema is detected from the rows")
        return {}
    draft.keep(key, "data.train")
    return {} if _TYPES[base] == "auto" else {"schema": _TYPES[base]}


def _template(draft: Draft) -> None:
    source, name = draft.left.get("chat_template_jinja"), draft.left.get("chat_template")
    file = beside(draft.path, str(source)) if source and "\n" not in str(source) else None
    if file and len(str(source)) < 200 and file.is_file():
        draft.put("formats.train", [str(file)])
        draft.keep("chat_template_jinja", "formats.train")
        draft.drop("chat_template", "chat_template_jinja is the template")
        return
    draft.drop("chat_template_jinja", "write the template to a .jinja file and name that")
    if name == "tokenizer_default":
        draft.keep("chat_template", "formats.train")
    take_template(draft, "chat_template", AXOLOTL_TEMPLATES, "axolotl")


def _masks(draft: Draft, prefix: str) -> None:
    """Masking options that ask for what always happens here are kept; others are not."""
    always: dict[str, tuple[Any, ...]] = {
        "roles_to_train": _ASSISTANT,
        "train_on_inputs": (False,),
        "train_on_eos": ("turn",),
        "train_on_eot": ("turn",),
        "field_messages": ("messages", "conversations"),
        "message_field_training": ("train",),
    }
    for key, values in always.items():
        name = prefix + key
        if draft.left.get(name) in values:
            draft.keep(name, "loss.train_on")
    draft.drop(f"{prefix}field_messages", "rename the column to messages")
    draft.drop(f"{prefix}message_field_training", "rename the key of a message to train")
