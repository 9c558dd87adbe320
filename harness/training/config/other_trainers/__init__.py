"""Configurations of axolotl, LLaMA-Factory, TRL and unsloth as settings of ours."""

from harness.training.config.other_trainers.draft import OtherRecipe
from harness.training.config.other_trainers.read_recipe import (
    TRAINERS,
    is_other_recipe,
    read_other_recipe,
)

__all__ = ["TRAINERS", "OtherRecipe", "is_other_recipe", "read_other_recipe"]
