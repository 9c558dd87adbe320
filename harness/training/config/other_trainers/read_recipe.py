"""Recognise whose configuration a file is, and read it as settings of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, nearest
from harness.formats.trainers.trainer_file import read_trainer_file
from harness.training.config.other_trainers.axolotl_recipe import axolotl_recipe
from harness.training.config.other_trainers.draft import NotKept, OtherRecipe
from harness.training.config.other_trainers.llamafactory_recipe import llamafactory_recipe
from harness.training.config.other_trainers.trl_recipe import trl_recipe, unsloth_recipe

_READERS: dict[str, Callable[[Path, Mapping[str, Any]], OtherRecipe]] = {
    "axolotl": axolotl_recipe,
    "llama-factory": llamafactory_recipe,
    "trl": trl_recipe,
    "unsloth": unsloth_recipe,
}
TRAINERS = tuple(_READERS)
#: Keys that only this trainer has. The first trainer with one of its keys in the file is it.
_KEYS = {
    "axolotl": {"base_model", "micro_batch_size", "sequence_len", "num_epochs"},
    "llama-factory": {"finetuning_type", "cutoff_len", "dataset_dir", "lora_rank", "lora_target"},
    "unsloth": {
        "max_seq_length",
        "random_state",
        "use_gradient_checkpointing",
        "instruction_part",
        "response_part",
    },
    "trl": {
        "model_name_or_path",
        "per_device_train_batch_size",
        "num_train_epochs",
        "assistant_only_loss",
        "completion_only_loss",
        "target_modules",
        "lora_target_modules",
        "max_length",
    },
}


def is_other_recipe(path: Path) -> bool:
    """Whether a file is written as other trainers' configurations are."""
    return path.suffix.lower() in (".yml", ".yaml", ".json", ".py", ".ipynb") and path.is_file()


def read_other_recipe(path: Path, trainer: str = "") -> OtherRecipe:
    """Read a configuration. ``trainer`` is one of TRAINERS; empty: recognised by its keys.

    A script or notebook is parsed, never run; what it computes is listed as not kept.

    Raises HarnessError for a file that cannot be read, and for one that is no such configuration.
    """
    if trainer and trainer not in _READERS:
        hint = nearest(trainer, TRAINERS)
        raise HarnessError(f"invalid --from {trainer!r}: expected {', '.join(TRAINERS)}", hint=hint)
    given, computed = read_trainer_file(path)
    given.pop("calls", None)  # which functions a script calls
    recipe = _READERS[trainer or _trainer_of(given, path)](path, given)
    reason = "the script computes it: give it as a flag"
    names = [name for name in dict.fromkeys(computed) if name not in given]
    return replace(
        recipe,
        not_kept=(*recipe.not_kept, *(NotKept(name, "…", reason) for name in names)),
    )


def _trainer_of(given: Mapping[str, Any], path: Path) -> str:
    names = set(_names(given))
    for trainer, keys in _KEYS.items():
        if names & keys:
            return trainer
    raise HarnessError(
        "not a configuration of axolotl, LLaMA-Factory, TRL or unsloth by its keys",
        where=str(path),
        hint="--from NAME says whose it is; rows to train on are named by data.train of a RUN.toml",
    )


def _names(given: Mapping[str, Any]) -> list[str]:
    nested = (value for value in given.values() if isinstance(value, Mapping))
    return [*map(str, given), *(name for value in nested for name in _names(value))]
