"""Canned phrases in the answers of a run, beside the base run and the training answers; and new ones that no list holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.evaluation.results import Evaluation
from harness.metrics.phrases import KINDS, Lift, distinctive, lift, rate

MOST = 12


@dataclass(frozen=True, slots=True)
class PhraseRow:
    """One kind of canned phrase: hits per 1000 words in each run and in the training answers, and the last run's lifts.

    ``worst`` is the format with the highest rate in the last run. A kind that the training answers never use and the
    model does is inherited from its base.
    """

    kind: str
    rates: dict[str, float]
    training: float | None
    lift_over_base: float | None
    lift_over_training: float | None
    worst: str


def answers_of(evaluation: Evaluation) -> dict[str, list[str]]:
    """The free answers of a run by format, empty ones left out."""
    found: dict[str, list[str]] = {}
    for (_, format, share), answer in evaluation.results.answers.items():
        if not share and answer.text.strip():
            found.setdefault(format, []).append(answer.text)
    return found


def phrase_report(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """``kinds``: a row each. ``new``: phrases that the last run uses more than the base run, or than the training answers."""
    by_run = {evaluation.label: answers_of(evaluation) for evaluation in evaluations}
    texts = {
        run: [text for found in by_format.values() for text in found]
        for run, by_format in by_run.items()
    }
    last = evaluations[-1]
    training = [text for _, text in last.training_answers]
    base = texts[evaluations[0].label] if len(evaluations) == 2 else []
    ours = texts[last.label]
    over_base, over_training = (_by_kind(lift(ours, side)) for side in (base, training))
    rows = []
    for kind in KINDS:
        rates = {
            run: found for run, side in texts.items() if (found := rate(side, [kind])) is not None
        }
        by_format = {
            format: rate(side, [kind]) or 0.0 for format, side in by_run[last.label].items()
        }
        worst = max(by_format, key=lambda format: (by_format[format], format), default="")
        rows.append(
            PhraseRow(
                kind,
                rates,
                rate(training, [kind]),
                over_base.get(kind),
                over_training.get(kind),
                worst if by_format.get(worst) else "",
            )
        )
    against = "the base run" if base else "the training answers" if training else ""
    new = distinctive(ours, base or training, MOST) if against else []
    return {
        "kinds": [asdict(row) for row in rows],
        "against": against,
        "new": [asdict(phrase) for phrase in new],
    }


def _by_kind(found: Sequence[Lift]) -> dict[str, float]:
    return {item.name: item.lift for item in found if item.name in KINDS}
