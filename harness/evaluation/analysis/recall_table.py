"""Recall of the training set: trained rows beside controls that were never trained on.

The headline is the gain: how much more likely than for the base the answers of trained rows have
become, less the same for controls. A level alone also shows how easy the rows are.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import chain

from harness.evaluation.requests import reference_prefix
from harness.evaluation.results import RecallSets, RecallTable, Results
from harness.metrics.canaries import TAG, exposure
from harness.metrics.recall import NEAR, diverge_at, extractable, near, nv_recall
from harness.metrics.words import words
from harness.records import Case, Format, Group
from harness.report.document import RecallEntry, Separation
from harness.stats import mean_interval
from harness.stats.strata import (
    Difference,
    adjusted,
    auc,
    found_rate,
    strata,
    stratified_difference,
)

#: The parts of a reference that a continuation is given.
PREFIX_FRACTIONS = (0.0, 0.25, 0.5)
_NEAR = tuple(f"near@{fraction:.0%}" for fraction in PREFIX_FRACTIONS)
#: (n, p): is an answer met with probability p among n samples?
EXTRACTION = ((100, 0.5), (10_000, 0.5), (10_000, 0.9))
#: Fewer controls make no headline.
ENOUGH_CONTROLS = 100
#: The headline: log-probability a token, less that of the base.
GAIN = "gain"
LEVEL = "token_logprob"
#: The number of formats in which a greedy continuation is a near copy of the answer.
DEPTH = "memory depth"
EXPOSURE = "exposure"
#: The share of an answer's words that come back after half of it.
SHARE = "nv_recall@50%"
#: In the place of a format: the mean over all of them, row by row.
ALL_FORMATS = "all formats"
#: Metrics that are no share between 0 and 1.
_OPEN = (GAIN, LEVEL, DEPTH, EXPOSURE)
#: Metrics of which the traits of an answer explain a part that is no memory.
_EXPLAINED = (GAIN, LEVEL)

#: Metric → value, for one case.
Values = dict[str, float]


def recall_table(
    sets: RecallSets,
    results: Results,
    formats: Sequence[Format],
    groups: Mapping[str, Group],
    run: str = "evaluate",
    base: Results | None = None,
) -> RecallTable:
    """Compare trained rows with controls, in each format and over all.

    ``base`` has the scorings of the same rows by the base, where there is an adapter on it.
    """
    by_format = {
        one.id: values for one in formats if (values := _values_of(sets, one.id, results, base))
    }
    traits = _traits(sets, results)
    compare = Comparison(sets, traits, run, note_on(len(sets.controls), base is not None))
    rows = [
        *compare.rows(_over_formats(by_format), ALL_FORMATS, None),
        *chain.from_iterable(
            compare.rows(values, name, groups[name]) for name, values in by_format.items()
        ),
    ]
    separations = [compare.separation(v, name, groups[name]) for name, v in by_format.items()]
    return RecallTable(
        tuple(rows),
        _format_leak(sets, results, groups, list(by_format)),
        tuple(filter(None, separations)),
        compare.note,
        by_format,
        traits,
    )


def note_on(controls: int, base: bool) -> str:
    """Why the numbers are no headline, or ""."""
    if not controls:
        rest = "only the gain over the base is known, of which memory is a part"
        return f"no controls: {rest}" if base else "no controls and no base: nothing to compare"
    if controls < ENOUGH_CONTROLS:
        return f"only {controls} controls (under {ENOUGH_CONTROLS}): no headline"
    return "" if base else "a level, not the gain over a base: rows and controls differ by chance"


class Comparison:
    """Makes the entries of one run: the two sides, and the strata that rows and controls share."""

    def __init__(
        self,
        sets: RecallSets,
        traits: Mapping[str, tuple[float, float]],
        run: str = "",
        note: str = "",
    ) -> None:
        self.cases = (*sets.train, *sets.controls)
        self.traits = traits
        self.trained = {case.id for case in sets.train}
        self.has_controls = bool(sets.controls)
        self.run = run
        self.note = note

    def rows(
        self, values: Mapping[str, Values], name: str, group: Group | None
    ) -> list[RecallEntry]:
        """An entry for each metric; without controls, for the gain alone."""
        metrics = dict.fromkeys(metric for found in values.values() for metric in found)
        if not self.has_controls:
            return [self._alone(values, name, group)] if GAIN in metrics else []
        entries = []
        for metric in metrics:
            found = self._difference(metric, values)
            if found is not None:
                entries.append(
                    RecallEntry(
                        self.run,
                        name,
                        metric,
                        found.train,
                        found.null,
                        found.value,
                        found.low,
                        found.high,
                        found.n_train,
                        found.n_null,
                        self.note,
                        group,
                    )
                )
        return entries

    def _difference(self, metric: str, values: Mapping[str, Values]) -> Difference | None:
        """Trained rows less controls within strata, over the cases that have the metric."""
        cases = [case for case in self.cases if metric in values.get(case.id, {})]
        ours = [case.id in self.trained for case in cases]
        labels = strata(
            [next(iter(case.tags), "") for case in cases],
            [len(case.reference or "") for case in cases],
            ours,
        )
        found = [values[case.id][metric] for case in cases]
        if metric in _EXPLAINED:
            found = adjusted(found, [self.traits[case.id] for case in cases], labels, ours)
        return stratified_difference(found, labels, ours, share=metric not in _OPEN)

    def _alone(self, values: Mapping[str, Values], name: str, group: Group | None) -> RecallEntry:
        """The gain of the trained rows, with nothing to hold it against."""
        found = mean_interval([values[row][GAIN] for row in self.trained if row in values])
        low, high, n = found.low, found.high, found.n
        return RecallEntry(
            self.run, name, GAIN, found.value, None, None, low, high, n, 0, self.note, group
        )

    def separation(
        self, values: Mapping[str, Values], name: str, group: Group
    ) -> Separation | None:
        """How well the gain, or without a base the level, separates rows from controls."""
        metric = GAIN if any(GAIN in found for found in values.values()) else LEVEL
        rows, controls = (
            [found[metric] for row, found in values.items() if (row in self.trained) == ours]
            for ours in (True, False)
        )
        if not rows or not controls:
            return None
        area, found = auc(rows, controls), found_rate(rows, controls)
        return Separation(
            self.run,
            name,
            metric,
            area.value,
            area.low,
            area.high,
            found.value if found else None,
            found.low if found else None,
            found.high if found else None,
            len(rows),
            len(controls),
            group,
        )


def _traits(sets: RecallSets, results: Results) -> dict[str, tuple[float, float]]:
    """What makes an answer likely, whether it was trained or not, for each case.

    The share of its words that its conversation holds, and its characters a token.
    """
    tokens = {case_id: found[0].tokens for (case_id, _), found in results.scorings.items()}
    traits = {}
    for case in (*sets.train, *sets.controls):
        answer = case.reference or ""
        asked = {word.casefold() for turn in case.messages for word in words(turn.content)}
        said = words(answer)
        known = sum(word.casefold() in asked for word in said) / max(1, len(said))
        traits[case.id] = (known, len(answer) / max(1, tokens.get(case.id, 1)))
    return traits


def _over_formats(by_format: Mapping[str, Mapping[str, Values]]) -> dict[str, Values]:
    """Each row's mean over the formats, and in how many of them it is elicited.

    Rows that some format cannot carry are left out, so that all means are over the same formats.
    """
    tables = list(by_format.values())
    if not tables:
        return {}
    averages = {}
    for row in tables[0]:
        if all(row in table for table in tables):
            found = [table[row] for table in tables]
            shared = [m for m in found[0] if all(m in each for each in found)]
            averages[row] = {m: statistics.fmean(each[m] for each in found) for m in shared}
            if _NEAR[0] in shared:
                averages[row][DEPTH] = float(sum(map(_elicited, found)))
    return averages


def _elicited(values: Values) -> bool:
    """Whether a greedy continuation is a near copy, from any prefix."""
    return any(values[near_at] for near_at in _NEAR)


def _values_of(
    sets: RecallSets, format_id: str, results: Results, base: Results | None
) -> dict[str, Values]:
    """The metrics of each case that the format carries; none where a side has no case."""
    sides = [
        {case.id: found for case in cases if (found := _values(case, format_id, results, base))}
        for cases in (sets.train, sets.controls)
    ]
    if not sides[0] or (sets.controls and not sides[1]):
        return {}
    if all(TAG in case.tags for case in (*sets.train, *sets.controls)):
        log_pz = {row: results.scorings[row, format_id][0].logprob for row in chain(*sides)}
        _add_exposure(sides[0], sides[1], log_pz)
    return sides[0] | sides[1]


def _add_exposure(
    train: Mapping[str, Values], controls: Mapping[str, Values], log_pz: Mapping[str, float]
) -> None:
    """Rank every canary among the secrets never trained on, and each of those among the others."""
    untrained = {row: log_pz[row] for row in controls}
    for row, values in train.items():
        values[EXPOSURE] = exposure(log_pz[row], list(untrained.values()))
    for row, values in controls.items():
        others = [value for other, value in untrained.items() if other != row]
        values[EXPOSURE] = exposure(untrained[row], others) if others else 0.0


def _format_leak(
    sets: RecallSets, results: Results, groups: Mapping[str, Group], names: Sequence[str]
) -> dict[str, float]:
    """Each format's median log-probability of a trained answer, less its median over the trained
    formats.
    """
    medians = {
        name: statistics.median(
            results.scorings[case.id, name][0].logprob
            for case in sets.train
            if (case.id, name) in results.scorings
        )
        for name in names
    }
    trained = [median for name, median in medians.items() if groups[name] != "held-out"]
    middle = statistics.median(trained) if trained else 0.0
    return {name: median - middle for name, median in medians.items() if trained}


def _values(case: Case, format_id: str, results: Results, base: Results | None) -> Values:
    """Each metric of one case in one format; empty where it was not scored.

    Without the metrics of continuations where the case was not continued.
    """
    scorings = results.scorings.get((case.id, format_id))
    if scorings is None or case.reference is None:
        return {}
    log_pz, tokens = scorings[0].logprob, max(1, scorings[0].tokens)
    values = {LEVEL: log_pz / tokens}
    if base is not None:
        before = base.scorings.get((case.id, format_id))
        if before is None:
            return {}
        values = {GAIN: (log_pz - before[0].logprob) / tokens, **values}
    for n, p in EXTRACTION:
        values[f"within {n} samples, p {p:g}"] = float(extractable(log_pz, n, p))
    for fraction in PREFIX_FRACTIONS:
        answer = results.answers.get((case.id, format_id, fraction))
        if answer is None:
            return values
        rest = case.reference[len(reference_prefix(case.reference, fraction)) :].strip()
        cut = answer.finish != "stop"  # then it is compared as far as it goes
        text, wanted = answer.text.strip(), rest[: len(answer.text)] if cut else rest
        exact = bool(text) and (text.startswith(rest) or (cut and rest.startswith(text)))
        values[f"nv_recall@{fraction:.0%}"] = nv_recall(answer.text, rest).value
        values[f"near@{fraction:.0%}"] = float(near(answer.text, wanted) >= NEAR)
        values[f"diverge_at@{fraction:.0%}"] = _agreement(text.split(), rest.split())
        values[f"exact@{fraction:.0%}"] = float(exact)
    return values


def _agreement(answer: Sequence[str], wanted: Sequence[str]) -> float:
    """The fraction of words before the first that differs; 0 for an empty answer."""
    n = min(len(answer), len(wanted))
    return diverge_at(answer, wanted) / n if n else 0.0
