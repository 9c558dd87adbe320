"""Start or resume a training run: settings in, adapter folder out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.training.config import TrainConfig
from harness.training.preparation import config_of_run
from harness.training.single_run import train_one

if TYPE_CHECKING:
    from harness.models import LoadedModel


def train(config: TrainConfig, *, loaded: LoadedModel | None = None, quiet: bool = False) -> Path:
    """Train, or resume an interrupted run, or return at once when it is done.

    Returns the folder of the final adapter; with ``auto_branch.branch_at_turn``, of the chosen one
    of the whole tree. ``loaded`` is the base if it is loaded already. It is **changed**: training
    puts the adapter into it, and ``harness.models.remove_adapter`` takes it out again. A run that
    is done leaves it as it is.

    Raises HarnessError when another process trains in the folder, or when the folder holds another
    run.
    """
    if config.auto_branch.branch_at_turn:
        from harness.training.auto_branch import auto_branch

        return auto_branch(config, loaded=loaded, quiet=quiet)
    return train_one(config, loaded=loaded, quiet=quiet)


def resume(run: Path, *, loaded: LoadedModel | None = None, quiet: bool = False) -> Path:
    """Resume a run from the settings in its run.json. Returns and raises as ``train``.

    The run's relative paths start from the present folder; the command changes to the one where the
    run was started.
    """
    return train(config_of_run(run), loaded=loaded, quiet=quiet)
