from __future__ import annotations

import math
from dataclasses import replace

import pytest

from harness.conversation import Message
from harness.evaluation.settings import EvalSettings
from harness.formats import load_formats
from harness.gate.baseline import (
    Baseline,
    BaselineEntry,
    FormatIdentity,
    format_identity,
    scored_digest,
    to_baseline,
)
from harness.records import Case, Check


def test_an_evaluation_is_reduced_to_entries_in_order(make_evaluation):
    evaluation = make_evaluation(
        {
            ("b", "stopped"): [1.0, 0.0, None],
            ("a", "nll"): [1.23456, 2.0],
            ("a", "stopped"): [1.0, 1.0, 1.0],
        },
        native="a",
        groups={"b": "seen"},
    )
    found = to_baseline(evaluation)
    assert [(entry.format, entry.metric) for entry in found.entries] == [
        ("a", "nll"),
        ("a", "stopped"),
        ("b", "stopped"),
    ]
    assert found.entry("a", "nll").values == (1.2346, 2.0)
    assert found.entry("a", "nll").kind == "reference"
    assert found.entry("b", "stopped").values == (1.0, 0.0, None)
    assert found.entry("b", "stopped").n == 2
    assert found.entry("b", "stopped").low < 0.5 < found.entry("b", "stopped").high
    assert found.scored(found.entry("b", "stopped")) == {"answer-000": 1.0, "answer-001": 0.0}
    assert {format_id: (fact.digest, fact.group) for format_id, fact in found.formats.items()} == {
        "a": ("d-a", "native"),
        "b": ("d-b", "seen"),
    }
    assert (found.name, found.model, found.native) == ("tiny", "sha256:m", "a")
    assert found.environment == {"backend": "fake-1", "device": "cpu", "dtype": "float32"}


def test_only_settings_that_decide_entries_are_facts(make_evaluation):
    values = {("a", "stopped"): [1.0]}
    plain = to_baseline(make_evaluation(values))
    assert (
        to_baseline(make_evaluation(values, settings=EvalSettings(recall_examples=3))).settings
        == plain.settings
    )
    assert (
        to_baseline(make_evaluation(values, settings=EvalSettings(max_new_tokens=9))).settings
        != plain.settings
    )


def test_an_entry_that_was_not_scored_at_all_leaves_its_reason(make_evaluation):
    found = to_baseline(
        make_evaluation(
            {("a", "stopped"): [None, None], ("b", "stopped"): [None, 1.0]}, why="no system role"
        )
    )
    assert found.entry("a", "stopped") is None
    assert found.reasons == {("a", "stopped"): "no system role"}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_lose_the_whole_entry(make_evaluation, bad):
    found = to_baseline(make_evaluation({("a", "nll"): [1.0, bad, 1.0]}))
    assert found.entries == ()
    assert found.reasons == {("a", "nll"): "1 of 3 values are not finite numbers"}


def test_what_is_deterministic_about_a_format_is_kept_with_it():
    known = load_formats()
    fact = format_identity(known["llama3"], "held-out")
    assert fact.facts["stop_trained"] and fact.facts["leading_bos"] and len(fact.rendered) == 16
    assert (
        fact
        == format_identity(known["llama3"], "held-out")
        != format_identity(known["chatml"], "held-out")
    )
    untrained = replace(
        known["llama3"],
        template=known["llama3"]
        .template.replace("{%- generation %}", "")
        .replace("{%- endgeneration %}", ""),
    )
    assert (
        format_identity(untrained, "held-out").rendered != fact.rendered
    )  # the same text, with nothing of it trained


def test_a_case_digest_follows_all_that_decides_a_score():
    case = Case("x", (Message("user", "what?"),), checks=(Check("contains", "yes"),))
    same = Case("y", case.messages, checks=case.checks, tags=("t",), source="f:1")
    assert scored_digest(case) == scored_digest(same)
    others = [
        Case("x", (Message("user", "what??"),), checks=case.checks),
        Case("x", case.messages, checks=(Check("contains", "no"),)),
        Case("x", case.messages, checks=case.checks, expect_language="de"),
        Case("x", case.messages, checks=case.checks, name="Ann"),
        Case("x", case.messages, reference="yes"),
        Case("x", case.messages, choices=("yes", "no"), answer=0),
        Case("x", case.messages, choices=("yes", "no"), answer=1),
    ]
    assert len({scored_digest(case), *map(scored_digest, others)}) == 1 + len(others)


def entry(**changes) -> BaselineEntry:
    facts = {
        "format": "a",
        "metric": "stopped",
        "mean": 0.5,
        "low": 0.1,
        "high": 0.9,
        "n": 2,
        "kind": "answer",
        "values": (1.0, 0.0, None),
    }
    return BaselineEntry(**{**facts, **changes})


def baseline(*entries: BaselineEntry) -> Baseline:
    return Baseline(
        "",
        "m",
        "",
        None,
        {},
        {},
        {"a": FormatIdentity("d", "native")},
        {"answer": {"x": "1", "y": "2", "z": "3"}},
        entries,
    )


def test_a_baseline_holds_together():
    assert baseline(entry()).entry("a", "stopped") == entry()
    with pytest.raises(ValueError, match="n is 3"):
        entry(n=3)
    with pytest.raises(ValueError, match=r"mean is 0\.7"):
        entry(mean=0.7)
    with pytest.raises(ValueError, match="occurs twice"):
        baseline(entry(), entry())
    with pytest.raises(ValueError, match="no digest"):
        baseline(entry(format="b"))
    with pytest.raises(ValueError, match="no 'choice' cases"):
        baseline(entry(kind="choice"))
    with pytest.raises(ValueError, match="2 values for 3 cases"):
        baseline(entry(values=(1.0, 0.0)))
    with pytest.raises(ValueError, match="unknown group"):
        FormatIdentity("d", "other")
