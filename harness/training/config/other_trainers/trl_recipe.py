"""TRL's SFTConfig, ModelConfig and peft's LoraConfig, and unsloth's arguments, as settings.

By the documentation of TRL 1.16, peft 0.21 and unsloth 2026.10.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.formats.trainers.trainer_file import beside
from harness.training.config.other_trainers.draft import Changed, Draft, OtherRecipe, Refused
from harness.training.config.other_trainers.shared_keys import (
    MORE_FORMATS,
    SAME,
    optimiser,
    quantisation,
    schedule,
    shared_keys,
)

_MODELS = ("model_name_or_path", "model_name", "model")
_LENGTHS = ("max_length", "max_seq_length", "max_seq_len")
_MASKS = ("assistant_only_loss", "completion_only_loss", "train_on_responses_only")
#: Keys by which a nested table is one of settings, and not the value of one.
_KNOWN = {
    *SAME,
    *_MODELS,
    *_LENGTHS,
    "r",
    "target_modules",
    "num_train_epochs",
    "per_device_train_batch_size",
    "load_in_4bit",
    "dataset_name",
}


def trl_recipe(path: Path, given: Mapping[str, Any]) -> OtherRecipe:
    """TRL's settings as ours."""
    draft = Draft.of(path, _flat(given))
    _common(draft)
    if draft.left.get("chat_template_path"):
        draft.take("chat_template_path", "formats.train", lambda value: _template(path, value))
    draft.default(
        data__max_length=1024,
        optimisation__learning_rate=2e-5,
        optimisation__num_train_epochs=3.0,
        optimisation__per_device_train_batch_size=8,
        optimisation__gradient_checkpointing=True,
        schedule__lr_scheduler_type="linear",
        schedule__warmup_ratio=0.0,
    )
    # LoraConfig and ModelConfig have different defaults
    low = (8, 8.0, 0.0) if "r" in draft.kept or "target_modules" in draft.kept else (16, 32.0, 0.05)
    draft.default(adapter__lora_r=low[0], adapter__lora_alpha=low[1], adapter__lora_dropout=low[2])
    _all_tokens(draft)
    return _finish(draft, "TRL")


def unsloth_recipe(path: Path, given: Mapping[str, Any]) -> OtherRecipe:
    """unsloth's settings as ours."""
    draft = Draft.of(path, _flat(given))
    _common(draft)
    draft.take("last_response_only", "loss.last_turn_only")
    for key in ("instruction_part", "response_part", "chat_template"):
        draft.drop(key, "the spans of answers are known from the format, without markers")
    draft.default(
        data__max_length=2048,
        optimisation__learning_rate=5e-5,
        optimisation__num_train_epochs=3.0,
        optimisation__per_device_train_batch_size=4,
        optimisation__gradient_accumulation_steps=2,
        optimisation__weight_decay=0.01,
        schedule__lr_scheduler_type="linear",
        schedule__warmup_ratio=0.1,
        adapter__lora_r=16,
        adapter__lora_alpha=16.0,
    )
    return _finish(draft, "unsloth")


def _common(draft: Draft) -> None:
    shared_keys(draft)
    quantisation(draft)
    optimiser(draft, "optim")
    schedule(draft, "lr_scheduler_type")
    for key in _MODELS:
        draft.take(key, "model")
    draft.take("num_train_epochs", "optimisation.num_train_epochs")
    batch = "per_device_train_batch_size"
    draft.take(batch, f"optimisation.{batch}")
    draft.take("use_gradient_checkpointing", "optimisation.gradient_checkpointing", _offloaded)
    draft.take("r", "adapter.lora_r")
    draft.take("random_state", "seed")
    for key in ("target_modules", "lora_target_modules"):
        draft.take(key, "adapter.lora_target_modules", targets)
    for key in _LENGTHS:
        draft.take(key, "data.max_length", _cut)
    if draft.has("data.max_length"):
        draft.put("data.on_refuse", "skip")
    draft.take("project", "tracking.project")
    for key in _MASKS:
        if draft.left.get(key) is True:
            draft.put("loss.train_on", ["answers", "thoughts", "calls"])
            draft.keep(key, "loss.train_on")
    _data(draft)


def _cut(value: Any) -> Any:
    if value == 0:
        return Refused("no length")
    return Changed(value, "a longer row is cut there; here it is left out and counted")


