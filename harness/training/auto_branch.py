"""Train until held-out NLL rises, return to the last good checkpoint, continue at a lower rate.

This repeats until a branch gains nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.files import atomic_folder, write_text
from harness.models import ADAPTER_FILE, BASE_FILE, remove_adapter
from harness.run_file import ADAPTER_CONFIG, items_key_of, measured_checkpoints
from harness.training.branch import BranchRequest, NothingLeftError, make_branch
from harness.training.config import TrainConfig
from harness.training.preparation import config_of_run
from harness.training.runs.checkpoints import step_of
from harness.training.runs.lock import run_lock
from harness.training.selection.best_checkpoint import find_best_checkpoint, turning_point_of
from harness.training.selection.early_stopping import StopDecision, StopRule
from harness.training.single_run import load_base, train_one

if TYPE_CHECKING:
    from harness.models import LoadedModel

#: In the trunk's folder: the rounds and the choice, and the chosen adapter.
ROUNDS_FILE = "auto_branch.json"
CHOSEN = "chosen"


@dataclass(frozen=True, slots=True)
class BranchRound:
    """One run of the tree."""

    run: str
    learning_rate: float
    step: int
    """Its lowest checkpoint, where the metric is ``value``."""
    value: float
    gain: float | None
    """What it gained over the best run before, as a mean over items."""
    gain_error: float | None
    """The standard error of ``gain``."""
    why: str
    """What followed."""


def auto_branch(
    config: TrainConfig, *, loaded: LoadedModel | None = None, quiet: bool = False
) -> Path:
    """Train trunk and branches. Returns the chosen adapter's folder, ``<output_dir>/chosen``.

    Each step is what a command does (train, pick, branch, resume), and each run is an ordinary one.
    Finished runs are found again when the same command is repeated. Changes ``loaded`` while it
    trains, and removes the adapter in the end. Raises HarnessError for settings under which no
    turning point could be found.
    """
    _check(config)
    if loaded is None:
        loaded = load_base(config)
    trunk = Path(config.output_dir)
    metric = config.auto_branch.branch_measure
    run, rounds, best = trunk, list[BranchRound](), (trunk, 0)
    for number in range(config.auto_branch.branch_rounds + 1):
        train_one(
            config_of_run(run) if number else config,
            loaded=loaded,
            quiet=quiet,
            stop_rule=_stop_after_turning_point(metric),
        )
        remove_adapter(loaded)
        lowest, gained = _compare_with_best(run, number, metric, best)
        following: Path | str = "nothing gained: it ends here"
        if gained:
            best = (run, lowest.step)
            following = _next_branch(run, number, config)
        name = run.relative_to(trunk).as_posix()
        why = following if isinstance(following, str) else f"continued in {following.name}"
        rounds.append(replace(lowest, run=name, why=why))
        if not quiet:
            value = f"{metric} lowest at step {lowest.step} with {lowest.value:.3f}"
            line = f"{name}: rate {lowest.learning_rate:g}, {value}; {why}"
            print(line, file=sys.stderr, flush=True)
        if isinstance(following, str):
            break
        run = following
    return _choose(trunk, best, rounds)


def _check(config: TrainConfig) -> None:
    settings = config.auto_branch
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise HarnessError(
            "auto_branch works in one process",
            hint="start it without torchrun, or train, pick and branch by hand",
        )
    if config.evaluation.references < 2:
        raise HarnessError(
            "auto_branch needs references to find the turning point",
            where="evaluation.references",
            hint="12 or more",
        )
    if settings.branch_measure == "nll_held_out" and not config.formats.held_out:
        raise HarnessError(
            "auto_branch.branch_measure = 'nll_held_out' needs formats.held_out",
            hint="hold out a family, or use nll_seen",
        )
    if config.checkpoints.save_total_limit:
        raise HarnessError(
            "auto_branch returns to earlier checkpoints",
            where="checkpoints.save_total_limit",
            hint="leave it at 0",
        )


def _stop_after_turning_point(metric: str) -> StopRule:
    """End a run when its turning point is significant."""

    def rule(entries: list[dict[str, Any]]) -> StopDecision:
        if len(entries) < 3:
            return StopDecision()
        turn = turning_point_of(entries, metric, resamples=500)  # fewer: at every checkpoint
        step = entries[turn.at]["step"]
        return StopDecision(f"{metric} has turned at step {step}" if turn.rises else "")

    return rule


def _compare_with_best(
    run: Path, number: int, metric: str, best: tuple[Path, int]
) -> tuple[BranchRound, bool]:
    """The run's lowest checkpoint, and whether it is better than the best one so far.

    That is, lower by more than one standard error over items.
    """
    import numpy as np

    entries = measured_checkpoints(run)
    lowest = entries[turning_point_of(entries, metric, resamples=1, where=str(run)).at]
    rate = config_of_run(run).optimisation.learning_rate
    made = BranchRound("", rate, int(lowest["step"]), float(lowest[metric]), None, None, "")
    if number == 0:
        return made, True
    key, (best_run, step) = items_key_of(metric), best
    [before] = [entry[key] for entry in measured_checkpoints(best_run) if entry["step"] == step]
    items = lowest[key].items()
    gains = np.array([before[item] - value for item, value in items if item in before])
    gain, error = float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains)))
    return replace(made, gain=gain, gain_error=error), gain > error


def _next_branch(run: Path, number: int, config: TrainConfig) -> Path | str:
    """The folder of the next branch, made if it is missing, or why there is none."""
    settings = config.auto_branch
    if number == settings.branch_rounds:
        return f"{number} rounds are done"
    best = find_best_checkpoint(run, settings.branch_measure)
    if best.checkpoint is None:
        return best.reason
    child = Path(config.output_dir) / "branches" / f"auto-{number + 1}"
    if not child.exists():
        rate = config_of_run(run).optimisation.learning_rate * settings.branch_factor
        request = BranchRequest(
            run,
            f"step:{step_of(Path(best.checkpoint))}",
            (f"learning_rate={rate!r}",),
            epochs=settings.branch_epochs,
            out=child,
        )
        try:
            make_branch(request)
        except NothingLeftError as error:
            return f"{best.reason} {error.message}"
    return child


def _choose(trunk: Path, best: tuple[Path, int], rounds: list[BranchRound]) -> Path:
    """Copy the adapter of the tree's lowest checkpoint next to the trunk's, and list the rounds."""
    run, step = best
    checkpoint = run / f"checkpoint-{step}"
    if not checkpoint.is_dir():
        raise HarnessError(
            "no checkpoint is better than the base",
            where=str(trunk),
            hint="lower learning_rate, or measure earlier: checkpoints.save_steps",
        )
    chosen = trunk / CHOSEN
    name = run.relative_to(trunk).as_posix()
    record = {"chosen": {"run": name, "step": step}, "rounds": [asdict(each) for each in rounds]}
    with run_lock(trunk):
        with atomic_folder(chosen, what="adapter") as folder:
            for file in (ADAPTER_FILE, ADAPTER_CONFIG, BASE_FILE):
                shutil.copyfile(checkpoint / file, folder / file)
        write_text(trunk / ROUNDS_FILE, json.dumps(record, indent=1) + "\n")
    return chosen
