from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evaluation.settings import EvalSettings
from harness.gate.baseline import to_baseline
from harness.gate.thresholds import Margin
from harness.gate.verdicts import accepted, compare_baselines, severity
from harness.metrics.registry import METRICS, lower_is_better
from harness.records import GateCheck

MARGINS = {metric: Margin(metric, 0.05) for metric in sorted(METRICS)}


def ones(lost: int, n: int = 80) -> list[float]:
    """A rate's column whose first ``lost`` cases failed."""
    return [0.0] * lost + [1.0] * (n - lost)


@pytest.fixture
def compared(make_evaluation):
    def run(before, after, margins=MARGINS, old=None, new=None, **keys):
        found = compare_baselines(
            to_baseline(make_evaluation(before, **(old or {}))),
            to_baseline(make_evaluation(after, **(new or {}))),
            margins,
            **keys,
        )
        return {(verdict.format, verdict.metric): verdict for verdict in found}

    return run


def test_a_real_loss_regresses_with_its_worst_case(compared):
    verdict = compared({("a", "stopped"): ones(2)}, {("a", "stopped"): ones(23)})["a", "stopped"]
    assert verdict.outcome == "regressed"
    assert verdict.failed
    assert (verdict.baseline, verdict.current, verdict.allowed, verdict.n) == (
        78 / 80,
        57 / 80,
        0.05,
        80,
    )
    assert verdict.p < 0.01
    assert verdict.worst_case == "answer-002"  # the first two had failed before


def test_an_unchanged_model_is_ok_everywhere(compared):
    values = {
        ("a", "stopped"): ones(30),
        ("a", "nll"): [1.5, 2.5],
        ("b", "choice"): ones(3),
        ("b", "leak"): ones(40),
    }
    verdicts = compared(values, values)
    assert {verdict.outcome for verdict in verdicts.values()} == {"ok"}
    assert all(verdict.worst_case == "" and verdict.p == 1 for verdict in verdicts.values())


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_every_metric_knows_which_way_is_worse(compared, metric):
    fewer, more = {("a", metric): ones(60)}, {("a", metric): ones(5)}
    worse, better = (
        ((fewer, more), (more, fewer))
        if lower_is_better(metric)
        else ((more, fewer), (fewer, more))
    )
    assert compared(*worse)["a", metric].outcome == "regressed"
    assert compared(*better)["a", metric].outcome == "improved"


def test_a_loss_within_the_margin_or_within_chance_is_ok(compared):
    assert (
        compared({("a", "stopped"): ones(0)}, {("a", "stopped"): ones(4)})["a", "stopped"].outcome
        == "ok"
    )  # exactly the margin
    within_chance = compared({("a", "stopped"): ones(0, 20)}, {("a", "stopped"): ones(2, 20)})[
        "a", "stopped"
    ]
    assert within_chance.delta == pytest.approx(-0.1)
    assert within_chance.outcome == "ok"
    assert within_chance.p > 0.05


def test_a_format_may_have_its_own_margin(compared):
    margins = {"stopped": Margin("stopped", 0.05, {"b": 0.5})}
    verdicts = compared(
        {("a", "stopped"): ones(0), ("b", "stopped"): ones(0)},
        {("a", "stopped"): ones(30), ("b", "stopped"): ones(30)},
        margins,
    )
    assert verdicts["a", "stopped"].outcome == "regressed"
    assert (verdicts["b", "stopped"].outcome, verdicts["b", "stopped"].allowed) == ("ok", 0.5)


def test_pairing_finds_what_the_means_alone_could_not(compared):
    """The same difference of means: a shift of .1 in every case, and noise between cases."""
    before = [float(index % 7) for index in range(40)]
    shifted = compared(
        {("a", "nll"): before},
        {("a", "nll"): [value + 0.1 + 0.001 * (index % 2) for index, value in enumerate(before)]},
    )["a", "nll"]
    assert shifted.outcome == "regressed"
    shuffled = compared(
        {("a", "nll"): before}, {("a", "nll"): [value + 0.1 for value in before[::-1]]}
    )["a", "nll"]
    assert shuffled.delta == pytest.approx(0.1)
    assert shuffled.outcome == "ok"


def test_holm_asks_more_of_one_format_among_many(compared):
    after = ones(11, 100)
    alone = compared({("a", "stopped"): ones(0, 100)}, {("a", "stopped"): after})["a", "stopped"]
    assert alone.outcome == "regressed"
    others = {(f"other-{index}", "stopped"): ones(0, 100) for index in range(17)}
    among = compared(
        {("a", "stopped"): ones(0, 100), **others}, {("a", "stopped"): after, **others}
    )["a", "stopped"]
    assert among.p == pytest.approx(18 * alone.p)
    assert among.outcome == "ok"


