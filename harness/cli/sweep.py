"""harness sweep RUN.toml --grid name=values: many runs, one table, one map."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from harness.cli.arguments import at_least, parse
from harness.cli.output import print_json
from harness.errors import EXIT_OK, EXIT_USAGE, HarnessError
from harness.terminal import console

if TYPE_CHECKING:
    from harness.report.sweep_document import Sweep


@dataclass(frozen=True)
class SweepOptions:
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN.toml")]
    """TOML file with a run's settings, or another trainer's configuration, as harness train reads
    it. Its output_dir holds the folders of all runs."""
    trainer: Annotated[str, tyro.conf.arg(name="from", metavar="NAME")] = ""
    """The trainer whose configuration it is, if its keys do not show it: axolotl, llama-factory,
    trl or unsloth."""
    grid: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A setting and its values, such as learning_rate=1e-4,1e-3. Every combination is a run."""
    jobs: int = 1
    """Runs at a time, each in its own process with its own base. 1: one after the other on one
    base."""
    raw_alpha: bool = False
    """Do not compensate a grid over lora_alpha. By default B's rate is corrected, because under
    Adam a changed alpha amounts to a changed rate of B."""
    dry_run: bool = False
    """Print the runs and their state, and train nothing."""
    json: bool = False
    """Print one JSON object of all runs."""


def sweep(args: list[str]) -> int:
    """Train over a grid of settings and draw the map; the same command resumes a sweep.

    Example: harness sweep run.toml --grid learning_rate=1e-4,1e-3
    """
    options = parse(SweepOptions, args, "sweep", sweep.__doc__)
    at_least(options, 1, "jobs")
    from harness.report.sweep_document import SWEEP_FILE, Sweep
    from harness.training.config.recipe_file import read_recipe_file
    from harness.training.sweep import run_sweep, sweep_points, sweep_rows

    if not options.grid:
        raise HarnessError("missing --grid", hint="for example --grid learning_rate=1e-4,1e-3")
    if wrong := next((text for text in options.grid if not re.match("[^=]+=", text)), None):
        raise HarnessError(
            f"invalid --grid {wrong!r}: expected NAME=VALUE,VALUE",
            hint="for example --grid learning_rate=1e-4,1e-3",
        )
    read = read_recipe_file(Path(options.recipe), options.trainer)
    recipe = read.config
    read.refuse_incomplete(recipe, "file")
    grid = {
        name.strip(): values.split(",")
        for name, _, values in (text.partition("=") for text in options.grid)
    }
    points = sweep_points(recipe, grid, compensate=not options.raw_alpha)
    if read.other is not None:
        print("\n".join(read.other.lines()), file=sys.stderr)
    folder = Path(recipe.output_dir)
    rows = (
        sweep_rows(points)
        if options.dry_run
        else run_sweep(points, jobs=options.jobs, quiet=options.json)
    )
    ended = EXIT_OK if options.dry_run or all(row["done"] for row in rows) else EXIT_USAGE
    found = Sweep.from_points(rows)
    pictures: list[Path] = []
    if not options.dry_run:
        from harness.report.sweep_map import write_sweep_map

        pictures = write_sweep_map(found, folder)
    if options.json:
        print_json({"points": rows, "files": [str(path) for path in pictures]})
        return ended
    _print_table(found)
    for path in pictures if options.dry_run else [*pictures, folder / SWEEP_FILE]:
        print(path)
    return ended


def _print_table(found: Sweep) -> None:
    from rich.table import Table

    from harness.report.sweep_document import sweep_table

    heads, lines = sweep_table(found.points)
    table = Table()
    for head in heads:
        table.add_column(head, no_wrap=True)
    for line in lines:
        table.add_row(*line)
    screen = console()
    width = None if screen.is_terminal else max(screen.width, 132)
    console(width=width, soft_wrap=True).print(table)
