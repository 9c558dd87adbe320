"""Confidence in options, by format and across formats, and in cases that have no answer."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING

from harness.metrics.calibration import believed, calibration, option_confidences, reliability
from harness.report.document import Admission, Confidence, ConfidenceBin, FormatConfidence

if TYPE_CHECKING:
    from harness.evaluation.results import Evaluation

NO_ANSWER_TAGS = ("false-premise", "unanswerable")


def confidence_report(evaluation: Evaluation) -> Confidence:
    """Calibration in each format, reliability over all, and how often a missing answer is admitted.

    ``spread``: the standard deviation over formats of the confidence in the right option, as a mean
    over cases. Parts that nothing was measured for are None.
    """
    by_format: dict[str, list[tuple[list[float], int]]] = {}
    in_right: dict[str, list[float]] = {}
    for case in evaluation.cases:
        for chat_format in evaluation.formats:
            scorings = evaluation.results.scorings.get((case.id, chat_format.id))
            if scorings is None or case.answer is None:
                continue
            confidences = option_confidences(case, scorings)
            by_format.setdefault(chat_format.id, []).append((confidences, case.answer))
            in_right.setdefault(case.id, []).append(confidences[case.answer])
    formats = reliable = None
    if by_format:
        formats = tuple(
            FormatConfidence(name, **asdict(facts))
            for name, items in by_format.items()
            if (facts := calibration(items)) is not None
        )
        everything = believed([item for items in by_format.values() for item in items])
        reliable = tuple(ConfidenceBin(**asdict(one)) for one in reliability(*everything))
    deviations = [statistics.pstdev(values) for values in in_right.values() if len(values) > 1]
    admissions = {
        tag: rate for tag in NO_ANSWER_TAGS if (rate := _admission(evaluation, tag)) is not None
    }
    return Confidence(
        evaluation.label,
        formats,
        reliable,
        statistics.fmean(deviations) if deviations else None,
        admissions or None,
    )


def _admission(evaluation: Evaluation, tag: str) -> Admission | None:
    ids = {case.id for case in evaluation.cases if tag in case.tags}
    values = [
        score.value
        for score in evaluation.scores
        if score.case in ids and score.metric == "answer_lenient" and score.value is not None
    ]
    return Admission(statistics.fmean(values), len(ids), len(values)) if values else None
