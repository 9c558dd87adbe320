"""Train a grid of settings on one base model. Each point is an ordinary run."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.files import write_text
from harness.report.sweep_document import SWEEP_FILE, Sweep
from harness.run_file import NLL_METRICS, items_key_of, measured_checkpoints
from harness.training.config import TrainConfig
from harness.training.runs.overrides import short_name, whole_name, with_settings
from harness.training.selection.best_checkpoint import find_best_checkpoint
from harness.training.selection.early_stopping import value_of
from harness.training.single_run import load_base, train_one
from harness.training.step.failure import TrainingFailedError

if TYPE_CHECKING:
    from harness.models import LoadedModel

_ALPHA = "adapter.lora_alpha"
#: Settings that all points share, since a grid over them would need several bases or folders.
_SHARED = ("model", "dtype", "quantisation.", "adapter.train_control_tokens", "output_dir")


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One run of a sweep: the settings of the grid as text, and the whole settings."""

    settings: dict[str, str]
    config: TrainConfig


def grid_as_text(grid: Mapping[str, Iterable[Any]]) -> dict[str, list[str]]:
    """A grid of values from Python as ``sweep_points`` takes it. Raises HarnessError for others."""
    if not grid:
        raise HarnessError("sweep: the grid is empty", hint='grid={"learning_rate": [1e-4, 1e-3]}')
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise HarnessError(
                f"sweep: invalid grid {name} = {values!r}: expected a list of values",
                hint='grid={"learning_rate": [1e-4, 1e-3]}',
            )
    return {name: [str(value) for value in values] for name, values in grid.items()}


def sweep_points(
    recipe: TrainConfig, grid: Mapping[str, Sequence[str]], *, compensate: bool = True
) -> list[SweepPoint]:
    """The points of a grid (name → values as text), each with its own folder in output_dir.

    Under Adam, alpha → k·alpha does what lr_B → k·lr_B does with an unchanged lr_A, so a grid over
    alpha would be one over the rate. With ``compensate`` each point therefore takes the recipe's
    alpha as optimisation.compensate_alpha.
    """
    named = {
        whole_name(name, recipe): [value.strip() for value in values]
        for name, values in grid.items()
    }
    for name, values in named.items():
        if name.startswith(_SHARED):
            raise HarnessError(
                f"--grid {name}: all points share one base", hint="run a sweep for each"
            )
        if not values or not all(values):
            raise HarnessError(
                f"--grid {name}: no values", hint=f"--grid {name.rpartition('.')[2]}=1,2"
            )
    base = replace(recipe, auto_branch=replace(recipe.auto_branch, branch_at_turn=False))
    optimisation = recipe.optimisation
    if compensate and _ALPHA in named and not optimisation.compensate_alpha:
        alpha = recipe.adapter.lora_alpha
        base = replace(base, optimisation=replace(optimisation, compensate_alpha=alpha))
    points = []
    for combination in itertools.product(*named.values()):
        settings = dict(zip(named, combination, strict=True))
        config = with_settings(base, settings, where="--grid")
        folder = Path(recipe.output_dir) / short_name(settings)
        points.append(SweepPoint(settings, replace(config, output_dir=str(folder))))
    if len({point.config.output_dir for point in points}) < len(points):
        raise HarnessError("--grid: a value is given twice")
    return points


def run_sweep(
    points: Sequence[SweepPoint],
    *,
    jobs: int = 1,
    loaded: LoadedModel | None = None,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Train every point that is not done yet, and return a row for each.

    With several jobs, each process loads the base once. A point whose training fails is reported on
    standard error, and the others go on: that one is not ``done``.
    """
    folder = Path(points[0].config.output_dir).parent
    folder.mkdir(parents=True, exist_ok=True)
    if jobs == 1:
        _train_here(points, loaded, quiet)
    else:
        _train_apart(points, jobs)
    rows = sweep_rows(points)
    write_text(folder / SWEEP_FILE, json.dumps(Sweep.from_points(rows).as_dict(), indent=1) + "\n")
    return rows


def sweep_rows(points: Sequence[SweepPoint]) -> list[dict[str, Any]]:
    """The results of each point, from its folder alone. A point not begun has an empty curve."""
    return [_row(point, Path(point.config.output_dir)) for point in points]


def _row(point: SweepPoint, run: Path) -> dict[str, Any]:
    entries = measured_checkpoints(run)
    row: dict[str, Any] = {
        "run": str(run),
        "settings": point.settings,
        "done": (run / "adapter").is_dir(),
        "curve": [_curve_point(entry) for entry in entries],
    }
    common = [name for name in NLL_METRICS if all(items_key_of(name) in entry for entry in entries)]
    if len(entries) > 1 and common:
        metric = common[0]
        best = find_best_checkpoint(run, metric)
        row |= {
            "measure": metric,
            "pick": best.step,
            "turn": best.turn_step,
            "recall_from": best.recall_from,
            "why": best.reason,
            "best": min(entry[metric] for entry in entries),
            "last": entries[-1][metric],
        }
    return row


def _curve_point(entry: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("step", "epoch", "sum_lr", *NLL_METRICS)
    point = {key: entry[key] for key in keys if key in entry}
    recall = value_of(entry, "recall")
    return point if recall is None else point | {"recall": recall}


def _train_here(points: Sequence[SweepPoint], loaded: LoadedModel | None, quiet: bool) -> None:
    from harness.models import remove_adapter

    for point in points:
        if loaded is None:
            loaded = load_base(point.config)
        try:
            train_one(point.config, loaded=loaded, quiet=quiet)
        except TrainingFailedError as error:
            _report_failure(point.config, error)
        remove_adapter(loaded)


def _report_failure(config: TrainConfig, error: TrainingFailedError) -> None:
    """Say which point failed. Its curve ends there, and the sweep goes on with the others."""
    print(f"{config.output_dir}: {error}", file=sys.stderr)


def _train_apart(points: Sequence[SweepPoint], jobs: int) -> None:
    """Train in spawned processes: the threads of torch do not survive a fork."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        list(pool.map(_train_point, [point.config for point in points]))


_loaded_bases: dict[str, LoadedModel] = {}


def _train_point(config: TrainConfig) -> None:
    """Train one point in a worker, which keeps its base for the next."""
    from harness.models import remove_adapter

    if config.model not in _loaded_bases:
        _loaded_bases[config.model] = load_base(config)
    try:
        train_one(config, loaded=_loaded_bases[config.model], quiet=True)
    except TrainingFailedError as error:
        _report_failure(config, error)
    remove_adapter(_loaded_bases[config.model])
