"""The settings of a run from whatever file the user has: a recipe of ours or of another trainer.

The commands and the Python functions read their file here, so that all take the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import HarnessError
from harness.training.config.other_trainers import OtherRecipe, is_other_recipe, read_other_recipe
from harness.training.config.reading import read_config, with_environment
from harness.training.config.tree import TrainConfig

Given = Literal["flag", "argument", "file"]
#: How to name a model and rows, where the file does not.
_HOW: dict[Given, tuple[str, str]] = {
    "flag": ("--model MODEL", "--train FILE.jsonl"),
    "argument": ('model="MODEL"', 'train=["FILE.jsonl"]'),
    "file": ("name it there, or write a RUN.toml", "name one there, or write a RUN.toml"),
}


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """The settings that a file names. ``other`` says what of another trainer's is not kept."""

    config: TrainConfig
    other: OtherRecipe | None = None

    def refuse_incomplete(self, config: TrainConfig, by: Given) -> None:
        """Raise HarnessError where neither the file nor the caller names a model or rows.

        ``config`` are the settings with those of the caller, who gives them ``by`` flags, arguments
        or only in the file. No default of ours fits another trainer's.
        """
        if self.other is None:
            return
        model, rows = _HOW[by]
        if "model" not in self.other.table and config.model == TrainConfig().model:
            raise HarnessError("names no model", str(self.other.path), model)
        if not config.data.train:
            raise HarnessError("names no data set", str(self.other.path), rows)


def read_recipe_file(
    path: Path, trainer: str = "", environment: Mapping[str, str] | None = None
) -> RecipeFile:
    """Read a RUN.toml, or a configuration, script or notebook of another trainer.

    ``trainer`` says whose it is; empty: by its ending and its keys. Variables HARNESS_TRAIN_* of
    ``environment`` override either. Raises HarnessError as ``read_config`` and
    ``read_other_recipe``.
    """
    if not trainer and not is_other_recipe(path):
        return RecipeFile(read_config(path, environment))
    other = read_other_recipe(path, trainer)
    return RecipeFile(with_environment(other.table, str(path), environment or {}), other)
