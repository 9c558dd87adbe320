"""All parts in order. Every figure, table and number is made from one file of results."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.minisymposium.both_models import both_models
from experiments.minisymposium.card_plan import card_plan
from experiments.minisymposium.experiment import TIMES_FILE, Experiment
from experiments.minisymposium.figures import figures, write_figures
from experiments.minisymposium.gaps import formats
from experiments.minisymposium.long_run import long_run
from experiments.minisymposium.page import page_html
from experiments.minisymposium.rates import patience, rate_map
from experiments.minisymposium.sections import sections
from experiments.minisymposium.shapes import alphas, schedules
from experiments.minisymposium.symptoms import drifting, over_training
from experiments.minisymposium.verdicts import gate, verdicts
from harness.errors import HarnessError
from harness.evaluation.analysis.build_report import environment
from harness.files import write_text
from harness.report.json_document import read_table

RESULTS_FILE, PAGE_FILE, FIGURES = "results.json", "report.html", "figures"
SCHEMA = "minisymposium/3"

_PARTS: dict[int, Callable[[Experiment], dict[str, Any]]] = {
    1: rate_map,
    2: over_training,
    3: patience,
    4: schedules,
    5: alphas,
    6: formats,
    7: drifting,
    8: card_plan,
    9: long_run,
}


def run_experiment(lab: Experiment, parts: Sequence[int]) -> dict[str, Any]:
    """Train and measure the parts, write the results after each, and at the end figures and page.

    Nothing is computed twice, and the other parts of earlier calls are kept.
    """
    lab.out.mkdir(parents=True, exist_ok=True)
    earlier = _earlier(lab)
    found: dict[str, Any] = dict(earlier["parts"])
    asked, made = earlier["gate"], dict(earlier["made"])
    results: dict[str, Any] = {}
    try:
        for part in sorted(set(parts) & set(lab.study.parts)):
            lab.train(lab.study.runs(part))
            began = time.monotonic()
            found[str(part)] = _PARTS[part](lab)
            lab.note(f"measure part {part}", began)
            made[str(part)] = _today()
            results = _write(lab, found, asked, made, earlier["minutes"])
        if {"2", "6"} <= set(found) and (asked is None or {2, 6} & set(parts)):
            began = time.monotonic()
            asked = gate(lab)
            lab.note("gate", began)
        results = _write(lab, found, asked, made, earlier["minutes"])
    finally:  # also where the sitting ends
        if results:
            write_pages(results, lab.out)
    return results


def _earlier(lab: Experiment) -> dict[str, Any]:
    """The results of earlier calls. Raises HarnessError for another scale or model."""
    if not (lab.out / RESULTS_FILE).is_file():
        return {"parts": {}, "gate": None, "made": {}, "minutes": {}}
    found = read_results(lab.out / RESULTS_FILE)
    if (found["scale"], found["model"]["digest"]) != (lab.scale, lab.loaded.source.digest):
        message = f"this folder holds a {found['scale']} run of {found['model']['name']}"
        raise HarnessError(
            message, where=str(lab.out), hint="choose another --out or remove the folder"
        )
    return found


def _today() -> dict[str, Any]:
    """When and with what a part is made."""
    known = environment()
    day = datetime.now(UTC).date().isoformat()
    return {"date": day, "machine": known["machine"], "threads": known["threads"]}


def _write(
    lab: Experiment,
    parts: dict[str, Any],
    asked: dict[str, Any] | None,
    made: dict[str, Any],
    earlier_minutes: dict[str, float],
) -> dict[str, Any]:
    """Write the results file. What was not done again keeps the minutes that it took earlier."""
    times = lab.out / TIMES_FILE
    seconds = json.loads(times.read_text(encoding="utf-8")) if times.is_file() else {}
    results = {
        "schema": SCHEMA,
        "scale": lab.scale,
        "made": made,
        "model": {
            "name": lab.loaded.name,
            "digest": lab.loaded.source.digest,
            "dtype": str(lab.loaded.model.dtype),
        },
        "environment": environment(),
        "parts": json.loads(json.dumps(parts)),
        "gate": asked,
    }
    minutes = {what: round(value / 60, 2) for what, value in seconds.items()}
    results["minutes"] = {**earlier_minutes, **minutes}
    return write_results(results, lab.out)


def write_results(results: dict[str, Any], out: Path) -> dict[str, Any]:
    """Judge the results, and write results.json."""
    results = {**results, "verdicts": verdicts(results["parts"], results["gate"])}
    text = json.dumps(results, indent=1, sort_keys=True) + "\n"
    write_text(out / RESULTS_FILE, text)
    return dict(json.loads(text))  # in the file's order: the page is the same when made later


def write_pages(results: dict[str, Any], out: Path) -> None:
    """Figures and report.html from the results alone."""
    svgs = write_figures(figures(results["parts"]), out / FIGURES)
    note = "" if results["scale"] == "full" else "A smoke run: its numbers mean nothing."
    found = [*both_models({results["model"]["name"]: results}), *sections(results)]
    write_text(out / PAGE_FILE, page_html(found, svgs, note))


def read_results(path: Path) -> dict[str, Any]:
    """Read a results file. Raises HarnessError for any other file."""
    results = read_table(path, f"results of {SCHEMA}")
    if results.get("schema") != SCHEMA:
        raise HarnessError(
            f"no results of {SCHEMA}",
            where=str(path),
            hint="python -m experiments.minisymposium writes them into its --out folder",
        )
    return results
