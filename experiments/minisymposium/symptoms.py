"""Parts 2 and 7: the order in which symptoms appear along a run, each against its null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.effects import Effect, onset
from experiments.minisymposium.experiment import Experiment
from experiments.minisymposium.reported import at_end, at_pick
from experiments.minisymposium.study import rows_of
from experiments.paired import above, by_case, difference, mean_of
from harness.data.conversations import load_conversations
from harness.evaluation.analysis.recall_table import ALL_FORMATS
from harness.evaluation.results import Evaluation
from harness.evaluation.settings import EvalSettings
from harness.metrics.language.scripts import off_script
from harness.run_file import NLL_METRICS, measured_checkpoints
from harness.training.runs.checkpoints import checkpoint_dirs, step_of
from harness.training.selection.best_checkpoint import find_best_checkpoint
from harness.training.selection.memorisation import gain_and_null, leaves_null

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
    wanted = _looked_at(lab, name, study.symptom_steps)
    formats = (study.seen[0], *study.held_out[:2])
    settings = EvalSettings(max_new_tokens=48, recall_examples=12, recall_formats=2)

    def asked(label: str, adapter: Path | None) -> Evaluation:
        return lab.evaluate(
            f"{name} symptoms, {label}",
            adapter,
            ["premises", "references"],
            formats=formats,
            limit=study.symptom_cases,
            recall=name,
            settings=settings,
        )

    base = asked("base", None)
    later = {step_of(folder): asked(f"step {step_of(folder)}", folder) for folder in wanted}
    rows = [course(symptom, base, later) for symptom in ANSWERED]
    rows += [_near_verbatim(base, later), _recall(entries), _turn(run, entries)]
    pick, end = at_pick(lab, name), at_end(lab, name)
    return {
        "run": name,
        "symptoms": in_order(rows),
        "effects": {
            "rise": difference(pick["items"], end["items"], "nll"),
            "gap": gap_change(base, later[max(later)], formats[0], formats[1:]),
        },
        "steps": [entry["step"] for entry in entries],
        "curve": [_slim(entry) for entry in entries],
    }


def gap_change(
    base: Evaluation, after: Evaluation, seen: str, held_out: Sequence[str]
) -> Effect | None:
    """How much more the NLL of references has risen in held-out formats than in a trained one."""
    before, later = (
        {case: others[case] - value for case, value in own.items() if case in others}
        for own, others in (
            (by_case(each, "nll", formats=[seen]), by_case(each, "nll", formats=held_out))
            for each in (base, after)
        )
    )
    return difference(before, later, "nll")


def drifting(lab: Experiment) -> dict[str, Any]:
    """Part 7. Another language: hazard and drifting answers along a run, which may be taught it.

    In a trained and in a held-out format.
    """
    name, study = lab.study.drift, lab.study
    own = next((each for each in lab.config(name).formats.train if each != "all"), study.seen[0])
    formats = (own, study.held_out[0])
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
        for folder in _looked_at(lab, name, study.drift_steps)
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
    trained = load_conversations(rows_of(lab.config(name)))
    latin = frozenset(("Latin",))
    taught = sum(bool(off_script(row.messages[-1].content, latin)[0]) for row in trained)
    return {"run": name, "formats": found, "rows": len(trained), "taught": taught}


def _looked_at(lab: Experiment, name: str, steps: Sequence[int]) -> Sequence[Path]:
    """The checkpoints of a run at these steps; the last alone in a smoke run."""
    folders = checkpoint_dirs(lab.run(name))
    wanted = [folder for folder in folders if step_of(folder) in steps] or folders
    return folders[-1:] if lab.scale == "smoke" else wanted


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


def recall_gain(start: Mapping[str, Any], entry: Mapping[str, Any]) -> Effect | None:
    """What training answers gained over controls since ``start``, in nats a token.

    The interval is that of the permutation test which exchanges rows and controls. None where no
    recall was measured.
    """
    if "recall_items" not in start or "recall_items" not in entry:
        return None
    found = gain_and_null(start["recall_items"], entry["recall_items"], level=0.975)
    if found is None:
        return None
    gain, limit = found
    rows = len(entry["recall_items"]["rows"])
    return {"value": gain, "low": gain - limit, "high": gain + limit, "n": rows}


def _recall(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The gain of training answers in log-probability a token beyond that of their controls.

    Its null is the permutation null of ``pick``.
    """
    start = entries[0]
    points = []
    for entry in entries:
        gain = recall_gain(start, entry)
        point = {"step": entry["step"], "value": gain and gain["value"]}
        points.append({**point, "difference": gain if entry["step"] else None})
    seen = {
        entry["step"]: leaves_null(start["recall_items"], entry["recall_items"])
        for entry in entries
    }
    return {
        "symptom": "training answers likelier than controls",
        "null": "training rows and controls exchanged",
        "from": onset(seen),
        "points": points,
    }


def _turn(run: Path, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rise of held-out NLL: it appears at the first checkpoint after the turn.

    ``after`` and ``by`` are the ends of its interval, from the resampled turning points.
    """
    found, measure = find_best_checkpoint(run), NLL_METRICS[0]
    steps = [entry["step"] for entry in entries]
    points = [
        {"step": entry["step"], "value": entry[measure], "difference": None} for entry in entries
    ]
    row: dict[str, Any] = {
        "symptom": "loss rises in held-out formats",
        "null": "a curve that only falls, on items that did not choose the turn",
        "from": None,
        "points": points,
    }
    if found.turn_step is None or found.turn_range is None:
        return row
    low, high = found.turn_range
    row["from"] = _next(steps, found.turn_step)
    return {**row, "after": min(low, found.turn_step), "by": _next(steps, high)}


def _next(steps: Sequence[int], after: int) -> int:
    """The first checkpoint after a step, or the last one."""
    return next((step for step in steps if step > after), steps[-1])


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
