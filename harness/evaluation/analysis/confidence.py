"""Confidence over options, and how it holds: by format, across formats, under doubt, and where there is no answer (METRICS §6)."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.metrics.calibration import believed, calibration, option_confidences, reliability

if TYPE_CHECKING:
    from harness.evaluation.results import Evaluation
NO_ANSWER_TAGS = ("false-premise", "unanswerable")


def confidence_report(evaluation: Evaluation) -> dict[str, Any]:
    """``formats``: Brier, ECE, over-confidence and accuracy of each; ``spread``: the standard deviation over formats of an
    item's confidence in its right option, mean over items; ``reliability``: bins of confidence and accuracy over all formats; ``objects``: share of cases without an answer in which the model
    says so, by kind. Parts that nothing was measured for are left out.
    """
    choices = [case for case in evaluation.cases if case.choices]
    by_format: dict[str, list[tuple[list[float], int]]] = {}
    by_item: dict[str, list[float]] = {}
    for case in choices:
        for format in evaluation.formats:
            scorings = evaluation.results.scorings.get((case.id, format.id))
            if scorings is None or case.answer is None:
                continue
            shares = option_confidences(case, scorings)
            by_format.setdefault(format.id, []).append((shares, case.answer))
            by_item.setdefault(case.id, []).append(shares[case.answer])
    found: dict[str, Any] = {"run": evaluation.label}
    if by_format:
        found["formats"] = [
            {"format": format, **asdict(sums)}
            for format, items in by_format.items()
            if (sums := calibration(items)) is not None
        ]
        found["reliability"] = [
            asdict(bin)
            for bin in reliability(
                *believed([item for items in by_format.values() for item in items])
            )
        ]
    several = [values for values in by_item.values() if len(values) > 1]
    if several:
        found["spread"] = statistics.fmean(statistics.pstdev(values) for values in several)
    objects = {
        tag: rate for tag in NO_ANSWER_TAGS if (rate := _says_so(evaluation, tag)) is not None
    }
    return {**found, **({"objects": objects} if objects else {})}


def _says_so(evaluation: Evaluation, tag: str) -> dict[str, float] | None:
    ids = {case.id for case in evaluation.cases if tag in case.tags}
    values = [
        score.value
        for score in evaluation.scores
        if score.case in ids and score.metric == "answer_lenient" and score.value is not None
    ]
    return (
        {"rate": statistics.fmean(values), "cases": len(ids), "answers": len(values)}
        if values
        else None
    )
