"""What people do by hand: train at a high rate until the turn, go back to the last good checkpoint, continue at a lower rate, until nothing is gained."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.files import whole, write_text
from harness.models import ADAPTER_FILE, BASE_FILE, remove_adapter
from harness.training.branch import BranchRequest, make_branch
from harness.training.config import TrainConfig
from harness.training.preparation import config_of_run
from harness.training.runs.lock import run_lock
from harness.training.runs.metrics_log import measured_checkpoints
from harness.training.selection.early_stopping import StopDecision
from harness.training.selection.best_checkpoint import items_key_of, find_best_checkpoint, turning_point_of
from harness.training.single_run import load_base, train_one

if TYPE_CHECKING:
    from harness.models import LoadedModel

#: In the trunk's folder: the rounds and what was chosen, and the adapter of it.
ROUNDS_FILE = "auto_branch.json"
CHOSEN = "chosen"


@dataclass(frozen=True, slots=True)
class Round:
    """One run of the tree: its lowest checkpoint, what it gained over the run before (mean over items and its standard error), and what followed."""

    run: str
    learning_rate: float
    step: int
    value: float
    gain: float | None
    gain_error: float | None
    why: str


def auto_branch(
    config: TrainConfig, *, loaded: LoadedModel | None = None, quiet: bool = False
) -> Path:
    """Train trunk and branches, and return the folder of the chosen adapter, ``<output_dir>/chosen``.

    Every step is what the commands do (train, pick, branch, resume), each run is an ordinary one, and all are found again when
    the same command starts anew. Raises HarnessError for settings under which no turn could be found.
    """
    _check(config)
    if loaded is None:
        loaded = load_base(config)
    trunk = Path(config.output_dir)
    settings = config.auto_branch
    say = _silent if quiet else _say
    run, rounds, best = trunk, list[Round](), (trunk, 0)
    for number in range(settings.branch_rounds + 1):
        train_one(
            config_of_run(run) if number else config,
            loaded=loaded,
            quiet=quiet,
            turned=_until_turn(settings.branch_measure),
        )
        remove_adapter(loaded)
        found, gained = _judge(run, number, settings.branch_measure, best)
        best = (run, found.step) if gained else best
        following = _next(run, number, config) if gained else "nothing gained: it ends here"
        rounds.append(
            found := Round(
                **{
                    **asdict(found),
                    "run": "." if run == trunk else run.relative_to(trunk).as_posix(),
                    "why": _text(following),
                }
            )
        )
        say(
            f"{found.run}: rate {found.learning_rate:g}, {settings.branch_measure} lowest at step {found.step} with {found.value:.3f}; {found.why}"
        )
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
            "auto_branch needs references to see the turn",
            where="evaluation.references",
            hint="12 or more",
        )
    if settings.branch_measure == "nll_held_out" and not config.formats.held_out:
        raise HarnessError(
            "auto_branch.branch_measure = 'nll_held_out' needs formats.held_out",
            hint="hold out a family, or take nll_seen",
        )
    if config.checkpoints.save_total_limit:
        raise HarnessError(
            "auto_branch goes back to earlier checkpoints",
            where="checkpoints.save_total_limit",
            hint="leave it at 0",
        )


def _until_turn(measure: str) -> Callable[[list[dict[str, Any]]], StopDecision]:
    """A run's end: its turn is sure."""

    def turned(entries: list[dict[str, Any]]) -> StopDecision:
        if len(entries) < 3:
            return StopDecision()
        turn = turning_point_of(entries, measure, draws=500)  # at every checkpoint, so fewer than pick takes
        return StopDecision(
            f"{measure} has turned at step {entries[turn.at]['step']}" if turn.rises else ""
        )

    return turned


def _judge(run: Path, number: int, measure: str, best: tuple[Path, int]) -> tuple[Round, bool]:
    """The run's lowest checkpoint, and whether it is lower than the best so far by more than one standard error over items."""
    import numpy as np

    entries = measured_checkpoints(run)
    lowest = entries[turning_point_of(entries, measure, draws=1, where=str(run)).at]
    rate = config_of_run(run).optimisation.learning_rate
    if number == 0:
        return Round("", rate, int(lowest["step"]), float(lowest[measure]), None, None, ""), True
    before = next(entry for entry in measured_checkpoints(best[0]) if entry["step"] == best[1])[
        items_key_of(measure)
    ]
    gains = np.array(
        [
            before[item] - value
            for item, value in lowest[items_key_of(measure)].items()
            if item in before
        ]
    )
    gain, error = float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains)))
    return Round(
        "", rate, int(lowest["step"]), float(lowest[measure]), gain, error, ""
    ), gain > error


def _next(run: Path, number: int, config: TrainConfig) -> Path | str:
    """The next branch's folder, made unless it is there, or why there is none."""
    settings = config.auto_branch
    if number == settings.branch_rounds:
        return f"{number} rounds are done"
    picked = find_best_checkpoint(run, settings.branch_measure, margin=settings.branch_margin)
    if picked.checkpoint is None:
        return picked.reason
    child = Path(config.output_dir) / "branches" / f"auto-{number + 1}"
    if not child.exists():
        rate = config_of_run(run).optimisation.learning_rate * settings.branch_factor
        place = f"step:{Path(picked.checkpoint).name.split('-')[1]}"
        try:
            make_branch(
                BranchRequest(
                    run,
                    place,
                    (f"learning_rate={rate!r}",),
                    epochs=settings.branch_epochs,
                    out=child,
                )
            )
        except HarnessError as error:
            if "nothing is left" not in error.message:
                raise
            return f"{picked.reason} {error.message}"
    return child


def _choose(trunk: Path, best: tuple[Path, int], rounds: list[Round]) -> Path:
    """Put the adapter of the lowest checkpoint of the tree beside the trunk's, with the rounds."""
    run, step = best
    if not (run / f"checkpoint-{step}").is_dir():
        raise HarnessError(
            "no checkpoint is better than the base",
            where=str(trunk),
            hint="lower learning_rate, or measure earlier: checkpoints.save_steps",
        )
    chosen = trunk / CHOSEN
    with run_lock(trunk):
        with whole(chosen, what="adapter") as folder:
            for name in (ADAPTER_FILE, "adapter_config.json", BASE_FILE):
                shutil.copyfile(run / f"checkpoint-{step}" / name, folder / name)
        facts = {
            "chosen": {
                "run": "." if run == trunk else run.relative_to(trunk).as_posix(),
                "step": step,
            },
            "rounds": [asdict(found) for found in rounds],
        }
        write_text(trunk / ROUNDS_FILE, json.dumps(facts, indent=1) + "\n")
    return chosen


def _text(following: Path | str) -> str:
    return following if isinstance(following, str) else f"continued in {following.name}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(_line: str) -> None:
    return
