from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evaluation.settings import EvalSettings
from harness.gate.baseline import to_baseline
from harness.gate.compare_baselines import accepted, compare_baselines, severity
from harness.gate.thresholds import Tolerance
from harness.metrics.registry import METRICS, lower_is_better
from harness.records import GateCheck

TOLERANCES = {metric: Tolerance(metric, 0.05) for metric in sorted(METRICS)}


def ones(lost: int, n: int = 80) -> list[float]:
    """A rate's column whose first ``lost`` cases failed."""
    return [0.0] * lost + [1.0] * (n - lost)


@pytest.fixture
def compared(make_evaluation):
    def run(before, after, tolerances=TOLERANCES, old=None, new=None, **keys):
        found = compare_baselines(
            to_baseline(make_evaluation(before, **(old or {}))),
            to_baseline(make_evaluation(after, **(new or {}))),
            tolerances,
            **keys,
        )
        return {(check.format, check.metric): check for check in found}

    return run


def test_a_real_loss_fails_with_its_worst_case(compared):
    check = compared({("a", "stopped"): ones(2)}, {("a", "stopped"): ones(23)})["a", "stopped"]
    assert check.outcome == "failed"
    assert check.fails
    assert (check.baseline, check.current, check.allowed, check.n) == (
        78 / 80,
        57 / 80,
        0.05,
        80,
    )
    assert check.p < 0.01
    assert check.worst_case == "answer-002"  # the first two had failed before


def test_a_thought_that_is_gone_is_not_missing_twice(compared):
    """Few thoughts may be none in the next run; whether that is a loss is for ``thinks`` to say."""
    thoughts = {("a", "thinks"): [1.0, *[0.0] * 79], ("a", "thought_drift"): [0.0, *[None] * 79]}
    gone = {("a", "thinks"): [0.0] * 80}
    found = compared(thoughts, gone)
    assert found["a", "thought_drift"].outcome == "inconclusive"
    assert not any(check.fails for check in found.values())
    elsewhere = {("a", "thinks"): [1.0, *[0.0] * 79], ("a", "thought_drift"): [None, 0.0]}
    assert compared(thoughts, elsewhere)["a", "thought_drift"].outcome == "inconclusive"
    assert compared(thoughts, {("a", "stopped"): [1.0]})["a", "thought_drift"].outcome == "missing"


def test_an_unchanged_model_passes_everywhere(compared):
    values = {
        ("a", "stopped"): ones(30),
        ("a", "nll"): [1.5, 2.5],
        ("b", "choice"): ones(3),
        ("b", "leak"): ones(40),
    }
    checks = compared(values, values)
    assert {check.outcome for check in checks.values()} == {"passed"}
    assert all(check.worst_case == "" and check.p == 1 for check in checks.values())


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_every_metric_knows_which_way_is_worse(compared, metric):
    fewer, more = {("a", metric): ones(60)}, {("a", metric): ones(5)}
    worse, better = (
        ((fewer, more), (more, fewer))
        if lower_is_better(metric)
        else ((more, fewer), (fewer, more))
    )
    assert compared(*worse)["a", metric].outcome == "failed"
    assert compared(*better)["a", metric].outcome == "improved"


def test_a_loss_within_chance_is_inconclusive_with_the_drop(compared):
    at_the_tolerance = compared({("a", "stopped"): ones(0)}, {("a", "stopped"): ones(4)})
    assert at_the_tolerance["a", "stopped"].outcome == "inconclusive"
    within_chance = compared({("a", "stopped"): ones(0, 20)}, {("a", "stopped"): ones(2, 20)})[
        "a", "stopped"
    ]
    assert within_chance.delta == pytest.approx(-0.1)
    assert within_chance.outcome == "inconclusive" and not within_chance.fails
    assert within_chance.p > 0.05 and within_chance.needed > 20


