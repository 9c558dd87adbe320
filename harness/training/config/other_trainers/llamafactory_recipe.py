"""LLaMA-Factory's YAML as settings. By its documentation (llamafactory.readthedocs.io)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.files import parse_json, read_text
from harness.formats.trainers.trainer_file import beside
from harness.training.config.other_trainers.draft import Changed, Draft, OtherRecipe
from harness.training.config.other_trainers.shared_keys import (
    optimiser,
    quantisation,
    schedule,
    shared_keys,
    take_template,
)
from harness.training.config.other_trainers.trl_recipe import short, targets

#: Names of LLaMA-Factory's templates whose text one of our formats writes too.
_TEMPLATES = {
    "chatml": "chatml",
    "gemma": "gemma3",
    "gemma2": "gemma3",
    "gemma3": "gemma3",
    "gpt_oss": "harmony",
    "llama3": "llama3",
    "llama4": "llama4",
    "phi": "phi3",
    "phi4": "phi4",
    "qwen": "qwen2.5",
    "qwen3": "qwen3",
    "qwen3_nothink": "qwen3-instruct",
    "smollm2": "smollm2",
}
_CHECKPOINTING = "optimisation.gradient_checkpointing"
_RENAMED = {
    "model_name_or_path": "model",
    "num_train_epochs": "optimisation.num_train_epochs",
    "per_device_train_batch_size": "optimisation.per_device_train_batch_size",
    "lora_rank": "adapter.lora_r",
    "double_quantization": "quantisation.bnb_4bit_use_double_quant",
    "quantization_type": "quantisation.bnb_4bit_quant_type",
    "mask_history": "loss.last_turn_only",
}


def llamafactory_recipe(path: Path, given: Mapping[str, Any]) -> OtherRecipe:
    """LLaMA-Factory's settings as ours.

    Raises HarnessError for a stage other than sft, and for a data set that is not found.
    """
    stage = given.get("stage") or "sft"
    if stage != "sft":
        raise HarnessError(f"stage = {stage}: harness train learns from answers", str(path))
    draft = Draft.of(path, given)
    if "stage" in draft.left:
        draft.keep("stage", "objective.kind")
        draft.put("objective.kind", "supervised")
    for key, place in _RENAMED.items():
        draft.take(key, place)
    shared_keys(draft)
    quantisation(draft)
    optimiser(draft, "optim")
    schedule(draft, "lr_scheduler_type")
    draft.take("lora_target", "adapter.lora_target_modules", targets)
    cut = "a longer row is cut there; here it is left out and counted"
    draft.take("cutoff_len", "data.max_length", lambda value: Changed(value, cut))
    draft.put("data.on_refuse", "skip")
    _kind(draft)
    _bits(draft)
    _data(draft)
    take_template(draft, "template", _TEMPLATES, "LLaMA-Factory")
    draft.take("disable_gradient_checkpointing", _CHECKPOINTING, lambda value: value is False)
    if draft.left.get("train_on_prompt") is False:
        draft.keep("train_on_prompt", "loss.train_on")
    draft.default(
        data__max_length=2048,
        optimisation__learning_rate=5e-5,
        optimisation__num_train_epochs=3.0,
        optimisation__per_device_train_batch_size=8,
        schedule__lr_scheduler_type="linear",
        **({} if draft.has("schedule.warmup_steps") else {"schedule__warmup_ratio": 0.0}),
        adapter__lora_r=8,
    )
    rank = draft.get("adapter.lora_r")
    twice = {"adapter__lora_alpha": 2.0 * rank} if isinstance(rank, int) else {}
    draft.default(**twice)
    return draft.finish("LLaMA-Factory")


def _kind(draft: Draft) -> None:
    kind = draft.left.get("finetuning_type", "lora")
    if "finetuning_type" not in draft.left:
        return
    if kind == "lora":
        draft.keep("finetuning_type", "adapter.lora_r")
    else:
        draft.drop("finetuning_type", "a LoRA adapter is trained instead")


def _bits(draft: Draft) -> None:
    """quantization_bit 4 or 8 of bitsandbytes."""
    bits, method = draft.left.get("quantization_bit"), draft.left.get("quantization_method", "bnb")
    if bits in (4, 8) and method in ("bnb", "bitsandbytes"):
        draft.put(f"quantisation.load_in_{bits}bit", True)
        draft.keep("quantization_bit", f"quantisation.load_in_{bits}bit")
        if "quantization_method" in draft.left:
            draft.keep("quantization_method", f"quantisation.load_in_{bits}bit")
    draft.drop("quantization_bit", "the base is stored in 4 or 8 bits by bitsandbytes, or whole")
    draft.drop("quantization_method", "the base is stored in 4 or 8 bits by bitsandbytes, or whole")


def _data(draft: Draft) -> None:
    """The names of ``dataset``, looked up in dataset_info.json."""
    named = draft.left.get("dataset")
    if named is None:
        return
    folder = beside(draft.path, str(draft.left.get("dataset_dir", "data")))
    names = named if isinstance(named, list) else str(named).split(",")
    known = _known_sets(folder)
    sources = []
    for name in (str(name).strip() for name in names):
        entry = known.get(name)
        if not isinstance(entry, Mapping):
            file = next((f for f in (folder / name, beside(draft.path, name)) if f.exists()), None)
            if file is None:
                info = folder / "dataset_info.json"
                raise HarnessError(
                    f"the data set {name!r} is neither a file nor an entry of {info}",
                    str(draft.path),
                )
            sources.append({"path": str(file)})
            continue
        sources.append(_source(draft, folder, name, entry))
    draft.put("data.train", [short(source) for source in sources])
    draft.keep("dataset", "data.train")
    if "dataset_dir" in draft.left:
        draft.keep("dataset_dir", "data.train")


def _known_sets(folder: Path) -> Mapping[str, Any]:
    info = folder / "dataset_info.json"
    if not info.is_file():
        return {}
    try:
        value = parse_json(read_text(info, "data sets"))
    except ValueError as error:
        raise HarnessError(f"not JSON: {error}", str(info)) from None
    return value if isinstance(value, Mapping) else {}


def _source(draft: Draft, folder: Path, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    if entry.get("ranking"):
        raise HarnessError(f"the data set {name!r} holds preferences", str(draft.path))
    rest = {k: v for k, v in entry.items() if k not in ("file_name", "hf_hub_url", "formatting")}
    split = rest.pop("split", None)
    draft.left |= {f"dataset_info.{name}.{key}": value for key, value in rest.items()}
    for key in ("columns", "tags"):
        draft.drop(f"dataset_info.{name}.{key}", "usual names of columns and roles are detected")
    path = folder / str(entry["file_name"]) if "file_name" in entry else entry.get("hf_hub_url")
    if path is None:
        raise HarnessError(
            f"the data set {name!r} names no file", str(folder / "dataset_info.json")
        )
    return {"path": str(path), **({"split": split} if isinstance(split, str) else {})}
