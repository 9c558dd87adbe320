"""python -m experiments.minisymposium: the experiment on each model, its plan, and its page."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from harness.cli.arguments import parse
from harness.errors import EXIT_FINDINGS, EXIT_OK, HarnessError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.minisymposium.study import Scale, Study


@dataclass(frozen=True)
class MiniSymposiumOptions:
    study: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Study files, one for each model: those in docs/recipes."""
    out: str = ""
    """Folder for runs, results, figures and report.html: build/minisymposium, or
    build/minisymposium-smoke. The same command resumes where it was interrupted."""
    model: str = ""
    """Run only the study of this model. The results of the others are kept."""
    part: tuple[int, ...] = ()
    """Run only these parts (1 to 9). The results of the others are kept."""
    minutes: float = 0.0
    """Stop after about this many minutes, at the next checkpoint, and exit with code 1. The same
    command resumes. 0: run to the end."""
    scale: Annotated[str, tyro.conf.arg(metavar="full|smoke")] = "full"
    """smoke: a few steps and cases of everything, to test the code. Its numbers mean nothing."""
    stand_in: Annotated[str, tyro.conf.arg(metavar="MODEL")] = ""
    """A small model to use instead of the studies' own, with --scale smoke."""
    plan: bool = False
    """Print the cost of each part and exit."""
    merge: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FOLDER ...")] = ()
    """Only merge the results in these folders, of one model, into the first folder."""
    page: str = ""
    """Only write the results in --out into this page (docs/minisymposium.md), and their figures and
    results.json into the folder next to it. A model that has no results in --out keeps its own."""


def minisymposium(args: list[str]) -> int:
    """Train and measure all runs of docs/minisymposium.md, and write its report."""
    options = parse(
        MiniSymposiumOptions,
        args,
        "minisymposium",
        minisymposium.__doc__,
        prog="python -m experiments.minisymposium",
    )
    from experiments.minisymposium.study import PARTS, STUDIES, read_study

    studies = [read_study(Path(study)) for study in options.study or STUDIES]
    chosen = _chosen(studies, options.model)
    out = Path(options.out or f"build/minisymposium{'-smoke' * (options.scale == 'smoke')}")
    if unknown := sorted(set(options.part) - set(PARTS)):
        raise HarnessError(
            f"invalid --part {unknown[0]}", hint=f"expected {PARTS[0]} to {PARTS[-1]}"
        )
    if options.scale not in ("full", "smoke"):
        raise HarnessError(f"invalid --scale {options.scale!r}", hint="expected full or smoke")
    if options.stand_in and options.scale != "smoke":
        raise HarnessError("--stand-in needs --scale smoke", hint="its numbers mean nothing")
    if options.minutes < 0:
        raise HarnessError(f"invalid --minutes {options.minutes:g}", hint="expected 0 or more")
    if options.plan:
        return _print_plan(chosen, options.part)
    if options.merge:
        from experiments.minisymposium.merge import merge

        merge([Path(folder) for folder in options.merge], Path(options.merge[0]))
        return EXIT_OK
    if options.page:
        return _write_page(Path(options.page), studies, out)
    return _run(chosen, out, options)


def _chosen(studies: Sequence[Study], model: str) -> list[Study]:
    """The studies to run. Raises HarnessError for a model without a study."""
    models = [study.model for study in studies]
    if model and model not in models:
        hint = nearest(model, models) or f"choose one of {', '.join(models)}"
        raise HarnessError(f"no study of the model {model!r}", hint=hint)
    return [study for study in studies if not model or study.model == model]


def _print_plan(studies: Sequence[Study], parts: Sequence[int]) -> int:
    from experiments.minisymposium.budget import costs, table

    for study in studies:
        print(f"{study.model}\n")
        print("\n".join(table(costs(study, tuple(parts) or study.parts))) + "\n")
    return EXIT_OK


def _run(studies: Sequence[Study], out: Path, options: MiniSymposiumOptions) -> int:
    from experiments.minisymposium.compose import PAGE_FILE, run_experiment
    from experiments.minisymposium.experiment import Experiment
    from experiments.minisymposium.section import VERDICTS
    from experiments.minisymposium.sitting import Sitting, SittingOver

    sitting = Sitting(options.minutes)
    scale: Scale = "smoke" if options.scale == "smoke" else "full"
    for study in studies:
        lab = Experiment(study, out / study.place, options.stand_in, scale, sitting=sitting)
        try:
            results = run_experiment(lab, options.part or study.parts)
        except SittingOver as over:
            print(over, file=sys.stderr)
            return EXIT_FINDINGS
        for verdict in results["verdicts"]:
            word = VERDICTS[verdict["holds"]].strip("*")
            print(f"{study.model}: {word}: {verdict['demand']}: {verdict['found']}")
        print(f"report: {lab.out / PAGE_FILE}")
    return EXIT_OK


def _write_page(page: Path, studies: Sequence[Study], out: Path) -> int:
    from experiments.minisymposium.compose import RESULTS_FILE, read_results
    from experiments.minisymposium.figures import figures, write_figures
    from experiments.minisymposium.page import results_text
    from experiments.page_results import read_page, rewrite
    from harness.files import write_text

    if len(studies) > 2:
        raise HarnessError("--page compares two models", hint="name one or two studies")
    read_page(page)
    folder = page.with_suffix("")
    results: dict[str, dict[str, Any] | None] = {}
    for study in studies:
        home, found = folder / study.place, out / study.place / RESULTS_FILE
        if found.is_file():
            new = results[study.model] = read_results(found)
            write_figures(figures(new["parts"]), home)
            write_text(home / RESULTS_FILE, found.read_text(encoding="utf-8"))
        elif (home / RESULTS_FILE).is_file():
            results[study.model] = read_results(home / RESULTS_FILE)
        else:
            results[study.model] = None
    places = {study.model: study.place for study in studies}
    rewrite(page, results_text(results, places, folder.name))
    return EXIT_OK


if __name__ == "__main__":
    from harness.cli.main import run_command

    sys.exit(run_command(minisymposium, sys.argv[1:]))
