"""The demands on the experiment, judged by the gate, ``pick`` and the automatic branch."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree  # reads only what pytest wrote

from experiments.minisymposium.experiment import SMOKE_CASES, Experiment
from experiments.minisymposium.gaps import gated
from experiments.paired import above, below, spelt
from harness.evaluation.analysis.recall_table import ENOUGH_CONTROLS
from harness.gate.baseline import to_baseline
from harness.gate.baseline_file import write_baseline
from harness.resources import data_dir
from harness.run_file import NLL_METRICS
from harness.training.selection.memorisation import beyond

#: Failures that the page shows.
SHOWN = 8
#: The demanded share of the gap, and the allowed distance from the lowest value.
GAP_CLOSED, WITHIN = 0.90, 0.01
#: Two measurements of one model on the same references differ by less, on whatever machine.
SAME = 1e-3


def gate(lab: Experiment) -> dict[str, Any]:
    """Run ``pytest eval/`` on the over-trained run with a baseline of the best one."""
    baseline = lab.out / "best.json"
    study = lab.study
    write_baseline(to_baseline(gated(lab, "best", lab.run(study.best) / "adapter")), baseline)
    over = lab.run(study.over) / "adapter"
    gated(lab, "over-trained", over)  # the gate finds these answers in the results file
    limit = SMOKE_CASES if lab.scale == "smoke" else study.headline_cases
    options = [
        "--gate-model",
        lab.config(study.best).model,
        "--gate-adapter",
        str(over),
        "--gate-baseline",
        str(baseline),
        "--gate-report-dir",
        str(lab.out / "eval"),
    ]
    options += [
        "--gate-formats",
        ",".join((lab.native, *study.seen, *study.held_out)),
        "--gate-limit",
        str(limit),
    ]
    report = lab.out / "gate.xml"
    report.unlink(missing_ok=True)
    done = subprocess.run(  # noqa: S603  # our own interpreter and arguments
        [
            sys.executable,
            "-m",
            "pytest",
            str(data_dir("eval")),
            "-q",
            "-p",
            "no:cacheprovider",
            f"--junitxml={report}",
            *options,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    asked = done.returncode in (0, 1) and report.is_file()  # without pytest, Python ends with 1 too
    failures = _failures(report) if asked else []
    command = " ".join(["pytest eval/", *options]).replace(f"{Path.cwd()}/", "")
    error = "" if asked else (done.stderr or done.stdout)[-500:]
    return {
        "exit": done.returncode,
        "command": command,
        "failed": len(failures),
        "failures": _one_for_each_metric(failures),
        "error": error,
    }


def _failures(report: Path) -> list[tuple[str, str]]:
    """(test, first line of its message) of every check that failed."""
    tests = ElementTree.parse(report).iter("testcase")  # noqa: S314  # written by pytest
    return [
        (test.get("name", ""), (found.get("message", "").strip().splitlines() or [""])[0])
        for test in tests
        if (found := test.find("failure")) is not None
    ]


def _one_for_each_metric(failures: list[tuple[str, str]]) -> list[str]:
    """The first failure of each metric."""
    first: dict[str, str] = {}
    for name, why in failures:
        first.setdefault(name.rstrip("]").rpartition("-")[2], why)
    return list(first.values())[:SHOWN]


def verdicts(
    parts: Mapping[str, Mapping[str, Any]], gate_run: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Each demand of the parts that were run, with the finding and whether it holds.

    True or False where the whole interval says so, None where it includes both.
    """
    found: list[dict[str, Any]] = []
    if "6" in parts:
        found += _best_recipe(parts["6"]["rows"][-1])
    if "1" in parts and parts["1"]["pick"] is not None:
        short = parts["1"]["pick_short_of_lowest"]
        found.append(
            _verdict(
                "harness pick chooses a checkpoint within 1 % of the lowest held-out NLL of the "
                "map (read on the curve that it chose by)",
                short <= WITHIN,
                f"{short:+.2%}",
            )
        )
    if "1" in parts and "4" in parts:
        short = parts["4"]["auto_branch"]["nll"] / parts["1"]["lowest"] - 1
        alike = _starts_alike(parts["1"], parts["4"])
        found.append(
            _verdict(
                "the automatic branch ends within 1 % of the lowest held-out NLL of the map",
                short <= WITHIN if alike else None,
                f"{short:+.2%}" if alike else "not comparable: parts 1 and 4 had other references",
            )
        )
    if gate_run:
        text = f"exit {gate_run['exit']}, {gate_run['failed']} checks named"
        found.append(
            _verdict(
                "pytest eval/ with a baseline of the best run fails the over-trained one "
                "and names why",
                gate_run["exit"] == 1 and gate_run["failed"] > 0,
                text,
            )
        )
    return found


def _starts_alike(rate_map: Mapping[str, Any], shapes: Mapping[str, Any]) -> bool:
    """Whether both parts measured the base alike: references may change between two runs."""
    start = shapes["rows"][0]["curve"][0][NLL_METRICS[0]]
    return math.isclose(start, rate_map["start"], rel_tol=SAME)


def _best_recipe(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    gap, choice = row["gap_closed"], row["native_choice_change"]
    found = [
        _judged(
            "the best recipe closes at least 90 % of the held-out gap (NLL excess)",
            gap,
            GAP_CLOSED,
            ".0%",
        )
    ]
    if choice:
        found.append(_judged("native choice accuracy is not lower", choice, 0.0, "+.3f"))
    if recall := row["recall_excess"]:
        text = (
            f"{recall['value']:+.3f} nats a token over the run; 95 % of exchanged rows and controls"
            f" stay below {recall['limit']:+.3f} ({recall['rows']} rows, {recall['controls']}"
            " controls)"
        )
        found.append(
            _verdict(
                "recall excess stays within its null",
                _within_null(recall),
                text,
            )
        )
    return found


def _within_null(recall: Mapping[str, Any]) -> bool | None:
    """Few controls cannot show that nothing was learnt by heart, only that something was."""
    if beyond(recall["value"], recall["limit"]):
        return False
    return True if recall["controls"] >= ENOUGH_CONTROLS else None


def _judged(
    demand: str, found: Mapping[str, Any] | None, limit: float, form: str
) -> dict[str, Any]:
    """A demand that a number be at least ``limit``, judged by its interval."""
    holds = True if above(found, limit) else False if below(found, limit) else None
    return _verdict(demand, holds, spelt(found, form) if found else "not measured")


def _verdict(demand: str, holds: bool | None, found: str) -> dict[str, Any]:
    return {"demand": demand, "holds": holds, "found": found}
