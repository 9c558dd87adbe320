"""The same measures deep in a conversation: by the turn of the question, behind other talk, and by the place of the facts (METRICS §1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.evaluation.cases.variants import depth_of, original_of, position_of, questions, turn_of
from harness.metrics.registry import METRICS

if TYPE_CHECKING:
    from harness.evaluation.results import Evaluation


@dataclass(frozen=True, slots=True)
class DepthRow:
    """One measure at one place: mean over formats of the cases there, with its 95 % interval; ``n`` counts cases.

    ``by`` is what was varied: ``turn`` (different cases by their number of questions), ``asked as turn`` (the same cases),
    ``depth`` (tokens of other talk), ``facts at % of 2000`` (where in that much talk the facts stand).
    """

    run: str
    by: str
    place: int
    metric: str
    mean: float
    low: float
    high: float
    n: int


def depth_rows(evaluation: Evaluation) -> list[DepthRow]:
    """Each measure by turn, depth and position. Needs two places to compare."""
    from harness.stats import mean_interval

    rows = []
    for by, places in _axes(evaluation):
        for metric in (name for name, metric in METRICS.items() if metric.by_depth):
            values: dict[str, list[float]] = {}
            for score in evaluation.scores:
                if score.metric == metric and score.value is not None and score.case in places:
                    values.setdefault(score.case, []).append(score.value)
            held: dict[int, list[float]] = {}
            for case, found in values.items():
                held.setdefault(places[case], []).append(sum(found) / len(found))
            if len(held) < 2:
                continue
            for place in sorted(held):
                mean = mean_interval(held[place])
                rows.append(
                    DepthRow(
                        evaluation.label, by, place, metric, mean.value, mean.low, mean.high, mean.n
                    )
                )
    return rows


def _axes(evaluation: Evaluation) -> Iterator[tuple[str, Mapping[str, int]]]:
    """What varies, and each case's place along it. Variants are compared with the very cases that they were made from."""
    cases = {case.id: case for case in evaluation.cases}
    plain = {
        id: case
        for id, case in cases.items()
        if original_of(id) not in cases or original_of(id) == id
    }
    yield "turn", {id: questions(case) for id, case in plain.items()}
    turned = {id: turn for id in cases if (turn := turn_of(id)) is not None and id not in plain}
    same = {original_of(id) for id in turned}
    yield "asked as turn", {**{id: questions(plain[id]) for id in same}, **turned}
    deep = {
        id: depth_of(id)
        for id in cases
        if depth_of(id) and position_of(id) is None and id not in plain
    }
    yield "depth", {**{id: 0 for id in plain if plain[id].checks}, **deep}
    for depth in sorted(
        {depth_of(id) for id in cases if position_of(id) is not None and id not in plain}
    ):
        yield (
            f"facts at % of {depth}",
            {
                id: at
                for id in cases
                if depth_of(id) == depth and (at := position_of(id)) is not None
            },
        )