def test_a_format_may_have_its_own_tolerance(compared):
    tolerances = {"stopped": Tolerance("stopped", 0.05, {"b": 0.5})}
    checks = compared(
        {("a", "stopped"): ones(0), ("b", "stopped"): ones(0)},
        {("a", "stopped"): ones(30), ("b", "stopped"): ones(30)},
        tolerances,
    )
    assert checks["a", "stopped"].outcome == "failed"
    assert (checks["b", "stopped"].outcome, checks["b", "stopped"].allowed) == ("passed", 0.5)


def test_pairing_finds_what_the_means_alone_could_not(compared):
    """The same difference of means: a shift of .1 in every case, and noise between cases."""
    before = [float(index % 7) for index in range(40)]
    shifted = compared(
        {("a", "nll"): before},
        {("a", "nll"): [value + 0.1 + 0.001 * (index % 2) for index, value in enumerate(before)]},
    )["a", "nll"]
    assert shifted.outcome == "failed"
    shuffled = compared(
        {("a", "nll"): before}, {("a", "nll"): [value + 0.1 for value in before[::-1]]}
    )["a", "nll"]
    assert shuffled.delta == pytest.approx(0.1)
    assert shuffled.outcome == "inconclusive"


def test_holm_asks_more_of_one_format_among_many(compared):
    after = ones(10, 100)
    alone = compared({("a", "stopped"): ones(0, 100)}, {("a", "stopped"): after})["a", "stopped"]
    assert alone.outcome == "failed"
    others = {(f"other-{index}", "stopped"): ones(0, 100) for index in range(17)}
    quiet = compared(
        {("a", "stopped"): ones(0, 100), **others}, {("a", "stopped"): after, **others}
    )
    assert quiet["a", "stopped"].p == pytest.approx(2 * alone.p)  # only the group's mean counts too
    was = {place: ones(10, 100) for place in others}
    now = {place: ones(10, 100)[::-1] for place in others}
    among = compared({("a", "stopped"): ones(0, 100), **was}, {("a", "stopped"): after, **now})
    assert among["a", "stopped"].p == pytest.approx(19 * alone.p)
    assert among["a", "stopped"].outcome == "inconclusive"


def test_new_and_missing_entries(compared):
    both = compared({("a", "stopped"): ones(0)}, {("b", "stopped"): ones(1)})
    assert (
        both["b", "stopped"].outcome,
        both["b", "stopped"].fails,
        both["b", "stopped"].current,
    ) == ("new", False, 79 / 80)
    assert (both["a", "stopped"].outcome, both["a", "stopped"].fails) == ("missing", True)
    assert both["a", "stopped"].why == "the format was not evaluated"


def test_an_entry_wholly_not_scored_now_is_missing_with_its_reason(compared):
    checks = compared(
        {("a", "stopped"): ones(0, 3)},
        {("a", "stopped"): [None] * 3, ("a", "choice"): [1.0]},
        new={"why": "no system role"},
    )
    assert checks["a", "stopped"].outcome == "missing"
    assert checks["a", "stopped"].why == "no system role"
    no_case = compared({("a", "stopped"): ones(0, 3)}, {("a", "choice"): [1.0]})
    assert no_case["a", "stopped"].why == "no answer case was evaluated"


def test_what_was_scored_in_neither_run_gives_no_check(compared):
    empty = {("a", "stopped"): [None], ("a", "choice"): [1.0]}
    assert set(compared(empty, empty)) == {("a", "choice")}


def test_baseline_entries_that_were_not_asked_for_are_passed_over(compared):
    before = {("a", "stopped"): ones(0), ("b", "stopped"): ones(0)}
    checks = compared(
        before, {("a", "stopped"): ones(0)}, selected=lambda entry: entry.format == "a"
    )
    assert set(checks) == {("a", "stopped")}


def test_a_changed_template_or_setting_is_stale_and_named(compared):
    values = {("a", "stopped"): ones(0), ("b", "stopped"): ones(0)}
    checks = compared(values, values, new={"digests": {"a": "other"}})
    assert (checks["a", "stopped"].outcome, checks["a", "stopped"].fails) == ("stale", True)
    assert checks["a", "stopped"].why == "the template of a changed"
    assert checks["b", "stopped"].outcome == "passed"
    checks = compared(values, values, new={"settings": EvalSettings(max_new_tokens=8)})
    assert checks["b", "stopped"].why == "max_new_tokens was 0, is 8"