def _offloaded(value: Any) -> Any:
    if value == "unsloth":
        return Changed(True, "activations are computed again and stay on the device")
    return value


def targets(value: Any) -> Any:
    """peft's target modules; a pattern or none at all is not kept."""
    if isinstance(value, str):
        names = [name.strip() for name in value.split(",") if name.strip()]
        if names in (["all-linear"], ["all"]):
            return "all-linear"
        plain = all(name.replace("_", "").replace(".", "").isalnum() for name in names)
        return names if names and plain else Refused("a pattern: name the layers, or all-linear")
    return value or Refused("no layer")


def _data(draft: Draft) -> None:
    """``datasets``, ``data_files`` or ``dataset_name``: files beside the configuration, or ids."""
    mixture, files = draft.left.get("datasets"), draft.left.get("data_files")
    sources = []
    if isinstance(mixture, list) and all(isinstance(each, dict) for each in mixture):
        del draft.left["datasets"]
        for number, each in enumerate(mixture):
            draft.left |= {f"datasets.{number}.{key}": value for key, value in each.items()}
            sources += dataset_sources(draft, f"datasets.{number}")
    if files:
        named = files if isinstance(files, list) else [files]
        sources += [{"path": str(beside(draft.path, str(name)))} for name in named]
        draft.keep("data_files", "data.train")
    if "dataset_name" in draft.left:
        if sources:
            draft.drop("dataset_name", "the files are named beside it")
        else:
            source = {"path": str(beside(draft.path, str(draft.left["dataset_name"])))}
            if split := draft.left.get("dataset_train_split"):
                source["split"] = str(split)
                draft.keep("dataset_train_split", "data.train")
            sources.append(source)
            draft.keep("dataset_name", "data.train")
    if sources:
        draft.put("data.train", [short(source) for source in sources])


def dataset_sources(draft: Draft, prefix: str) -> list[dict[str, Any]]:
    """The sources of one entry of ``datasets``: its path, or the files that it names."""
    path, files = f"{prefix}.path", f"{prefix}.data_files"
    split = draft.left.get(f"{prefix}.split")
    named = draft.left.get(files)
    names = named if isinstance(named, list) else [named or draft.left.get(path)]
    rest: dict[str, Any] = {}
    if isinstance(split, str) and split.isidentifier():
        rest["split"] = split
        draft.keep(f"{prefix}.split", "data.train")
    for key in (path, files):
        if draft.left.get(key) is not None:
            draft.keep(key, "data.train")
    return [{"path": str(beside(draft.path, str(name))), **rest} for name in names if name]


def short(source: dict[str, Any]) -> dict[str, Any] | str:
    """A source that has a path alone as that path, unless a weight could be read from it."""
    return source["path"] if len(source) == 1 and ":" not in source["path"] else source


def _template(path: Path, value: Any) -> Any:
    file = beside(path, str(value))
    if file.is_file() and file.suffix in (".jinja", ".j2"):
        return [str(file)]
    return Refused("the template of another model: write it to a .jinja file, or give --formats")


def _all_tokens(draft: Draft) -> None:
    """TRL trains questions and headers too unless it is asked not to."""
    if draft.has("loss.train_on"):
        return
    draft.notes.append(
        "TRL trains every token of a conversation unless assistant_only_loss is set; here only the "
        "assistant's messages are trained"
    )


def _finish(draft: Draft, trainer: str) -> OtherRecipe:
    for key in _MASKS:
        draft.drop(key, "only the assistant's messages are trained here")
    if not draft.has("adapter.lora_target_modules"):
        draft.default(adapter__lora_target_modules="all-linear")
    if not draft.has("formats.train"):
        draft.put("formats.train", ["native"])
        draft.notes.append(f"trained in the model's own format, as {trainer} does: {MORE_FORMATS}")
    return draft.finish(trainer)


def _flat(value: Mapping[str, Any]) -> dict[str, Any]:
    """All settings, those of nested tables too; an outer one wins."""
    return dict(_settings(value))


def _settings(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    plain = {}
    for key, entry in value.items():
        if isinstance(entry, Mapping) and (_KNOWN & set(entry) or not entry):
            yield from _settings(entry)
        else:
            plain[str(key)] = entry
    yield from plain.items()
