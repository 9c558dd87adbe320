"""How each case came out in each format, and which cases a report shows as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from harness.evaluation.cases.case_files import kind_of, spread_evenly
from harness.evaluation.results import Evaluation
from harness.metrics.registry import headline, lower_is_better
from harness.records import Case, Verdict
from harness.report.sample_document import CaseRow

Scores = Mapping[str, float | None]
#: Cases of each kind that are shown in every format and run.
SHOWN = {"answer": 4, "choice": 2, "call": 2, "reference": 1}
#: Cases shown in a format with those that failed there; with many formats fewer, down to LEAST.
MOST, LEAST, TOGETHER = 12, 5, 240
#: The letter of an answer that has a fault, and the value of the metric that says so.
_FAULTS = {"e": ("empty", 1.0), "l": ("leak", 1.0), "n": ("stopped", 0.0)}
#: The metrics that say whether a case was solved, and the value that says yes.
_RIGHT = {"choice": 1.0, "on_task": 1.0, "call_exact": 1.0, "call_when_none": 0.0}
_LONGEST_QUESTION = 120


def scores_of(evaluation: Evaluation) -> dict[tuple[str, str], dict[str, float | None]]:
    """(case, format) → metric → value."""
    found: dict[tuple[str, str], dict[str, float | None]] = {}
    for score in evaluation.scores:
        found.setdefault((score.case, score.format), {})[score.metric] = score.value
    return found


def is_right(scores: Scores) -> bool | None:
    """Whether a case was solved: all that say so agree; None where nothing does."""
    said = [scores[name] == good for name, good in _RIGHT.items() if scores.get(name) is not None]
    return all(said) if said else None


def outcome(scores: Scores) -> str:
    """The letter of a case in one format, as ``CaseRow`` has it."""
    faults = (letter for letter, (name, bad) in _FAULTS.items() if scores.get(name) == bad)
    right = is_right(scores)
    return next(faults, "-" if right is None else "r" if right else "w")


def case_rows(evaluations: Sequence[Evaluation]) -> tuple[CaseRow, ...]:
    """A row for each case that can be right or wrong, in the order of the last evaluation."""
    last = evaluations[-1]
    scores = [scores_of(each) for each in evaluations]
    rows = []
    for case in last.cases:
        if case.reference is not None:
            continue
        outcomes = [
            "".join(outcome(of_run.get((case.id, one.id), {})) for one in last.formats)
            for of_run in scores
        ]
        if set("".join(outcomes)) != {"-"}:
            question = " ".join(case.messages[-1].content.split())
            short = question[: _LONGEST_QUESTION - 1] + "…"
            question = question if len(question) <= _LONGEST_QUESTION else short
            rows.append(CaseRow(case.id, kind_of(case), question, tuple(outcomes)))
    return tuple(rows)


def shown_cases(
    evaluations: Sequence[Evaluation], verdicts: Iterable[Verdict] = ()
) -> dict[str, list[str]]:
    """Format → the cases to show: the same few in all, then those that failed in this one.

    Of the latter, the worst case of each verdict, and one for each headline metric.
    """
    last = evaluations[-1]
    same = [case.id for case in _same_everywhere(last.compared_cases)]
    each = min(MOST, max(LEAST, TOGETHER // max(1, len(last.formats))))
    failed = _failed(last)
    chosen = {}
    worst: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.evidence is not None and verdict.evidence.worst_case:
            worst.setdefault(verdict.format, []).append(verdict.evidence.worst_case)
    for one in last.formats:
        own = [*worst.get(one.id, []), *failed.get(one.id, [])]
        shared = same[: max(each // 2, each - len(set(own) - set(same)))]
        chosen[one.id] = list(dict.fromkeys([*shared, *own]))[:each]
    return chosen


def _same_everywhere(cases: Sequence[Case]) -> list[Case]:
    """A few of each kind, spread evenly over the cases, kinds in turns."""
    kinds: dict[str, list[Case]] = {kind: [] for kind in SHOWN}
    for case in cases:
        kinds[kind_of(case)].append(case)
    some = [spread_evenly(of_kind, SHOWN[kind]) for kind, of_kind in kinds.items()]
    return [case for turn in zip_longest(*some) for case in turn if case is not None]


def _failed(evaluation: Evaluation) -> dict[str, list[str]]:
    """Format → for each headline metric, the first case with its worst value."""
    found: dict[str, dict[str, tuple[float, str]]] = {}
    shown = set(headline())
    for score in evaluation.scores:
        if score.metric not in shown or score.value is None:
            continue
        loss = score.value if lower_is_better(score.metric) else 1 - score.value
        worst = found.setdefault(score.format, {})
        if loss > worst.get(score.metric, (0.0, ""))[0]:
            worst[score.metric] = (loss, score.case)
    return {name: [case for _, case in worst.values()] for name, worst in found.items()}