def test_nll_excess_is_stale_when_its_reference_changed(compared):
    values = {
        ("n", "nll_excess"): [0.0] * 4,
        ("a", "nll_excess"): [0.5] * 4,
        ("a", "nll"): [2.0] * 4,
    }
    other = compared(values, values, old={"native": "n"}, new={"native": "a"})
    assert other["n", "nll_excess"].why == "the native format was n, is a"
    assert ("a", "nll_excess") not in other  # zero by definition now
    changed = compared(
        values, values, old={"native": "n"}, new={"native": "n", "digests": {"n": "other"}}
    )
    assert changed["a", "nll_excess"].why == "the template of n, the native format, changed"
    assert changed["a", "nll"].outcome == "passed"
    assert ("n", "nll_excess") not in changed


def test_without_a_common_case_there_is_no_comparison(compared):
    check = compared(
        {("a", "stopped"): ones(0, 3)}, {("a", "stopped"): ones(0, 4)}, new={"prefix": "other-"}
    )["a", "stopped"]
    assert (check.outcome, check.fails, check.n) == ("missing", True, 0)
    assert check.why == "no case in common with the baseline (3 there, 4 here)"


def test_a_rewritten_case_is_not_paired(compared):
    before, after = {("a", "stopped"): ones(0, 30)}, {("a", "stopped"): ones(15, 30)}
    rewritten = {f"answer-{index:03}": "something else?" for index in range(15)}
    check = compared(before, after, new={"texts": rewritten})["a", "stopped"]
    assert (check.outcome, check.n) == ("inconclusive", 15)
    assert (check.baseline, check.current) == (1.0, 1.0)
    every = {f"answer-{index:03}": "something else?" for index in range(30)}
    check = compared(before, after, new={"texts": every})["a", "stopped"]
    assert check.why.startswith(
        "no case in common with the baseline: 30 of its 30 cases were rewritten"
    )


def test_only_cases_scored_in_both_are_paired(compared):
    check = compared({("a", "drift"): [0.0] * 10}, {("a", "drift"): [None] * 5 + [0.0] * 5})[
        "a", "drift"
    ]
    assert (check.outcome, check.n) == ("inconclusive", 5)


def test_a_metric_without_tolerance_is_not_gated(compared):
    values = {("a", "stopped"): ones(0), ("a", "leak"): ones(0)}
    assert set(compared(values, values, {"leak": Tolerance("leak", 0.1)})) == {("a", "leak")}


def test_accepting_names_every_difference(compared):
    before = {
        ("a", "stopped"): ones(0),
        ("b", "stopped"): ones(0),
        ("c", "stopped"): ones(0),
        ("d", "stopped"): ones(60),
        ("e", "stopped"): ones(0),
    }
    after = {
        ("a", "stopped"): ones(40),
        ("c", "stopped"): ones(0),
        ("d", "stopped"): ones(0),
        ("e", "stopped"): ones(0),
        ("f", "stopped"): ones(0),
    }
    taken = {
        check.format: check
        for check in accepted(
            list(compared(before, after, new={"digests": {"c": "other"}}).values())
        )
    }
    taken.pop("held-out formats")
    assert {name: check.outcome for name, check in taken.items()} == {
        "a": "new",
        "b": "new",
        "c": "new",
        "d": "new",
        "e": "passed",
        "f": "new",
    }
    assert [taken[name].why for name in "abcdf"] == [
        "updated: failed",
        "dropped: the format was not evaluated",
        "updated: stale, the template of c changed",
        "updated: improved",
        "",
    ]
    assert not any(check.fails for check in taken.values())


