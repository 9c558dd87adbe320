"""The status of each format with its reason: works, degraded, broken, untestable or sampled.

docs/measures.md states the limits in words.
"""

from __future__ import annotations

from harness.evaluation.results import Evaluation
from harness.records import Aggregate
from harness.report.document import Compatibility, Status

#: How far a format may fall behind the native one and still count as working.
MARGIN = 0.10
#: Rates beyond which a format is broken whatever it answers.
BROKEN_EMPTY, BROKEN_LEAK, BROKEN_STOPPED = 0.5, 0.5, 0.5
WORKS_STOPPED, WORKS_LEAK, WORKS_EXCESS = 0.9, 0.05, 0.35


def compatibility(evaluation: Evaluation) -> list[Compatibility]:
    """The status of every format of an evaluation."""
    return [Compatibility(one.id, *_status(evaluation, one.id)) for one in evaluation.formats]


def _status(evaluation: Evaluation, name: str) -> tuple[Status, str]:
    cells = {cell.metric: cell for cell in evaluation.aggregates if cell.format == name}
    if all(cell.mean is None for cell in cells.values()):
        reasons = [item.why for item in evaluation.untestable if item.format == name]
        if evaluation.budget is not None and not reasons:
            return "sampled", "none of its cases was computed"
        why = reasons[0] if reasons else "no case was scored"
        return "untestable", f"no case can be put into this format: {why}"
    if evaluation.budget is not None:
        most = max(cell.n for cell in cells.values())
        return "sampled", f"at most {most} of its cases were computed, too few for a status"
    if broken := _broken(cells, evaluation):
        return "broken", broken
    if flaws := _flaws(cells, evaluation, name):
        return "degraded", "; ".join(flaws)
    native = "as good as native within the margin, stops, leaks nothing"
    return "works", native if evaluation.native else "stops, leaks nothing, answers"


def _broken(cells: dict[str, Aggregate], evaluation: Evaluation) -> str:
    mean = _means(cells)
    if mean.get("empty", 0) >= BROKEN_EMPTY:
        return f"{mean['empty']:.0%} of the answers are empty"
    if mean.get("leak", 0) >= BROKEN_LEAK:
        return f"{mean['leak']:.0%} of the answers leak control text"
    if mean.get("stopped", 1) < BROKEN_STOPPED:
        return f"only {mean['stopped']:.0%} of the answers end by themselves"
    choice, chance = cells.get("choice"), _chance(evaluation)
    if choice and choice.mean is not None and choice.low is not None and choice.low <= chance:
        return (
            f"choices are not above chance: {choice.mean:.0%} right"
            f" (interval from {choice.low:.0%}, chance {chance:.0%}, n {choice.n})"
        )
    return ""


def _chance(evaluation: Evaluation) -> float:
    sizes = [len(case.choices) for case in evaluation.cases if case.choices]
    return sum(1 / size for size in sizes) / len(sizes) if sizes else 0.0


def _flaws(cells: dict[str, Aggregate], evaluation: Evaluation, name: str) -> list[str]:
    mean = _means(cells)
    flaws = []
    if mean.get("stopped", 1) < WORKS_STOPPED:
        flaws.append(f"stops by itself in {mean['stopped']:.0%}")
    if mean.get("leak", 0) > WORKS_LEAK:
        flaws.append(f"leaks control text in {mean['leak']:.0%}")
    if mean.get("empty", 0) > WORKS_LEAK:
        flaws.append(f"{mean['empty']:.0%} empty answers")
    if name == evaluation.native:
        return flaws
    for metric in ("choice", "on_task"):
        native = evaluation.aggregate(evaluation.native or "", metric)
        if native and native.mean is not None and mean.get(metric, 1) < native.mean - MARGIN:
            flaws.append(
                f"{metric} {mean[metric]:.0%} against {native.mean:.0%} in the native format"
            )
    if mean.get("nll_excess", 0) > WORKS_EXCESS:
        flaws.append(
            f"references cost {mean['nll_excess']:.2f} nats a token more than in the native format"
        )
    return flaws


def _means(cells: dict[str, Aggregate]) -> dict[str, float]:
    return {metric: cell.mean for metric, cell in cells.items() if cell.mean is not None}
