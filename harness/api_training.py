"""Training from Python: ``harness.train`` and ``harness.sweep``, loaded when first used."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api_results import SweepResult, TrainResult
from harness.errors import HarnessError
from harness.extras import explain_missing

if TYPE_CHECKING:
    from harness.training.config import TrainConfig


def train(
    config: str | Path | Mapping[str, Any] | TrainConfig,
    *,
    trainer: str = "",
    quiet: bool = True,
    **settings: Any,
) -> TrainResult:
    """Train a LoRA adapter across prompt formats.

    An interrupted run is resumed; a finished one is returned at once. ``config`` is a TOML file, a
    configuration, script or notebook of axolotl, LLaMA-Factory, TRL or unsloth (``trainer`` says
    whose, where its keys do not), a dictionary of the shape of the TOML file, or a TrainConfig.
    ``settings`` change single settings by name: ``learning_rate=1e-4``, ``output_dir="runs/a"``.
    What another trainer's file says and is not kept is in ``notes`` of the result, and printed
    on standard error unless ``quiet``.

    Raises HarnessError for a mistake in the input.
    """
    chosen, lines = _settings_of(config, trainer, settings, "train")
    if not quiet:
        print("\n".join(lines), end="\n" if lines else "", file=sys.stderr)
    with explain_missing("harness.train"):
        from harness.training import start

        adapter = start.train(chosen, quiet=quiet)
    return TrainResult(adapter, adapter.parent, lines)


def sweep(
    config: str | Path | Mapping[str, Any] | TrainConfig,
    grid: Mapping[str, Iterable[Any]],
    *,
    trainer: str = "",
    jobs: int = 1,
    raw_alpha: bool = False,
    quiet: bool = True,
    **settings: Any,
) -> SweepResult:
    """Train over a grid of settings, each combination a run; the same call resumes a sweep.

    ``grid`` is a setting's name → its values: ``{"learning_rate": [1e-4, 1e-3]}``. ``config``,
    ``trainer`` and ``settings`` are those of ``train``; ``jobs`` and ``raw_alpha`` are the options
    of ``harness sweep``. The folder ``output_dir`` gets sweep.json and the map.

    Raises HarnessError for a mistake in the input.
    """
    chosen, lines = _settings_of(config, trainer, settings, "sweep")
    if jobs < 1:
        raise HarnessError(f"invalid jobs {jobs}: expected at least 1")
    if not grid:
        raise HarnessError("sweep: the grid is empty", hint='grid={"learning_rate": [1e-4, 1e-3]}')
    if not quiet:
        print("\n".join(lines), end="\n" if lines else "", file=sys.stderr)
    with explain_missing("harness.sweep"):
        from harness.report.sweep_document import Sweep
        from harness.report.sweep_map import write_sweep_map
        from harness.training.sweep import run_sweep, sweep_points

        texts = {name: list(map(str, values)) for name, values in grid.items()}
        points = sweep_points(chosen, texts, compensate=not raw_alpha)
        rows = run_sweep(points, jobs=jobs, quiet=quiet)
        folder = Path(chosen.output_dir)
        write_sweep_map(Sweep.from_points(rows), folder)
    return SweepResult(folder, tuple(rows), lines)


def _settings_of(
    config: str | Path | Mapping[str, Any] | TrainConfig,
    trainer: str,
    settings: Mapping[str, Any],
    where: str,
) -> tuple[TrainConfig, tuple[str, ...]]:
    """The settings of a call, and what is to be said of another trainer's file."""
    from harness.training.config import TrainConfig, parse_config
    from harness.training.config.recipe_file import RecipeFile, read_recipe_file
    from harness.training.runs.overrides import whole_name

    if isinstance(config, str | Path):
        recipe = read_recipe_file(Path(config), trainer)
    elif trainer:
        raise HarnessError(f"{where}: trainer={trainer!r} needs a file")
    elif isinstance(config, TrainConfig):
        recipe = RecipeFile(config)
    else:
        recipe = RecipeFile(parse_config(dict(config)))
    table = recipe.config.as_dict()
    for name, value in settings.items():
        *sections, leaf = whole_name(name, recipe.config).split(".")
        place = table
        for section in sections:
            place = place[section]
        place[leaf] = str(value) if isinstance(value, Path) else value
    chosen = parse_config(table, where=where)
    recipe.refuse_incomplete(chosen, "argument")
    return chosen, tuple(recipe.other.lines()) if recipe.other else ()
