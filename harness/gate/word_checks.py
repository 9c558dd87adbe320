"""Checks of the verdict on each format: a word that worsened, and what must not be broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from harness.gate.baseline import Baseline
from harness.records import GateCheck, Outcome, Verdict, Word

VERDICT = "verdict"
"""The name of these checks, in the place of a metric's."""
_RANK: dict[Word, int] = {"works": 0, "degraded": 1, "broken": 2}


def check_words(
    before: Baseline, current: Baseline, verdicts: Sequence[Verdict]
) -> list[GateCheck]:
    """One check for each format whose word is worse than in the baseline, such as works → degraded.

    From works to broken it fails: the tests of the two words lie so far apart that noise does not
    lead from one to the other. The other steps are inconclusive, since each word is a test at 5 %,
    and a run has many formats: whether something was lost is what the paired checks decide.
    """
    found = []
    for verdict in verdicts:
        was = before.words.get(verdict.format)
        if was not in _RANK or verdict.word not in _RANK or _RANK[verdict.word] <= _RANK[was]:
            continue
        if before.formats[verdict.format].digest != current.formats[verdict.format].digest:
            continue  # the metrics' checks are stale already
        sure = (was, verdict.word) == ("works", "broken")
        found.append(_check(verdict, "failed" if sure else "inconclusive", f"{was} → "))
    return found


def check_not_broken(
    current: Baseline, verdicts: Sequence[Verdict], places: Sequence[str]
) -> list[GateCheck]:
    """One check for each format that must not be broken: of these groups, ids or globs."""
    outcomes: Mapping[Word, Outcome] = {
        "works": "passed",
        "degraded": "passed",
        "broken": "failed",
        "unclear": "inconclusive",
        "untestable": "inconclusive",
    }
    return [
        _check(verdict, outcomes[verdict.word], "")
        for verdict in verdicts
        if any(
            place == current.formats[verdict.format].group or fnmatchcase(verdict.format, place)
            for place in places
        )
    ]


def _check(verdict: Verdict, outcome: Outcome, was: str) -> GateCheck:
    evidence = verdict.evidence
    return GateCheck(
        verdict.format,
        VERDICT,
        outcome,
        None,
        None,
        0.0,
        evidence.n if evidence else 0,
        why=f"{was}{verdict.word}: {verdict.reason}",
        worst_case=evidence.worst_case if evidence else "",
        needed=verdict.needed or 0,
    )
