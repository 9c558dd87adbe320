"""Part 6: the share of the held-out gap that each recipe closes, its native cost, its recall."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.minisymposium.experiment import Experiment
from experiments.paired import as_dict
from harness.evaluation.analysis.build_report import write_evaluation_report
from harness.evaluation.analysis.summary import gap_closed, group_mean, paired_change, summary
from harness.evaluation.results import Evaluation
from harness.evaluation.settings import EvalSettings
from harness.run_file import measured_checkpoints
from harness.training.selection.memorisation import controls_of, gain_and_null


def formats(lab: Experiment) -> dict[str, Any]:
    """Measure each recipe on references (all formats) and choices (native), the best on all."""
    before = _references(lab, "base", None), _choices(lab, "base", None)
    rows = [_row(lab, name, before) for name in lab.study.formats]
    base = {
        "excess": _as_dict(group_mean(before[0], "nll_excess", "held-out")),
        "choice_native": _as_dict(group_mean(before[1], "choice", "native")),
    }
    return {"base": base, "rows": rows, "best": _best(lab)}


def _references(lab: Experiment, label: str, adapter: Path | None) -> Evaluation:
    return lab.evaluate(
        f"references, {label}",
        adapter,
        ["references"],
        limit=lab.study.reference_cases,
        settings=EvalSettings(),
    )


def _choices(lab: Experiment, label: str, adapter: Path | None) -> Evaluation:
    return lab.evaluate(
        f"native choices, {label}",
        adapter,
        ["choice"],
        formats=[lab.native],
        settings=EvalSettings(),
    )


def _row(lab: Experiment, name: str, before: tuple[Evaluation, Evaluation]) -> dict[str, Any]:
    adapter = lab.run(name) / "adapter"
    after = _references(lab, name, adapter), _choices(lab, name, adapter)
    entries = measured_checkpoints(lab.run(name))
    start, end = entries[0], entries[-1]
    return {
        "run": name,
        "steps": end["step"],
        "gap_closed": _as_dict(gap_closed(before[0], after[0])),
        "excess": _as_dict(group_mean(after[0], "nll_excess", "held-out")),
        "by_format": {
            format_id: found.mean
            for format_id in lab.study.held_out
            if (found := after[0].aggregate(format_id, "nll_excess")) is not None
        },
        "native_nll_change": _as_dict(paired_change(before[0], after[0], "nll", "native")),
        "native_choice_change": _as_dict(paired_change(before[1], after[1], "choice", "native")),
        "recall": {
            each: end["recall"][each] - start["recall"][each] for each in end.get("recall", {})
        },
        "recall_excess": _recall(start, end),
    }


def _recall(start: Mapping[str, Any], end: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What training rows gained beyond controls over the run, and its permutation null's 95 %."""
    found = (
        gain_and_null(start["recall_items"], end["recall_items"]) if "recall_items" in end else None
    )
    return found and {
        "value": found[0],
        "limit": found[1],
        "rows": len(end["recall_items"]["rows"]),
        "controls": len(controls_of(end["recall_items"])),
    }


def _best(lab: Experiment) -> dict[str, Any]:
    """Measure the best recipe as ``harness demo`` does, before and after, with its own report."""
    study, name = lab.study, lab.study.best
    pair = [headline(lab, "base", None), headline(lab, "best", lab.run(name) / "adapter")]
    write_evaluation_report(
        pair, lab.out / "best", model=lab.loaded.name, limit=study.headline_cases
    )
    return {
        "run": name,
        "lines": [{"name": line.name, "text": line.text} for line in summary(pair)],
    }


def headline(lab: Experiment, label: str, adapter: Path | None) -> Evaluation:
    """Measure all kinds of cases in all formats of the study, as the gate does, and recall."""
    return lab.evaluate(
        f"headline, {label}",
        adapter,
        limit=lab.study.headline_cases,
        recall=lab.study.best,
        settings=EvalSettings(recall_examples=16, recall_formats=3),
    )


def gated(lab: Experiment, label: str, adapter: Path) -> Evaluation:
    """Measure what the gate measures: the same without recall. The answers are there already."""
    return lab.evaluate(f"gate, {label}", adapter, limit=lab.study.headline_cases)


def _as_dict(interval: Any) -> Mapping[str, Any] | None:
    return None if interval is None else as_dict(interval)
