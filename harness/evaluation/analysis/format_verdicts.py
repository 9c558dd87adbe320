"""Does the model work in this format? One word each, by tests with stated error rates.

A format is compared with the model's native one on the same cases, or, where there is none, with
the best of the other formats, chosen on the other half of the cases. Each word is shown or not
given:

- *broken*: its answers are mostly empty, leaking or endless, or its choices are guesses, all tests
  together at a level of 2.5 %;
- *works*: the loss is below each margin, each at a level of 5 %, and the choices are no guesses;
- *degraded*: worse than the reference in one of the criteria, all together at 2.5 %; the native
  format, where most of the thoughts or calls that it asks for are missing, invalid or wrong;
- *unclear*: none of these can be shown, with the number of cases that would be enough;
- *untestable*: nothing was scored.

So a format as good as the reference is called degraded or broken in at most 5 % of evaluations, and
one that is twice the margin worse, or guesses, is called works in at most 5 %. The
simulated error rates are in docs/performance.md (benchmarks/words.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from harness.evaluation.analysis.criteria import (
    ABILITIES,
    FAULTS,
    LEVEL,
    MARGIN,
    RIGHT,
    Criterion,
    Values,
    compare,
    loss_at_most,
    loss_words,
)
from harness.metrics.registry import METRICS
from harness.records import Case, Evidence, Score, Verdict
from harness.report.wording import points, worst_first

if TYPE_CHECKING:
    from harness.evaluation.requests import Untestable
    from harness.evaluation.results import Evaluation
    from harness.stats import Interval

#: A rate of empty, leaking or endless answers above which a format is broken.
HALF = 0.5
_NO_CASES = "no choice and no free answer was scored"
_GIVE_CASES = "give cases with choices, or with checks and no tools (--cases)"


def verdicts(evaluation: Evaluation) -> list[Verdict]:
    """The verdict on every format of an evaluation, worst first (``worst_first``)."""
    if evaluation.first_look is not None:
        return worst_first(evaluation.first_look.verdicts)
    names = [one.id for one in evaluation.formats]
    if evaluation.budget is not None:
        values = values_by_format(evaluation.scores)
        found = [_within_budget(name, values.get(name), evaluation.untestable) for name in names]
        return worst_first(found)
    cases, untestable = evaluation.cases, evaluation.untestable
    return worst_first(
        judge_formats(names, evaluation.scores, cases, evaluation.native, untestable)
    )


def judge_formats(
    names: Iterable[str],
    scores: Iterable[Score],
    cases: Iterable[Case],
    native: str | None,
    untestable: Iterable[Untestable],
    level: float = LEVEL,
) -> list[Verdict]:
    """The verdict on each of these formats, from their scores; ``level`` is that of ``judge``.

    Without a score in the native format, they are compared with each other.
    """
    values = values_by_format(scores)
    reference = native if native in values else None
    others = {} if reference else best_others(values)
    chance = _chance(cases)
    reasons = {item.format: item.why for item in reversed(list(untestable))}
    return [
        judge(
            name,
            values[name],
            values[reference] if reference else others[name],
            reference,
            chance,
            level,
        )
        if name in values
        else _untestable(name, reasons.get(name, "no case was scored"))
        for name in names
    ]


def values_by_format(scores: Iterable[Score]) -> dict[str, dict[str, dict[str, float]]]:
    """Format id → metric → case id → value. What was not scored is left out."""
    values: dict[str, dict[str, dict[str, float]]] = {}
    for score in scores:
        if score.value is not None:
            by_metric = values.setdefault(score.format, {})
            by_metric.setdefault(score.metric, {})[score.case] = score.value
    return values


def mostly_faulty(own: Values) -> bool:
    """Whether most of the answers so far are empty, leaking or endless."""
    return any(
        (fmean(own[metric].values()) < HALF) == more_is_better
        for metric, (more_is_better, _) in FAULTS.items()
        if own.get(metric)
    )


def judge(
    name: str,
    own: Values,
    reference: Values,
    native: str | None,
    chance: float,
    level: float = LEVEL,
) -> Verdict:
    """The verdict on a format from its values and those of the reference.

    ``native`` names the reference; None: the best of the other formats.
    ``chance`` is the rate of right choices of a model that guesses. ``level`` bounds the rate of
    wrong words of either kind: 5 %, or the part of it that one of several looks has.
    """
    if (broken := _broken(name, own, chance, native, level)) is not None:
        return broken
    doubt = _doubt(own, chance, level)
    if name == native:
        return _lost(name, own, level) or _native(name, own, doubt, level)
    criteria = compare(own, reference, level)
    # A loss of thoughts or calls counts without right answers; that a format works does not.
    no_right = not criteria or criteria[0].metric not in RIGHT
    unclear = Verdict(name, "unclear", _NO_CASES, _GIVE_CASES)
    against = native or "the best of the others"
    if doubt is None and all(one.no_worse for one in criteria):
        if no_right:
            return unclear
        first = criteria[0]
        return Verdict(name, "works", f"as good as {against}: {first.text}", "", first.evidence)
    worse = [one for one in criteria if one.worse]
    if worse:
        reason = f"worse than {against}: {'; '.join(one.text for one in worse)}"
        # Where only abilities are lost, their own remedy says more than "train in it".
        only_abilities = all(one.metric in ABILITIES for one in worse)
        remedy = METRICS[worse[0].metric].remedy if only_abilities else _remedy(name, native)
        return Verdict(name, "degraded", reason, remedy, worse[0].evidence)
    return unclear if no_right else _unclear(name, criteria, doubt, against)


def best_others(values: Mapping[str, Values]) -> dict[str, Values]:
    """For each format the reference where there is no native one: the best of the other formats.

    The cases of each metric are split by turns. On each half the reference is the format that has
    the most right answers on the other half, every kind counting the same: choosing on other cases
    keeps the winner's luck out of the comparison, and so does leaving out the format itself.
    """
    halves = [{name: _half(own, side) for name, own in values.items()} for side in (0, 1)]
    ranked = [sorted(half, key=lambda name: (-_right_rate(half[name]), name)) for half in halves]
    found: dict[str, Values] = {}
    for name in values:
        reference: dict[str, dict[str, float]] = {}
        for side, half in enumerate(halves):
            best = next((other for other in ranked[1 - side] if other != name), name)
            for metric, by_case in half[best].items():
                reference.setdefault(metric, {}).update(by_case)
        found[name] = reference
    return found


def _half(own: Values, side: int) -> dict[str, dict[str, float]]:
    return {
        metric: {case: by_case[case] for case in sorted(by_case)[side::2]}
        for metric, by_case in own.items()
    }


def _right_rate(own: Values) -> float:
    rates = [fmean(own[m].values()) for m in RIGHT if own.get(m)]
    return fmean(rates) if rates else 0.0


def _chance(cases: Iterable[Case]) -> float:
    sizes = [len(case.choices) for case in cases if case.choices]
    return fmean(1 / size for size in sizes) if sizes else 0.0


def _broken(
    name: str, own: Values, chance: float, native: str | None, level: float
) -> Verdict | None:
    coverage = 1 - level / (len(FAULTS) + 1)
    for metric, (more_is_better, words) in FAULTS.items():
        if by_case := own.get(metric):
            found = _rate(by_case, coverage)
            if found.below(HALF) if more_is_better else found.above(HALF):
                reason = _share(words, found.value, "only " if more_is_better else "")
                evidence = _evidence(metric, found, by_case, 0.0 if more_is_better else 1.0)
                return Verdict(name, "broken", reason, _remedy(name, native), evidence)
    if by_case := own.get("choice"):
        found = _rate(by_case, coverage)
        if found.below(chance + MARGIN):
            reason = f"its choices are guesses: {found.value:.0%} right, chance is {chance:.0%}"
            evidence = _evidence("choice", found, by_case, 0.0)
            return Verdict(name, "broken", reason, _remedy(name, native), evidence)
    return None


def _share(words: str, value: float, before: str) -> str:
    """``only 12% of the answers end by themselves``, ``none of the answers …``."""
    text = words.format(value)
    return text.replace("0%", "none", 1) if text.startswith("0%") else before + text


def _doubt(own: Values, chance: float, level: float) -> tuple[str, Evidence] | None:
    """Why a format that is not broken may be: a reason and its evidence, or None."""
    coverage = 1 - 2 * level
    for metric, (more_is_better, words) in FAULTS.items():
        if by_case := own.get(metric):
            found = _rate(by_case, coverage)
            if not (found.above(HALF) if more_is_better else found.below(HALF)):
                evidence = _evidence(metric, found, by_case, 0.0 if more_is_better else 1.0)
                return words.format(found.value), evidence
    if by_case := own.get("choice"):
        found = _rate(by_case, coverage)
        if not found.above(chance):
            reason = f"its choices may be guesses: {found.value:.0%} right, chance is {chance:.0%}"
            return reason, _evidence("choice", found, by_case, 0.0)
    return None


def _lost(name: str, own: Values, level: float) -> Verdict | None:
    """Degraded, where most of the thoughts or calls that the native format asks for fail.

    Failing means missing, invalid or wrong. All tests together have a level of 2.5 %.
    """
    for metric in ABILITIES:
        if by_case := own.get(metric):
            found = _rate(by_case, 1 - level / len(ABILITIES))
            if found.below(HALF):
                reason = f"in the model's own format {loss_words(metric).format(found.value)}"
                evidence = _evidence(metric, found, by_case, 0.0)
                return Verdict(name, "degraded", reason, METRICS[metric].remedy, evidence)
    return None


def _native(name: str, own: Values, doubt: tuple[str, Evidence] | None, level: float) -> Verdict:
    """The native format is the reference: it works where it is shown not to be broken."""
    if doubt is not None:
        return Verdict(name, "unclear", doubt[0], _more(None), doubt[1])
    metric = next((one for one in RIGHT if own.get(one)), None)
    if metric is None:
        return Verdict(name, "unclear", _NO_CASES, _GIVE_CASES)
    found = _rate(own[metric], 1 - 2 * level)
    reason = f"the model's own format: {found.value:.0%} of the {RIGHT[metric]} right"
    if ends := own.get("stopped"):
        reason += ", " + FAULTS["stopped"][1].format(fmean(ends.values()))
    return Verdict(name, "works", reason, "", _evidence(metric, found, own[metric], 0.0))


def _unclear(
    name: str, criteria: list[Criterion], doubt: tuple[str, Evidence] | None, against: str
) -> Verdict:
    open_ones = [one for one in criteria if not one.no_worse]
    needed = [one.needed() for one in open_ones]
    known = [n for n in needed if n is not None]
    enough = max(known) if known and len(known) == len(needed) else None
    if not open_ones:
        assert doubt is not None  # noqa: S101  # else it would work
        return Verdict(name, "unclear", doubt[0], _more(None), doubt[1])
    first = open_ones[0]
    most = loss_at_most(criteria)
    worse = "worse" if most is None else f"up to {points(most)} worse"
    reason = f"may be as good as {against} or {worse}: {first.text}, {first.loss.n} cases"
    return Verdict(name, "unclear", reason, _more(enough), first.evidence, enough, most)


def _within_budget(name: str, own: Values | None, untestable: Sequence[Untestable]) -> Verdict:
    """A sample of the cases carries no verdict."""
    if own is None and (reasons := [item.why for item in untestable if item.format == name]):
        return _untestable(name, reasons[0])
    reason = "none of its cases was computed"
    if own is not None:
        reason = f"at most {max(map(len, own.values()))} of its cases were computed"
    return Verdict(name, "unclear", reason, "leave --budget out for a verdict")


def _untestable(name: str, why: str) -> Verdict:
    reason = f"no case can be put into this format: {why}"
    return Verdict(name, "untestable", reason, "give cases that the template accepts (--cases)")


def _remedy(name: str, native: str | None) -> str:
    """What helps a format that does not work: another one, or training in it."""
    use = f"use {native}, or " if native and native != name else ""
    return f"{use}train in it: harness train --formats {name}"


def _more(needed: int | None) -> str:
    if needed is None:
        return "measure more cases: --cases-per-format with a larger number, or more --cases"
    return (
        f"measure about {needed} cases of each kind: --cases-per-format {needed},"
        " with --cases if short"
    )


def _rate(by_case: Mapping[str, float], level: float) -> Interval:
    from harness.stats import rate_interval

    return rate_interval(list(by_case.values()), level)


def _evidence(metric: str, found: Interval, by_case: Mapping[str, float], bad: float) -> Evidence:
    """Evidence of a rate by itself; ``bad`` is the value of a case that shows the fault."""
    worst = next((case for case, value in sorted(by_case.items()) if value == bad), "")
    return Evidence(metric, found.value, found.n, low=found.low, high=found.high, worst_case=worst)
