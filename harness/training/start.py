"""A training run as a user asks for it: settings in, adapter folder out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.training.config import TrainConfig
from harness.training.preparation import config_of_run
from harness.training.single_run import train_one

if TYPE_CHECKING:
    from harness.models import LoadedModel


def train(config: TrainConfig, *, loaded: LoadedModel | None = None, quiet: bool = False) -> Path:
    """Train, or go on with an interrupted run, or return at once when it is done. Returns the final adapter's folder.

    With ``auto_branch.branch_at_turn`` that is the chosen adapter of the whole tree. Raises HarnessError when another process
    trains in the folder or another run stands there.
    """
    if config.auto_branch.branch_at_turn:
        from harness.training.auto_branch import auto_branch

        return auto_branch(config, loaded=loaded, quiet=quiet)
    return train_one(config, loaded=loaded, quiet=quiet)


def resume(run: Path, *, loaded: LoadedModel | None = None, quiet: bool = False) -> Path:
    """Go on with a run from what its own run.json says. Its relative paths start where it was started. Returns the adapter's folder."""
    return train(config_of_run(run), loaded=loaded, quiet=quiet)
