"""Confidence in a case's options: Brier score, calibration error and over-confidence.

All of it is about confidence by log-probability per byte, the rule of ``choice_norm``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.metrics.choice import by_bytes
from harness.metrics.registry import ChoiceItem, Metric, scorer
from harness.records import Case, Loglikelihood


def option_confidences(case: Case, scorings: Sequence[Loglikelihood]) -> list[float]:
    """Probabilities of the options by their log-probability per byte."""
    return confidences(by_bytes(case, scorings))


BINS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far confidence can be believed, over ``n`` items.

    ``overconfidence`` is mean confidence − accuracy.
    """

    brier: float
    ece: float
    overconfidence: float
    accuracy: float
    n: int


def confidences(scores: Sequence[float]) -> list[float]:
    """Softmax over the options' log-probabilities in nats, or nats per byte.

    Options that are impossible (−inf) get 0; when all are, the confidence is even. Raises
    ValueError for no options, NaN and +inf.
    """
    if not scores:
        raise ValueError("no options")
    if any(math.isnan(score) or score == math.inf for score in scores):
        raise ValueError("a log-probability is NaN or infinite")
    top = max(scores)
    if top == -math.inf:
        return [1 / len(scores)] * len(scores)
    weights = [math.exp(score - top) for score in scores]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def brier(probabilities: Sequence[float], answer: int) -> float:
    """Σ_k (p_k − y_k)² of one item: 0 is sure and right, 2 is sure and wrong (Brier 1950)."""
    if not 0 <= answer < len(probabilities):
        raise ValueError(f"answer {answer} is not the index of one of {len(probabilities)} options")
    return math.fsum((p - (index == answer)) ** 2 for index, p in enumerate(probabilities))


def expected_calibration_error(
    confidence: Sequence[float], correct: Sequence[bool], bins: int = BINS
) -> float:
    """Mean distance of confidence from accuracy over bins of equal mass (as equal as the items
    allow).

    Items of equal confidence are never separated: all of them get their mean correctness before
    they are cut into bins, so the result does not depend on the order of the items. Biased upward
    for few items.
    """
    found = reliability(confidence, correct, bins)
    return math.fsum(each.n * abs(each.confidence - each.accuracy) for each in found) / len(
        confidence
    )


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Mean confidence and accuracy of the items of one bin."""

    confidence: float
    accuracy: float
    n: int


def reliability(
    confidence: Sequence[float], correct: Sequence[bool], bins: int = BINS
) -> list[ReliabilityBin]:
    """Bins of equal mass by confidence, as equal as the items allow: what a reliability diagram
    shows.

    Raises ValueError for no items and for lists of different lengths.
    """
    if not confidence or len(confidence) != len(correct):
        raise ValueError("confidence and correctness need the same number of items, at least one")
    by_value: dict[float, list[bool]] = {}
    for value, right in zip(confidence, correct, strict=True):
        by_value.setdefault(value, []).append(right)
    ordered = [
        (value, sum(by_value[value]) / len(by_value[value]))
        for value in sorted(by_value)
        for _ in by_value[value]
    ]
    n = len(ordered)
    cut = min(bins, n)
    parts = [ordered[index * n // cut : (index + 1) * n // cut] for index in range(cut)]
    return [
        ReliabilityBin(
            math.fsum(c for c, _ in part) / len(part),
            math.fsum(a for _, a in part) / len(part),
            len(part),
        )
        for part in parts
    ]


def believed(items: Sequence[tuple[Sequence[float], int]]) -> tuple[list[float], list[bool]]:
    """For each item the confidence in its most probable option, and whether that is right."""
    confidence = [max(probabilities) for probabilities, _ in items]
    return confidence, [
        list(probabilities).index(top) == right
        for (probabilities, right), top in zip(items, confidence, strict=True)
    ]


def calibration(items: Sequence[tuple[Sequence[float], int]]) -> Calibration | None:
    """All measures over (probabilities, index of the right option) of each item.

    None without items.

    The answer is the first most probable option: with ``option_confidences``, that of
    ``choice_norm``.
    """
    if not items:
        return None
    confidence, correct = believed(items)
    n = len(items)
    accuracy = sum(correct) / n
    return Calibration(
        brier=math.fsum(brier(probabilities, right) for probabilities, right in items) / n,
        ece=expected_calibration_error(confidence, correct),
        overconfidence=math.fsum(confidence) / n - accuracy,
        accuracy=accuracy,
        n=n,
    )


@scorer(
    Metric(
        "brier",
        "choice",
        "Σ (confidence − truth)² over the options, confidence by log-probability per byte",
        "lower",
        label="Brier score",
        unit="score",
        tolerance=0.05,
        tested_by="choice_norm_margin",
        source="Brier 1950",
        rank=12,
    )
)
def brier_of_item(item: ChoiceItem) -> float:
    """Brier score of the confidence that ``choice_norm`` rests on."""
    return brier(option_confidences(item.case, item.scorings), item.case.answer or 0)
