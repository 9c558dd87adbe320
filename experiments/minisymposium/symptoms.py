"""Parts 2 and 7: the order in which symptoms appear along a run, each against its null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.minisymposium.experiment import Experiment
from experiments.minisymposium.paired import above, by_case, difference, mean_of
from harness.evaluation.analysis.recall_table import ALL_FORMATS
from harness.evaluation.results import Evaluation
from harness.evaluation.settings import EvalSettings
from harness.run_file import NLL_METRICS, measured_checkpoints
from harness.training.runs.checkpoints import checkpoint_dirs, step_of
from harness.training.selection.best_checkpoint import find_best_checkpoint
from harness.training.selection.memorisation import leaves_null

#: Symptoms read from answers and references: name → metric, prefix of its case ids, more is worse.
ANSWERED = {
    "false statement on an unanswerable question": ("on_task", "premise-", False),
    "canned phrase": ("gptisms", "", True),
    "drift hazard along answers": ("hazard", "", True),
    "drift hazard along references": ("hazard_ref", "", True),
    "answer in another language": ("drift", "", True),
    "loop": ("loop", "", True),
}


def over_training(lab: Experiment) -> dict[str, Any]:
    """Part 2. The over-trained run's symptoms, in the order in which they leave their nulls."""
    name, study = lab.study.over, lab.study
    run, entries = lab.run(name), measured_checkpoints(lab.run(name))
    wanted = _looked_at(
        lab,
        [folder for folder in checkpoint_dirs(run) if step_of(folder) in study.symptom_steps]
        or checkpoint_dirs(run),
    )
    formats = (study.seen[0], *study.held_out[:2])
    settings = EvalSettings(max_new_tokens=48, recall_examples=12, recall_formats=2)

    def asked(label: str, adapter: Path | None) -> Evaluation:
        return lab.evaluate(
            f"{name} symptoms, {label}",
            adapter,
            ["premises", "references"],
            formats=formats,
            limit=14,
            recall=name,
            settings=settings,
        )

    base = asked("base", None)
    later = {step_of(folder): asked(f"step {step_of(folder)}", folder) for folder in wanted}
    rows = [course(symptom, base, later) for symptom in ANSWERED]
    rows += [_near_verbatim(base, later), _recall(entries), _turn(run, entries)]
    return {
        "run": name,
        "symptoms": in_order(rows),
        "steps": [entry["step"] for entry in entries],
        "curve": [_slim(entry) for entry in entries],
    }


def drifting(lab: Experiment) -> dict[str, Any]:
    """Part 7. The run that is taught Chinese: hazard and drifting answers at every checkpoint.

    In a trained and in a held-out format.
    """
    name, study = lab.study.drift, lab.study
    formats = (lab.config(name).formats.train[0], study.held_out[0])
    settings = EvalSettings(max_new_tokens=40)

    def asked(label: str, adapter: Path | None) -> Evaluation:
        return lab.evaluate(
            f"drift, {label}",
            adapter,
            ["answers", "references"],
            formats=formats,
            limit=study.drift_cases,
            settings=settings,
        )

    base = asked("base", None)
    later = {
        step_of(folder): asked(f"step {step_of(folder)}", folder)
        for folder in _looked_at(lab, checkpoint_dirs(lab.run(name)))
    }
    found = {}
    for format_id in formats:
        rows = [
            course(symptom, base, later, formats=[format_id])
            for symptom in (
                "drift hazard along references",
                "drift hazard along answers",
                "answer in another language",
            )
        ]
        found[format_id] = in_order(rows)
    return {"run": name, "formats": found, "rows": "one Chinese answer to three English ones"}


def _looked_at(lab: Experiment, folders: Sequence[Path]) -> Sequence[Path]:
    """All checkpoints; the last alone in a smoke run."""
    return folders[-1:] if lab.scale == "smoke" else folders


