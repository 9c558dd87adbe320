"""Stopping is a pure function of the log: it names the first reason, and a resumed run decides
alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.training.config import EvaluationConfig, StoppingConfig, parse_config
from harness.training.selection.early_stopping import StopDecision, decide_stop, value_of


def log(values, name="nll_held_out", **rest):
    return [
        {"kind": "checkpoint", "step": 10 * index, "epoch": 0.5, name: value, **rest}
        for index, value in enumerate(values)
    ]


DEFAULT = EvaluationConfig()


def stops_at(entries, stopping, evaluation=DEFAULT):
    """The index of the first checkpoint at which a run would end, judged one after the other."""
    return next(
        (
            at
            for at in range(len(entries))
            if decide_stop(entries[: at + 1], stopping, evaluation).stop
        ),
        None,
    )


def test_patience_counts_checkpoints_since_the_best():
    entries = log([2.0, 1.8, 1.9, 1.7, 1.75, 1.71, 1.72, 1.5])
    assert stops_at(entries, StoppingConfig(early_stopping_patience=3)) == 6
    assert stops_at(entries, StoppingConfig(early_stopping_patience=4)) is None
    assert (
        decide_stop(entries[:7], StoppingConfig(early_stopping_patience=3), EvaluationConfig()).stop
        == "nll_held_out has not been better than 1.7 (step 30) at 3 checkpoints"
    )


def test_an_improvement_under_the_threshold_is_none():
    entries = log([2.0, 1.99, 1.98, 1.97])
    assert stops_at(entries, StoppingConfig(early_stopping_patience=2)) is None
    assert (
        stops_at(entries, StoppingConfig(early_stopping_patience=2, early_stopping_threshold=0.1))
        == 2
    )


def test_small_gains_add_up_to_an_improvement():
    entries = log([2.0, 1.95, 1.85, 1.8])
    assert (
        stops_at(entries, StoppingConfig(early_stopping_patience=2, early_stopping_threshold=0.1))
        is None
    )


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.integers(1, 5))
def test_patience_against_a_plain_count(values, patience):
    """The reference keeps a counter, as a trainer that forgets it on resume would."""
    best, waited, expected = None, 0, None
    for at, value in enumerate(values):
        if best is None or value < best:
            best, waited = value, 0
        else:
            waited += 1
        if waited >= patience:
            expected = at
            break
    evaluation = EvaluationConfig(metric_for_best_model="loss")
    assert (
        stops_at(log(values, "loss"), StoppingConfig(early_stopping_patience=patience), evaluation)
        == expected
    )


def test_any_logged_measure_may_decide_and_an_unknown_one_is_told():
    evaluation = EvaluationConfig(metric_for_best_model="nll_heldout")
    with pytest.raises(HarnessError, match="no metric 'nll_heldout'") as caught:
        decide_stop(log([2.0]), StoppingConfig(early_stopping_patience=1), evaluation)
    assert "nll_held_out" in caught.value.hint


def test_recall_excess_is_read_since_step_0_and_in_its_worst_format():
    entries = log([2.0, 1.9, 1.8])
    for entry, values in zip(
        entries, ({"a": 0.3, "b": 0.1}, {"a": 0.5, "b": 0.4}, {"a": 0.6, "b": 0.8}), strict=True
    ):
        entry["recall"] = values
    stopping = StoppingConfig(max_recall_excess=0.5)
    assert stops_at(entries, stopping) == 2
    assert (
        decide_stop(entries, stopping, EvaluationConfig()).stop
        == "recall excess 0.7 in b, over 0.5"
    )
    assert decide_stop(
        entries[1:2], StoppingConfig(max_recall_excess=0.45), EvaluationConfig()
    ).stop, "a branch has no step 0 of its own"


def test_hazard_and_rise_are_limits():
    entries = log([2.0, 1.5, 1.8], hazard_seen=0.01, hazard_held_out=0.03)
    assert (
        decide_stop(entries, StoppingConfig(max_drift_hazard=0.02), EvaluationConfig()).stop
        == "drift hazard 0.03, over 0.02"
    )
    assert (
        decide_stop(entries, StoppingConfig(max_nll_rise=0.2), EvaluationConfig()).stop
        == "rise of held-out NLL 0.3 since step 10, over 0.2"
    )
    assert not decide_stop(entries[:2], StoppingConfig(max_nll_rise=0.2), EvaluationConfig()).stop


def test_marks_do_not_stop():
    entries = log([2.0, 1.5, 1.8], hazard_seen=0.03)
    found = decide_stop(
        entries,
        StoppingConfig(max_drift_hazard=0.02, max_nll_rise=0.2, on_limit="mark"),
        EvaluationConfig(),
    )
    assert found == StopDecision(
        "", ("drift hazard 0.03, over 0.02", "rise of held-out NLL 0.3 since step 10, over 0.2")
    )


def test_without_held_out_formats_seen_ones_stand_in():
    assert value_of({"nll_seen": 1.5}, "nll_held_out") == 1.5
    assert value_of({"nll_seen": 1.5}, "nll_native") is None


def test_watching_without_measuring_is_refused():
    with pytest.raises(HarnessError, match="nothing is measured"):
        parse_config(
            {
                "stopping": {"early_stopping_patience": 2},
                "evaluation": {"references": 0, "recall_rows": 0},
            }
        )


def test_nothing_asked_nothing_judged():
    assert decide_stop(log([2.0, 9.0]), StoppingConfig(), EvaluationConfig()) == StopDecision()
