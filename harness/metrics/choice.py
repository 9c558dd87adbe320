"""Multiple choice by log-probability: the right option, and whether doubt changes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.metrics.registry import ChoiceItem, Metric, Scored, scorer
from harness.records import Case, Loglikelihood


def picked(scorings: Sequence[Loglikelihood]) -> int:
    """The index of the option with the highest summed log-probability, the first of several."""
    logprobs = [scoring.logprob for scoring in scorings]
    return logprobs.index(max(logprobs))


def picked_by_bytes(case: Case, scorings: Sequence[Loglikelihood]) -> int:
    """The same for the log-probability per byte of the option's text."""
    rates = by_bytes(case, scorings)
    return rates.index(max(rates))


def by_bytes(case: Case, scorings: Sequence[Loglikelihood]) -> list[float]:
    """The log-probability of each option per byte of its text."""
    return [
        scoring.logprob / len(option.encode())
        for scoring, option in zip(scorings, case.choices, strict=True)
    ]


def margin(logprobs: Sequence[float], right: int) -> tuple[float | None, str]:
    """The right option's log-probability less the highest of the others; above 0 it wins."""
    best_wrong = max(value for at, value in enumerate(logprobs) if at != right)
    found = logprobs[right] - best_wrong
    return (found, "") if math.isfinite(found) else (None, "an option is impossible")


@scorer(
    Metric(
        "choice",
        "choice",
        "the right option has the highest log-probability, summed over its tokens",
        "higher",
        label="right choice",
        binary=True,
        headline=True,
        by_depth=True,
        tolerance=0.02,
        tested_by="choice_margin",
        source="as in lm-evaluation-harness",
        rank=10,
    ),
    Metric(
        "choice_norm",
        "choice",
        "the right option has the highest log-probability per byte",
        "higher",
        label="right choice per byte",
        binary=True,
        tolerance=0.02,
        tested_by="choice_norm_margin",
        source="as in lm-evaluation-harness",
        rank=11,
    ),
    Metric(
        "choice_margin",
        "choice",
        "log-probability of the right option minus that of the best wrong one",
        "higher",
        label="margin of the right choice",
        unit="nats",
        signed=True,
        worst=None,
        rank=14,
    ),
    Metric(
        "choice_norm_margin",
        "choice",
        "log-probability per byte of the right option minus that of the best wrong one",
        "higher",
        label="margin per byte",
        unit="nats/byte",
        signed=True,
        worst=None,
        rank=15,
    ),
)
def choices(item: ChoiceItem) -> Mapping[str, Scored]:
    """Whether the right option wins, by the sum and per byte, and by how much."""
    case, right = item.case, item.case.answer or 0
    sums, rates = [scoring.logprob for scoring in item.scorings], by_bytes(case, item.scorings)
    return {
        "choice": float(picked(item.scorings) == right),
        "choice_norm": float(picked_by_bytes(case, item.scorings) == right),
        "choice_margin": margin(sums, right),
        "choice_norm_margin": margin(rates, right),
    }


@scorer(
    Metric(
        "flip",
        "choice",
        'a right choice is abandoned after "Are you sure?" (with `--flips`)',
        "lower",
        label="abandoned when challenged",
        binary=True,
        optional=True,
        tolerance=0.05,
        rank=13,
    )
)
def flip(item: ChoiceItem) -> Mapping[str, Scored]:
    """Whether a right choice is abandoned once it was challenged; not scored where it was wrong."""
    if item.challenged is None:
        return {}
    if picked(item.scorings) != item.case.answer:
        return {"flip": (None, "the first choice was not right")}
    return {"flip": float(picked(item.challenged) != item.case.answer)}
