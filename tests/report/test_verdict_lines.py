"""The lines that a user reads first."""

import pytest

from harness.records import Evidence, Verdict
from harness.report.wording import (
    MOST_LINES,
    changed_words,
    evidence_text,
    points,
    trained_text,
    verdict_lines,
    worst_first,
)


def test_broken_and_degraded_formats_come_first_with_reason_and_remedy():
    found = [
        Verdict("chatml", "works", "as good"),
        Verdict("alpaca", "degraded", "worse than chatml", "use chatml"),
        Verdict("llama3", "broken", "only 3% end", "train in it"),
        Verdict("odd", "untestable", "no system message", "give other cases"),
        Verdict("zephyr", "works", "as good"),
    ]
    assert verdict_lines(found) == [
        "broken: llama3: only 3% end; train in it",
        "degraded: alpaca: worse than chatml; use chatml",
        "untestable: odd: no system message; give other cases",
        "works: chatml, zephyr",
    ]


def test_unclear_formats_share_a_line_with_the_loss_that_is_possible():
    def line(*losses):
        found = [
            Verdict(f"f{at}", "unclear", "may be", "more", loss_at_most=one)
            for at, one in enumerate(losses)
        ]
        return verdict_lines(found)[0]

    assert (
        line(0.241, 0.41)
        == "unclear: f0, f1: each may be as good or worse, by at most 25 to 41 points"
    )
    assert line(0.3, 0.3) == "unclear: f0, f1: each may be as good or worse, by at most 30 points"
    assert line(0.3, None) == "unclear: f0, f1", "nothing is said of all where one is not known"
    assert points(0.01) == "1 point" and points(-0.2) == "0 points"
    assert points(0.2401) == "25 points", "a bound is rounded upwards"
    assert points(0.07) == "7 points", "100 * 0.07 is a little more than 7"


@pytest.mark.parametrize(
    ("needed", "line"),
    [
        ((None,), "unclear: f0: may be; more"),
        ((None, None), "unclear: f0, f1"),
        ((90, 90), "unclear: f0, f1: --cases-per-format 90 would be enough for 2 of them"),
        (
            (90, None, 120),
            "unclear: f0, f1, f2: --cases-per-format 90 to 120 would be enough for 2 of them",
        ),
    ],
)
def test_unclear_formats_share_a_line_with_the_cases_they_need(needed, line):
    found = [
        Verdict(f"f{at}", "unclear", "may be", "more", needed=n) for at, n in enumerate(needed)
    ]
    assert verdict_lines(found) == [line]


def test_a_hundred_broken_formats_are_no_hundred_lines():
    found = [Verdict(f"f{at}", "broken", "bad", "use another") for at in range(100)]
    lines = verdict_lines(found)
    assert len(lines) == MOST_LINES + 1 and lines[-1].startswith("broken: 92 more: f8, f9")


@pytest.mark.parametrize(
    ("evidence", "text"),
    [
        (None, ""),
        (
            Evidence("choice", 0.4, 48, 0.6, 0.2, 0.12, 0.28, "c3"),
            "choice .40 against .60, loss .20 (.12 to .28), 48 cases, worst: c3",
        ),
        (Evidence("stopped", 0.1, 30, low=0.03, high=0.2), "stopped .10, .03 to .20, 30 cases"),
        (
            Evidence("nll_excess", 0.5, 12, 0.0, 0.5),
            "nll_excess .50, loss .50, 12 cases",
        ),
    ],
)
def test_evidence_in_words(evidence, text):
    assert evidence_text(evidence) == text


def test_verdicts_are_in_one_order_by_word_and_then_by_loss():
    def found(name, word, metric="choice", value=0.5, loss=None):
        return Verdict(name, word, "", evidence=Evidence(metric, value, 9, loss=loss))

    given = [
        found("native", "works"),
        found("small", "degraded", loss=0.1),
        found("half", "broken", "stopped", 0.4),
        found("far", "works", value=0.1),
        found("large", "degraded", loss=0.3),
        found("never", "broken", "empty", 0.9),
        Verdict("odd", "untestable", ""),
        Verdict("bare", "unclear", ""),
    ]
    names = [one.format for one in worst_first(given)]
    assert names == ["never", "half", "large", "small", "bare", "odd", "native", "far"]


def test_words_that_changed_come_with_the_largest_loss_first():
    pairs = [("a", ("broken", "works")), ("b", ("works", "works")), ("c", ("works", "degraded"))]
    found = changed_words([*pairs, ("d", ("works", "broken"))])
    assert [name for name, _, _ in found] == ["d", "c", "a"]
    assert found[0] == ("d", "works", "broken")


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ((), ""),
        (("data/rows.jsonl",), "trained on rows.jsonl in 2 formats"),
        (("a/1", "2", "3", "4"), "trained on 1, 2, 3 and 1 more file in 2 formats"),
    ],
)
def test_the_data_of_an_adapter_in_words(files, text):
    assert trained_text(files, ("chatml", "zephyr")) == text
