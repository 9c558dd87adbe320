"""Many runs over a grid of settings, one base model in memory, every run an ordinary one that resumes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.files import write_text
from harness.report.sweep_document import SWEEP_FILE, Sweep
from harness.training.config import NLL_MEASURES, TrainConfig
from harness.training.runs.metrics_log import measured_checkpoints
from harness.training.runs.overrides import short_name, whole_name, with_settings
from harness.training.selection.best_checkpoint import items_key_of, find_best_checkpoint
from harness.training.single_run import load_base, train_one

if TYPE_CHECKING:
    from harness.models import LoadedModel

_ALPHA = "adapter.lora_alpha"
#: A grid over these would need another base at each point.
_BASE = ("model", "dtype", "quantisation.", "adapter.train_control_tokens", "output_dir")


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One run of a sweep: what the grid sets, and the whole settings."""

    settings: dict[str, str]
    config: TrainConfig


def sweep_points(
    recipe: TrainConfig, grid: Mapping[str, Sequence[str]], *, compensate: bool = True
) -> list[SweepPoint]:
    """The points of a grid (name → values as text), each with a folder of its own in the recipe's output_dir.

    Under Adam, alpha → k·alpha does what lr_B → k·lr_B does with lr_A as it is, so a grid over alpha is one over the
    rate in disguise. Unless told otherwise each point therefore takes the recipe's alpha as optimisation.compensate_alpha.
    """
    named: dict[str, list[str]] = {
        whole_name(name, recipe): [value.strip() for value in values]
        for name, values in grid.items()
    }
    for name, values in named.items():
        if name.startswith(_BASE):
            raise HarnessError(
                f"--grid {name}: all points share one base", hint="run a sweep for each"
            )
        if not values or not all(values):
            raise HarnessError(
                f"--grid {name}: no values", hint=f"--grid {name.rpartition('.')[2]}=1,2"
            )
    base = replace(recipe, auto_branch=replace(recipe.auto_branch, branch_at_turn=False))
    if compensate and _ALPHA in named:
        base = _compensated(base)
    points = []
    for combination in itertools.product(*named.values()):
        settings = dict(zip(named, combination, strict=True))
        config = with_settings(base, settings, where="--grid")
        points.append(
            SweepPoint(
                settings,
                replace(config, output_dir=str(Path(recipe.output_dir) / short_name(settings))),
            )
        )
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
    """Train every point that is not done yet and return a row for each. With several jobs each process loads the base once."""
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
    """What each point came to, from its folder alone; a point that has not begun has no curve."""
    rows = []
    for point in points:
        run = Path(point.config.output_dir)
        curve = [_curve_point(entry) for entry in measured_checkpoints(run)] if run.is_dir() else []
        row: dict[str, Any] = {
            "run": str(run),
            "settings": point.settings,
            "done": (run / "adapter").is_dir(),
            "curve": curve,
        }
        entries = measured_checkpoints(run) if curve else []
        measure = next(
            (
                name
                for name in NLL_MEASURES
                if entries and all(items_key_of(name) in entry for entry in entries)
            ),
            "",
        )
        if measure and len(entries) > 1:
            found = find_best_checkpoint(run, measure)
            row |= {
                "measure": measure,
                "pick": found.step,
                "turn": found.turn_step,
                "recall_from": found.recall_from,
                "why": found.reason,
            }
            row |= {"best": min(entry[measure] for entry in entries), "last": entries[-1][measure]}
        rows.append(row)
    return rows


def _curve_point(entry: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("step", "epoch", "sum_lr", *NLL_MEASURES)
    recall = entry.get("recall") or {}
    return {
        **{key: entry[key] for key in kept if key in entry},
        **({"recall": max(recall.values())} if recall else {}),
    }


def _compensated(recipe: TrainConfig) -> TrainConfig:
    if recipe.optimisation.compensate_alpha:
        return recipe
    return replace(
        recipe,
        optimisation=replace(recipe.optimisation, compensate_alpha=recipe.adapter.lora_alpha),
    )


def _train_here(points: Sequence[SweepPoint], loaded: LoadedModel | None, quiet: bool) -> None:
    from harness.models import remove_adapter

    for point in points:
        if loaded is None:
            loaded = load_base(point.config)
        train_one(point.config, loaded=loaded, quiet=quiet)
        remove_adapter(loaded)


def _train_apart(points: Sequence[SweepPoint], jobs: int) -> None:
    """In processes of their own, which begin afresh: the threads of torch do not survive a fork."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        list(pool.map(_train_point, [point.config for point in points]))


_kept: dict[str, LoadedModel] = {}


def _train_point(config: TrainConfig) -> Path:
    """One point in a worker, which keeps its base for the next."""
    from harness.models import remove_adapter

    if config.model not in _kept:
        _kept[config.model] = load_base(config)
    adapter = train_one(config, loaded=_kept[config.model], quiet=True)
    remove_adapter(_kept[config.model])
    return adapter
