"""python -m experiments.teaching RECIPE …: what recipes teach and recite, and the page of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.before_after import ExperimentOptions, read_numbers
from harness.cli.arguments import parse
from harness.errors import EXIT_OK, HarnessError, nearest


@dataclass(frozen=True)
class TeachingOptions(ExperimentOptions):
    recipes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")] = ()
    """Names in experiments/teaching/recipes.toml. None: all."""
    seeds: tuple[int, ...] = (0,)
    """One run of each recipe for each seed."""
    formats_seed: int = 0
    """Seed of the made-up formats that are evaluated. Take a new one for each reported number."""
    out: str = "build/teaching"
    """Folder for runs and results. The same command resumes where it was interrupted."""


def teaching(args: list[str]) -> int:
    """Train recipes, and measure what each teaches, recites and closes of the gap."""
    command = "python -m experiments.teaching"
    options = parse(TeachingOptions, args, "teaching", teaching.__doc__, prog=command)
    out = Path(options.out)
    if options.page:
        _write_page(Path(options.page), read_numbers(out), command)
        return EXIT_OK
    from experiments.teaching.measure import Plan, measure, read_recipes

    known = read_recipes()
    for name in options.recipes:
        if name not in known:
            raise HarnessError(f"unknown recipe {name!r}", hint=nearest(name, known))
    plan = Plan(out, options.formats_seed, model=options.model)
    if options.smoke:
        plan = Plan(out, options.formats_seed, 2, 8, options.model, smoke=True)
    for seed in options.seeds:
        for name in options.recipes or known:
            print(measure(name, known[name], seed, plan))
    return EXIT_OK


def _write_page(page: Path, new: dict[str, dict[str, Any]], command: str) -> None:
    from experiments.page_results import rewrite, with_kept, write_picture
    from experiments.teaching.page import pareto, results_text
    from harness.report.chart import svg_text

    runs = list(with_kept(page, new, command).values())
    picture = page.with_suffix(".svg")
    text = results_text(runs, picture.name)
    if picture.name in text:
        write_picture(svg_text(pareto(runs)), picture)
    rewrite(page, text)


if __name__ == "__main__":
    from harness.cli.main import run_command

    sys.exit(run_command(teaching, sys.argv[1:]))