def course(
    symptom: str, base: Evaluation, later: Mapping[int, Evaluation], *, formats: Sequence[str] = ()
) -> dict[str, Any]:
    """A metric along the checkpoints, with the base model on the same cases as its null.

    It appears where the paired difference is significantly worse, at all later checkpoints too.
    """
    metric, kind, more_is_worse = ANSWERED[symptom]
    sign = 1 if more_is_worse else -1
    null = _worse(by_case(base, metric, kind=kind, formats=formats), sign)
    points: list[dict[str, Any]] = [{"step": 0, "value": mean_of(null), "difference": None}]
    for step, evaluation in later.items():
        values = _worse(by_case(evaluation, metric, kind=kind, formats=formats), sign)
        points.append(
            {"step": step, "value": mean_of(values), "difference": difference(null, values, metric)}
        )
    seen = {point["step"]: above(point["difference"]) for point in points}
    return {
        "symptom": symptom,
        "null": "the base model on the same cases, paired",
        "from": onset(seen),
        "points": points,
    }


def onset(seen: Mapping[int, bool]) -> int | None:
    """The step from which a symptom is seen at every checkpoint to the end, or None.

    One that comes and goes is expected at a level of 5 %.
    """
    first = None
    for step in sorted(seen, reverse=True):
        if not seen[step]:
            break
        first = step
    return first


def _worse(values: Mapping[str, float], sign: int) -> dict[str, float]:
    """The rate of bad answers: the value, or one less the rate of good ones."""
    return {case: value if sign > 0 else 1 - value for case, value in values.items()}


def _near_verbatim(base: Evaluation, later: Mapping[int, Evaluation]) -> dict[str, Any]:
    """Training answers continued nearly verbatim from their first half, beyond the controls."""
    points: list[dict[str, Any]] = []
    for step, evaluation in {0: base, **later}.items():
        points += [
            {
                "step": step,
                "value": row.excess,
                "difference": {"low": row.low, "high": row.high, "n": row.n_train},
            }
            for row in (evaluation.recall.rows if evaluation.recall else ())
            if (row.format, row.metric) == (ALL_FORMATS, "nv_recall@50%")
        ]
    seen = {point["step"]: bool(point["step"]) and above(point["difference"]) for point in points}
    return {
        "symptom": "near-verbatim recall",
        "null": "controls never trained on",
        "from": onset(seen),
        "points": points,
    }


def _recall(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The gain of training answers in log-probability a token beyond that of their controls.

    Its null is the permutation null of ``pick``.
    """
    start = entries[0]["recall"]
    points = [
        {
            "step": entry["step"],
            "value": fmean(entry["recall"][each] - start[each] for each in start),
            "difference": None,
        }
        for entry in entries
    ]
    seen = {
        entry["step"]: leaves_null(entries[0]["recall_items"], entry["recall_items"])
        for entry in entries
    }
    return {
        "symptom": "training answers likelier than controls",
        "null": "training rows and controls exchanged",
        "from": onset(seen),
        "points": points,
    }


def _turn(run: Path, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rise of held-out NLL: it appears at the first checkpoint after the turn."""
    turn = find_best_checkpoint(run).turn_step
    measure = NLL_METRICS[0]
    points = [
        {"step": entry["step"], "value": entry[measure], "difference": None} for entry in entries
    ]
    from_step = next(
        (entry["step"] for entry in entries if turn is not None and entry["step"] > turn), None
    )
    return {
        "symptom": "loss rises in held-out formats",
        "null": "a curve that only falls, on items that did not choose the turn",
        "from": from_step,
        "points": points,
    }


def in_order(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort by the step at which they appear; those that never do come last."""
    return sorted(rows, key=lambda row: (row["from"] is None, row["from"] or 0, row["symptom"]))


def _slim(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in entry.items()
        if key in ("step", "epoch", "sum_lr", "recall")
        or (key.startswith(("nll_", "hazard_")) and "items" not in key)
    }
