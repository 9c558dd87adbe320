"""Metrics by the turn of the question, its depth in a conversation, and the place of the facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from harness.evaluation.cases.variants import questions
from harness.metrics.registry import METRICS
from harness.records import Case
from harness.report.document import DepthRow

if TYPE_CHECKING:
    from harness.evaluation.results import Evaluation


def depth_rows(evaluation: Evaluation) -> list[DepthRow]:
    """The rows of each metric by turn, depth and position, where there are two places at least."""
    rows = []
    metrics = [name for name, metric in METRICS.items() if metric.by_depth]
    for by, places in _axes({case.id: case for case in evaluation.cases}):
        for metric in metrics:
            by_case: dict[str, list[float]] = {}
            for score in evaluation.scores:
                if score.metric == metric and score.value is not None and score.case in places:
                    by_case.setdefault(score.case, []).append(score.value)
            by_place: dict[int, list[float]] = {}
            for case_id, values in by_case.items():
                by_place.setdefault(places[case_id], []).append(sum(values) / len(values))
            if len(by_place) < 2:
                continue
            for place in sorted(by_place):
                mean = METRICS[metric].interval(by_place[place])
                rows.append(
                    DepthRow(
                        evaluation.label, by, place, metric, mean.value, mean.low, mean.high, mean.n
                    )
                )
    return rows


def _axes(cases: Mapping[str, Case]) -> Iterator[tuple[str, Mapping[str, int]]]:
    """What is varied, and each case's place along it.

    Variants are compared with the very cases that they were made from.
    """
    variants = {id_: case.variant for id_, case in cases.items() if case.variant}
    variants = {id_: made for id_, made in variants.items() if made.original in cases}
    plain = {id_: case for id_, case in cases.items() if id_ not in variants}
    yield "turn", {id_: questions(case) for id_, case in plain.items()}
    turns = {id_: made.turn for id_, made in variants.items() if made.turn is not None}
    asked = {variants[id_].original for id_ in turns}
    yield "asked as turn", {**{id_: questions(plain[id_]) for id_ in asked}, **turns}
    checked = {id_: 0 for id_, case in plain.items() if case.checks and not case.tools}
    deep = [(id_, made) for id_, made in variants.items() if made.tokens]
    yield "depth", {**checked, **{id_: made.tokens for id_, made in deep if made.position is None}}
    positioned = [
        (id_, made.tokens, made.position) for id_, made in deep if made.position is not None
    ]
    for tokens in sorted({tokens for _, tokens, _ in positioned}):
        places = {id_: position for id_, depth, position in positioned if depth == tokens}
        yield f"facts at % of {tokens}", places