def test_the_worst_is_what_lost_most_of_its_tolerance():
    small = GateCheck("a", "drift", "failed", 0.0, 0.3, 0.03, 80)
    large = GateCheck("a", "choice", "failed", 0.9, 0.5, 0.08, 80)
    assert severity(small) == pytest.approx(10)
    assert severity(large) == pytest.approx(5)
    assert severity(GateCheck("a", "leak", "missing", 0.0, None, 0.05, 0)) == math.inf
    assert severity(GateCheck("a", "leak", "stale", 0.0, 0.0, 0.05, 3)) == math.inf
    assert severity(GateCheck("a", "leak", "failed", 0.0, 0.1, 0.0, 3)) == math.inf
    assert severity(GateCheck("a", "stopped", "failed", None, 0.4, 0.9, 80)) == pytest.approx(0.5)
    assert severity(GateCheck("a", "empty", "failed", None, 0.4, 0.1, 80)) == pytest.approx(0.3)


columns = st.lists(st.sampled_from([0.0, 1.0, None]), min_size=1, max_size=30)


@settings(max_examples=30)
@given(before=columns, after=columns)
def test_a_failure_is_always_a_loss_of_the_tolerance(make_evaluation, before, after):
    found = compare_baselines(
        to_baseline(make_evaluation({("a", "stopped"): before})),
        to_baseline(make_evaluation({("a", "stopped"): after})),
        TOLERANCES,
    )
    for check in found:
        if check.outcome == "failed":
            assert check.delta <= -0.05 and check.p <= 0.01 and check.worst_case
        if check.outcome == "improved":
            assert check.delta >= 0.05 and check.p <= 0.01
        if check.outcome == "passed":
            assert check.delta > -0.05


def test_a_small_loss_in_many_formats_is_seen_in_their_mean(compared):
    """Twelve cases lost in each of six formats, others in each: only the mean finds the loss."""
    before = {(f"f{at}", "stopped"): [1.0] * 100 for at in range(6)}
    after = {
        (f"f{at}", "stopped"): [
            0.0 if at * 12 <= case < at * 12 + 12 else 1.0 for case in range(100)
        ]
        for at in range(6)
    }
    found = compared(before, after, {"stopped": Tolerance("stopped", 0.13, pooled=0.05)})
    assert {check.format for check in found.values() if check.fails} == {"held-out formats"}
    check = found["held-out formats", "stopped"]
    assert (check.n, round(check.delta, 2), check.allowed) == (100, -0.12, 0.05)


def test_groups_are_judged_apart_and_one_format_is_no_group(compared):
    values = {(name, "stopped"): ones(0) for name in "abcd"}
    worse = {**values, ("c", "stopped"): ones(30), ("d", "stopped"): ones(30)}
    groups = {"groups": {"a": "native", "b": "seen", "c": "held-out", "d": "held-out"}}
    found = compared(values, worse, old=groups, new=groups)
    assert {place[0] for place in found} == {*"abcd", "held-out formats"}
    assert found["held-out formats", "stopped"].fails


def test_cases_are_the_clusters_of_a_mean(compared):
    """One case lost in all of ten formats is one loss and not ten."""
    before = {(f"f{at}", "stopped"): [1.0] * 20 for at in range(10)}
    after = {(f"f{at}", "stopped"): [0.0, 0.0] + [1.0] * 18 for at in range(10)}
    check = compared(before, after, {"stopped": Tolerance("stopped", 0.05)})[
        "held-out formats", "stopped"
    ]
    assert check.n == 20 and not check.fails and check.p > 0.05


def test_the_same_template_rendered_differently_is_stale(make_evaluation):
    values = {("a", "stopped"): ones(0)}
    run = to_baseline(make_evaluation(values))
    facts = replace(run.formats["a"], rendered="0" * 16, facts={"stop_trained": True})
    [check] = compare_baselines(replace(run, formats={"a": facts}), run, TOLERANCES)
    assert check.outcome == "stale"
    assert (
        check.why.startswith("a is rendered differently; ")
        and "stop_trained was True, is None" in check.why
    )
