"""The change of recall between two runs is paired by row, and the base cancels in it."""

from __future__ import annotations

import pytest

from harness.conversation import Message
from harness.evaluation.analysis.recall_change import recall_changes
from harness.evaluation.results import RecallSets, RecallTable
from harness.records import Case

N = 40


def cases(side, count=N):
    return tuple(
        Case(f"{side}-{n}", (Message("user", "q"),), reference="an answer") for n in range(count)
    )


SETS = RecallSets(cases("row"), cases("control"))
ALONE = RecallSets(cases("row"), ())


def table(sets, row, control, *, base=None, share=None, form="chatml"):
    """Levels that rise with a row's number from ``row`` or ``control``, over a base's."""
    by_case = {}
    for side, level in ((sets.train, row), (sets.controls, control)):
        for n, case in enumerate(side):
            values = {"token_logprob": level + 0.01 * n}
            if base is not None:
                values["gain"] = values["token_logprob"] - base
            if share is not None:
                values["nv_recall@50%"] = share
            by_case[case.id] = values
    traits = {case.id: (0.0, 4.0) for case in (*sets.train, *sets.controls)}
    return RecallTable((), {}, by_case={form: by_case}, traits=traits)


def test_what_the_controls_lost_too_is_no_change_of_recall():
    known = table(SETS, -1.0, -2.0, base=-2.5)
    [same] = recall_changes(SETS, known, table(SETS, -1.3, -2.3))
    assert same.before == pytest.approx(1.0) and same.difference == pytest.approx(0, abs=1e-9)
    assert (same.format, same.metric, same.n) == ("chatml", "gain", N)
    [lost] = recall_changes(SETS, known, table(SETS, -1.8, -2.0))
    assert lost.difference == pytest.approx(-0.8)
    assert lost.low == pytest.approx(-0.8) == lost.high  # equal in every row: the pairs cancel


def test_without_controls_it_is_the_change_of_the_gain():
    known = table(ALONE, -1.0, 0.0, base=-2.5)
    [one] = recall_changes(ALONE, known, table(ALONE, -1.4, 0.0))
    assert one.before == pytest.approx(1.5 + 0.01 * (N - 1) / 2)
    assert (one.difference, one.n) == (pytest.approx(-0.4), N)


def test_near_verbatim_recall_is_that_of_the_trained_rows():
    known = table(SETS, -1.0, -2.0, base=-2.5, share=0.75)
    found = recall_changes(SETS, known, table(SETS, -1.0, -2.0, share=0.5))
    [one] = [one for one in found if one.metric == "nv_recall@50%"]
    assert (one.before, one.difference, one.n) == (0.75, -0.25, N)
    assert [one.metric for one in recall_changes(SETS, known, table(SETS, -1.0, -2.0))] == ["gain"]


def test_only_what_both_runs_scored_is_compared():
    known = table(SETS, -1.0, -2.0, base=-2.5)
    assert recall_changes(SETS, known, table(SETS, -1.0, -2.0, form="llama3")) == []
    assert recall_changes(SETS, table(SETS, -1.0, -2.0), table(SETS, -1.0, -2.0)) == []  # no base
    some = table(RecallSets(SETS.train[:30], SETS.controls), -1.0, -2.0)
    assert recall_changes(SETS, known, some)[0].n == 30
    controls = table(RecallSets((), SETS.controls), -1.0, -2.0)
    assert recall_changes(SETS, known, controls) == []
