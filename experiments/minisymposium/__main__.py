"""python -m experiments.minisymposium [STUDY.toml]: the experiment, its plan, and its page."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from harness.cli.arguments import parse
from harness.errors import EXIT_OK, HarnessError


@dataclass(frozen=True)
class MiniSymposiumOptions:
    study: Annotated[str, tyro.conf.Positional] = "docs/recipes/minisymposium/study.toml"
    """The study file; its recipes are beside it."""
    out: str = ""
    """Folder for runs, results, figures and report.html: build/minisymposium, or
    build/minisymposium-smoke. The same command resumes where it was interrupted."""
    part: tuple[int, ...] = ()
    """Only these parts (1 to 8); the results of the others are kept."""
    scale: Annotated[str, tyro.conf.arg(metavar="full|smoke")] = "full"
    """smoke: a few steps and cases of everything, to test the code. Its numbers mean nothing."""
    model: str = ""
    """A model to take in place of that of the recipes."""
    plan: bool = False
    """Print the cost of each part and exit."""
    page: str = ""
    """Only write the results in --out into this page (docs/minisymposium.md), and its figures and
    results.json into the folder beside it."""


def minisymposium(args: list[str]) -> int:
    """Train and measure all runs of docs/minisymposium.md, and write its report."""
    options = parse(
        MiniSymposiumOptions,
        args,
        "minisymposium",
        minisymposium.__doc__,
        prog="python -m experiments.minisymposium",
    )
    from experiments.minisymposium.study import PARTS, read_study

    study = read_study(Path(options.study))
    out = Path(options.out or f"build/minisymposium{'-smoke' * (options.scale == 'smoke')}")
    parts = options.part or PARTS
    if unknown := sorted(set(parts) - set(PARTS)):
        raise HarnessError(f"invalid --part {unknown[0]}", hint="expected 1 to 8")
    if options.scale not in ("full", "smoke"):
        raise HarnessError(f"invalid --scale {options.scale!r}", hint="expected full or smoke")
    if options.plan:
        from experiments.minisymposium.budget import costs, table

        print("\n".join(table(costs(study, Path(options.study).parent, tuple(parts)))))
        return EXIT_OK
    if options.page:
        return _write_page(Path(options.page), out)
    from experiments.minisymposium.compose import PAGE_FILE, run_experiment
    from experiments.minisymposium.experiment import Experiment
    from experiments.minisymposium.sections import OUTCOMES

    lab = Experiment(
        study,
        Path(options.study).parent,
        out,
        options.model,
        "smoke" if options.scale == "smoke" else "full",
    )
    results = run_experiment(lab, tuple(parts))
    for verdict in results["verdicts"]:
        word = OUTCOMES[verdict["holds"]].strip("*")
        print(f"{word}: {verdict['demand']}: {verdict['found']}")
    print(f"report: {out / PAGE_FILE}")
    return EXIT_OK


def _write_page(page: Path, out: Path) -> int:
    from experiments.minisymposium.compose import RESULTS_FILE, read_results
    from experiments.minisymposium.figures import figures, write_figures
    from experiments.minisymposium.page import with_results
    from harness.files import write_text

    results = read_results(out / RESULTS_FILE)
    folder = page.with_suffix("")
    write_figures(figures(results["parts"]), folder)
    write_text(folder / RESULTS_FILE, (out / RESULTS_FILE).read_text(encoding="utf-8"))
    write_text(page, with_results(page.read_text(encoding="utf-8"), results, folder.name))
    print(page)
    return EXIT_OK


if __name__ == "__main__":
    from harness.cli.main import run_command

    sys.exit(run_command(minisymposium, sys.argv[1:]))