def test_new_and_missing_entries(compared):
    both = compared({("a", "stopped"): ones(0)}, {("b", "stopped"): ones(1)})
    assert (
        both["b", "stopped"].outcome,
        both["b", "stopped"].failed,
        both["b", "stopped"].current,
    ) == ("new", False, 79 / 80)
    assert (both["a", "stopped"].outcome, both["a", "stopped"].failed) == ("missing", True)
    assert both["a", "stopped"].why == "the format was not evaluated"


def test_an_entry_wholly_not_scored_now_is_missing_with_its_reason(compared):
    verdicts = compared(
        {("a", "stopped"): ones(0, 3)},
        {("a", "stopped"): [None] * 3, ("a", "choice"): [1.0]},
        new={"why": "no system role"},
    )
    assert verdicts["a", "stopped"].outcome == "missing"
    assert verdicts["a", "stopped"].why == "no system role"
    no_case = compared({("a", "stopped"): ones(0, 3)}, {("a", "choice"): [1.0]})
    assert no_case["a", "stopped"].why == "no answer case was evaluated"


def test_what_was_scored_in_neither_run_gives_no_verdict(compared):
    empty = {("a", "stopped"): [None], ("a", "choice"): [1.0]}
    assert set(compared(empty, empty)) == {("a", "choice")}


def test_baseline_entries_that_were_not_asked_for_are_passed_over(compared):
    before = {("a", "stopped"): ones(0), ("b", "stopped"): ones(0)}
    verdicts = compared(
        before, {("a", "stopped"): ones(0)}, selected=lambda entry: entry.format == "a"
    )
    assert set(verdicts) == {("a", "stopped")}


def test_a_changed_template_or_setting_is_stale_and_named(compared):
    values = {("a", "stopped"): ones(0), ("b", "stopped"): ones(0)}
    verdicts = compared(values, values, new={"digests": {"a": "other"}})
    assert (verdicts["a", "stopped"].outcome, verdicts["a", "stopped"].failed) == ("stale", True)
    assert verdicts["a", "stopped"].why == "the template of a changed"
    assert verdicts["b", "stopped"].outcome == "ok"
    verdicts = compared(values, values, new={"settings": EvalSettings(max_new_tokens=8)})
    assert verdicts["b", "stopped"].why == "max_new_tokens was 64, is 8"


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
    assert changed["a", "nll"].outcome == "ok"
    assert ("n", "nll_excess") not in changed


def test_without_a_common_case_there_is_no_comparison(compared):
    verdict = compared(
        {("a", "stopped"): ones(0, 3)}, {("a", "stopped"): ones(0, 4)}, new={"prefix": "other-"}
    )["a", "stopped"]
    assert (verdict.outcome, verdict.failed, verdict.n) == ("missing", True, 0)
    assert verdict.why == "no case in common with the baseline (3 there, 4 here)"


def test_a_rewritten_case_is_not_paired(compared):
    before, after = {("a", "stopped"): ones(0, 30)}, {("a", "stopped"): ones(15, 30)}
    rewritten = {f"answer-{index:03}": "something else?" for index in range(15)}
    verdict = compared(before, after, new={"texts": rewritten})["a", "stopped"]
    assert (verdict.outcome, verdict.n, verdict.baseline, verdict.current) == ("ok", 15, 1.0, 1.0)
    every = {f"answer-{index:03}": "something else?" for index in range(30)}
    verdict = compared(before, after, new={"texts": every})["a", "stopped"]
    assert verdict.why.startswith(
        "no case in common with the baseline: 30 of its 30 cases were rewritten"
    )


def test_only_cases_scored_in_both_are_paired(compared):
    verdict = compared({("a", "drift"): [0.0] * 10}, {("a", "drift"): [None] * 5 + [0.0] * 5})[
        "a", "drift"
    ]
    assert (verdict.outcome, verdict.n) == ("ok", 5)


def test_a_metric_without_margin_is_not_gated(compared):
    values = {("a", "stopped"): ones(0), ("a", "leak"): ones(0)}
    assert set(compared(values, values, {"leak": Margin("leak", 0.1)})) == {("a", "leak")}


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
        verdict.format: verdict
        for verdict in accepted(
            list(compared(before, after, new={"digests": {"c": "other"}}).values())
        )
    }
    taken.pop("held-out formats")
    assert {name: verdict.outcome for name, verdict in taken.items()} == {
        "a": "new",
        "b": "new",
        "c": "new",
        "d": "new",
        "e": "ok",
        "f": "new",
    }
    assert [taken[name].why for name in "abcdf"] == [
        "updated: regressed",
        "dropped: the format was not evaluated",
        "updated: stale, the template of c changed",
        "updated: improved",
        "",
    ]
    assert not any(verdict.failed for verdict in taken.values())


