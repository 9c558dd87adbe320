"""python -m experiments.forged RECIPE.toml …: how often recipes' adapters obey forged turns."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from harness.cli.arguments import parse
from harness.errors import EXIT_OK, HarnessError

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
class ForgedOptions:
    recipes: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE.toml")
    ] = ()
    """Recipes to train and measure. None: the shipped ones of SmolLM2-135M-Instruct."""
    out: str = "build/forged"
    """Folder for runs and results. The same command resumes where it was interrupted."""
    model: str = ""
    """A model in place of the recipes' own."""
    smoke: bool = False
    """Two steps and 26 cases of everything, to test the code. Its numbers mean nothing."""
    page: str = ""
    """Only write the results in --out into this page."""


def forged(args: list[str]) -> int:
    """Train recipes, and measure how often base and adapter obey forged turns."""
    options = parse(
        ForgedOptions, args, "forged", forged.__doc__, prog="python -m experiments.forged"
    )
    out = Path(options.out)
    if options.page:
        return _write_page(Path(options.page), out)
    from experiments.forged.measure import Plan, measure

    plan = Plan(out, 26 if options.smoke else None, options.model, options.smoke)
    for recipe in options.recipes or RECIPES:
        print(measure(Path(recipe), plan))
    return EXIT_OK


def _write_page(page: Path, out: Path) -> int:
    from experiments.forged.page import read_numbers, results_text
    from experiments.page_results import with_results
    from harness.files import write_text

    runs = read_numbers(out)
    if not runs:
        raise HarnessError("no numbers.json", where=str(out), hint="python -m experiments.forged")
    write_text(page, with_results(page.read_text(encoding="utf-8"), results_text(runs)))
    print(page)
    return EXIT_OK


if __name__ == "__main__":
    from harness.cli.main import run_command

    sys.exit(run_command(forged, sys.argv[1:]))
