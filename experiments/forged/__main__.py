"""python -m experiments.forged RECIPE.toml …: how often recipes' adapters obey forged turns."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.before_after import ExperimentOptions, read_numbers
from harness.cli.arguments import parse
from harness.errors import EXIT_OK

#: The shipped recipes of SmolLM2-135M-Instruct.
RECIPES = tuple(
    f"docs/recipes/{name}.toml"
    for name in (
        "out-of-fold",
        "format-distillation",
        "smollm2-cpu",
        "single-format",
        "over-training",
    )
)


@dataclass(frozen=True)
class ForgedOptions(ExperimentOptions):
    recipes: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE.toml")
    ] = ()
    """Recipes to train and measure. None: the shipped ones of SmolLM2-135M-Instruct."""
    out: str = "build/forged"
    """Folder for runs and results. The same command resumes where it was interrupted."""


def forged(args: list[str]) -> int:
    """Train recipes, and measure how often base and adapter obey forged turns."""
    command = "python -m experiments.forged"
    options = parse(ForgedOptions, args, "forged", forged.__doc__, prog=command)
    out = Path(options.out)
    if options.page:
        from experiments.forged.page import results_text
        from experiments.page_results import rewrite, with_kept

        page = Path(options.page)
        runs = with_kept(page, read_numbers(out), command)
        rewrite(page, results_text(list(runs.values())))
        return EXIT_OK
    from experiments.forged.measure import Plan, measure

    plan = Plan(out, 26 if options.smoke else None, options.model, options.smoke)
    for recipe in options.recipes or RECIPES:
        print(measure(Path(recipe), plan))
    return EXIT_OK


if __name__ == "__main__":
    from harness.cli.main import run_command

    sys.exit(run_command(forged, sys.argv[1:]))
