"""Canned phrases in the answers of a run, beside the base run and the training answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from harness.evaluation.results import Evaluation
from harness.evaluation.scorer import read_answer
from harness.metrics.phrases import KINDS, Lift, distinctive, lift, rate
from harness.report.document import NewPhrase, PhraseRow, Phrases

MAX_NEW = 12


def phrase_report(evaluations: Sequence[Evaluation]) -> Phrases:
    """A row for each kind of canned phrase, and phrases of the last run that no list holds.

    New phrases are those that the last run uses more than the base run or, without one, than the
    training answers.
    """
    by_run = {evaluation.label: _answers(evaluation) for evaluation in evaluations}
    texts = {
        run: [text for answers in by_format.values() for text in answers]
        for run, by_format in by_run.items()
    }
    last = evaluations[-1]
    ours, training = texts[last.label], [text for _, text in last.training_answers]
    base = texts[evaluations[0].label] if len(evaluations) == 2 else []
    over_base, over_training = (_by_kind(lift(ours, others)) for others in (base, training))
    rows = []
    for kind in KINDS:
        rates = {run: rate(some, [kind]) for run, some in texts.items()}
        by_format = {name: rate(some, [kind]) or 0.0 for name, some in by_run[last.label].items()}
        worst = max(by_format, key=lambda name: (by_format[name], name), default="")
        rows.append(
            PhraseRow(
                kind,
                {run: hits for run, hits in rates.items() if hits is not None},
                rate(training, [kind]),
                over_base.get(kind),
                over_training.get(kind),
                worst if by_format.get(worst) else "",
            )
        )
    against = "the base run" if base else "the training answers" if training else ""
    new = distinctive(ours, base or training, MAX_NEW) if against else []
    return Phrases(tuple(rows), against, tuple(NewPhrase(**asdict(phrase)) for phrase in new))


def _answers(evaluation: Evaluation) -> dict[str, list[str]]:
    """The words of a run's free answers by format, without empty ones."""
    cases = {case.id: case for case in evaluation.cases}
    formats = {one.id: one for one in evaluation.formats}
    answers: dict[str, list[str]] = {}
    for (case_id, name, prefix_fraction), answer in evaluation.results.answers.items():
        if not prefix_fraction and case_id in cases:
            opened = evaluation.results.opened.get((case_id, name), "")
            parsed = read_answer(answer, cases[case_id], formats[name], opened)
            text = answer.text if parsed is None else parsed.content
            if text.strip():
                answers.setdefault(name, []).append(text)
    return answers


def _by_kind(lifts: Sequence[Lift]) -> dict[str, float]:
    return {item.name: item.lift for item in lifts if item.name in KINDS}