def test_the_worst_is_what_lost_most_of_its_margin():
    small = GateCheck("a", "drift", "regressed", 0.0, 0.3, 0.03, 80)
    large = GateCheck("a", "choice", "regressed", 0.9, 0.5, 0.08, 80)
    assert severity(small) == pytest.approx(10)
    assert severity(large) == pytest.approx(5)
    assert severity(GateCheck("a", "leak", "missing", 0.0, None, 0.05, 0)) == math.inf
    assert severity(GateCheck("a", "leak", "stale", 0.0, 0.0, 0.05, 3)) == math.inf
    assert severity(GateCheck("a", "leak", "regressed", 0.0, 0.1, 0.0, 3)) == math.inf
    assert severity(GateCheck("a", "stopped", "regressed", None, 0.4, 0.9, 80)) == pytest.approx(
        0.5
    )
    assert severity(GateCheck("a", "empty", "regressed", None, 0.4, 0.1, 80)) == pytest.approx(0.3)


columns = st.lists(st.sampled_from([0.0, 1.0, None]), min_size=1, max_size=30)


@settings(max_examples=30)  # adjusting p-values takes statsmodels 50 ms
@given(before=columns, after=columns)
def test_a_failure_is_always_a_loss_beyond_the_margin(make_evaluation, before, after):
    found = compare_baselines(
        to_baseline(make_evaluation({("a", "stopped"): before})),
        to_baseline(make_evaluation({("a", "stopped"): after})),
        MARGINS,
    )
    for verdict in found:
        if verdict.outcome == "regressed":
            assert verdict.delta < -0.05 and verdict.p < 0.05 and verdict.worst_case
        if verdict.outcome == "improved":
            assert verdict.delta > 0.05 and verdict.p < 0.05


def test_a_small_loss_in_many_formats_is_seen_in_their_mean(compared):
    """Twelve cases lost in each of six formats, others in each: only the mean finds the loss."""
    before = {(f"f{at}", "stopped"): [1.0] * 100 for at in range(6)}
    after = {
        (f"f{at}", "stopped"): [
            0.0 if at * 12 <= case < at * 12 + 12 else 1.0 for case in range(100)
        ]
        for at in range(6)
    }
    found = compared(before, after, {"stopped": Margin("stopped", 0.10, pooled=0.05)})
    assert {verdict.format for verdict in found.values() if verdict.failed} == {"held-out formats"}
    verdict = found["held-out formats", "stopped"]
    assert (verdict.n, round(verdict.delta, 2), verdict.allowed) == (100, -0.12, 0.05)


def test_groups_are_judged_apart_and_one_format_is_no_group(compared):
    values = {(name, "stopped"): ones(0) for name in "abcd"}
    worse = {**values, ("c", "stopped"): ones(30), ("d", "stopped"): ones(30)}
    groups = {"groups": {"a": "native", "b": "seen", "c": "held-out", "d": "held-out"}}
    found = compared(values, worse, old=groups, new=groups)
    assert {place[0] for place in found} == {*"abcd", "held-out formats"}
    assert found["held-out formats", "stopped"].failed


def test_cases_are_the_clusters_of_a_mean(compared):
    """One case lost in all of ten formats is one loss and not ten."""
    before = {(f"f{at}", "stopped"): [1.0] * 20 for at in range(10)}
    after = {(f"f{at}", "stopped"): [0.0, 0.0] + [1.0] * 18 for at in range(10)}
    verdict = compared(before, after, {"stopped": Margin("stopped", 0.05)})[
        "held-out formats", "stopped"
    ]
    assert verdict.n == 20 and not verdict.failed and verdict.p > 0.05


def test_the_same_template_rendered_differently_is_stale(make_evaluation):
    values = {("a", "stopped"): ones(0)}
    run = to_baseline(make_evaluation(values))
    facts = replace(run.formats["a"], rendered="0" * 16, facts={"stop_trained": True})
    [verdict] = compare_baselines(replace(run, formats={"a": facts}), run, MARGINS)
    assert verdict.outcome == "stale"
    assert (
        verdict.why.startswith("a is rendered differently; ")
        and "stop_trained was True, is None" in verdict.why
    )
