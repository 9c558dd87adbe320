"""One word for a format, with its reason: works, degraded, broken or untestable, or sampled under a budget (METRICS §1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.evaluation.results import Evaluation
from harness.records import Aggregate

Word = Literal["works", "degraded", "broken", "untestable", "sampled"]

#: How far a format may stay behind the native one and still count as working.
MARGIN = 0.10
#: Shares beyond which a format is broken whatever it answers.
BROKEN_EMPTY, BROKEN_LEAK, BROKEN_STOPPED = 0.5, 0.5, 0.5
WORKS_STOPPED, WORKS_LEAK, WORKS_EXCESS = 0.9, 0.05, 0.35


@dataclass(frozen=True, slots=True)
class Compatibility:
    """A format's word and the sentence behind it."""

    format: str
    word: Word
    reason: str


def compatibility(evaluation: Evaluation) -> list[Compatibility]:
    """The word of every format of an evaluation."""
    return [_judge(evaluation, format.id) for format in evaluation.formats]


def _judge(evaluation: Evaluation, format: str) -> Compatibility:
    cells = {cell.metric: cell for cell in evaluation.cells if cell.format == format}
    if all(cell.mean is None for cell in cells.values()):
        if evaluation.sample is not None and not any(
            item.format == format for item in evaluation.untestable
        ):
            return Compatibility(format, "sampled", "none of its cases was computed")
        why = next(
            (item.why for item in evaluation.untestable if item.format == format),
            "no case was scored",
        )
        return Compatibility(format, "untestable", f"no case can be put into this format: {why}")
    if evaluation.sample is not None:
        return Compatibility(
            format,
            "sampled",
            f"at most {max(cell.n for cell in cells.values())} of its cases were computed, too few for a word",
        )
    broken = _broken(cells, evaluation)
    if broken:
        return Compatibility(format, "broken", broken)
    flaws = _flaws(cells, evaluation, format)
    if flaws:
        return Compatibility(format, "degraded", "; ".join(flaws))
    return Compatibility(
        format,
        "works",
        "as good as native within the margin, stops, leaks nothing"
        if evaluation.native
        else "stops, leaks nothing, answers",
    )


def _broken(cells: dict[str, Aggregate], evaluation: Evaluation) -> str:
    mean = {metric: cell.mean for metric, cell in cells.items() if cell.mean is not None}
    if mean.get("empty", 0) >= BROKEN_EMPTY:
        return f"{mean['empty']:.0%} of the answers are empty"
    if mean.get("leak", 0) >= BROKEN_LEAK:
        return f"{mean['leak']:.0%} of the answers leak control text"
    if mean.get("stopped", 1) < BROKEN_STOPPED:
        return f"only {mean['stopped']:.0%} of the answers end by themselves"
    choice = cells.get("choice")
    if (
        choice
        and choice.mean is not None
        and choice.high is not None
        and choice.high <= _chance(evaluation)
    ):
        return f"choices are at chance ({choice.mean:.0%})"
    return ""


def _chance(evaluation: Evaluation) -> float:
    sizes = [len(case.choices) for case in evaluation.cases if case.choices]
    return sum(1 / size for size in sizes) / len(sizes) if sizes else 0.0


def _flaws(cells: dict[str, Aggregate], evaluation: Evaluation, format: str) -> list[str]:
    mean = {metric: cell.mean for metric, cell in cells.items() if cell.mean is not None}
    flaws = []
    if mean.get("stopped", 1) < WORKS_STOPPED:
        flaws.append(f"stops by itself in {mean['stopped']:.0%}")
    if mean.get("leak", 0) > WORKS_LEAK:
        flaws.append(f"leaks control text in {mean['leak']:.0%}")
    if mean.get("empty", 0) > WORKS_LEAK:
        flaws.append(f"{mean['empty']:.0%} empty answers")
    if format != evaluation.native:
        for metric in ("choice", "on_task"):
            native = evaluation.cell(evaluation.native or "", metric)
            if native and native.mean is not None and mean.get(metric, 1) < native.mean - MARGIN:
                flaws.append(
                    f"{metric} {mean[metric]:.0%} against {native.mean:.0%} in the native format"
                )
        if mean.get("nll_excess", 0) > WORKS_EXCESS:
            flaws.append(
                f"references cost {mean['nll_excess']:.2f} nats a token more than in the native format"
            )
    return flaws
