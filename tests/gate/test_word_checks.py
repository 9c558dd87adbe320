from __future__ import annotations

from dataclasses import replace

import pytest

from harness.gate.baseline import FormatIdentity, to_baseline
from harness.gate.baseline_file import baseline_text, read_baseline, write_baseline
from harness.gate.messages import describe, is_drop
from harness.gate.word_checks import check_not_broken, check_words
from harness.records import Evidence, Verdict


@pytest.fixture
def run(make_evaluation):
    """A baseline of one native and one held-out format."""
    values = {(name, "stopped"): [1.0] * 4 for name in ("n", "h-one")}
    return to_baseline(make_evaluation(values, native="n"))


def verdict(word, name="h-one"):
    return Verdict(name, word, "half of the answers are empty", "train", Evidence("empty", 0.5, 40))


@pytest.mark.parametrize(
    ("was", "now", "outcome"),
    [
        ("works", "works", None),
        ("works", "degraded", "inconclusive"),
        ("works", "broken", "failed"),
        ("degraded", "broken", "inconclusive"),
        ("broken", "degraded", None),
        ("unclear", "broken", None),
        ("works", "unclear", None),
        ("works", "untestable", None),
    ],
)
def test_a_word_that_worsens_is_a_check_of_its_own(run, was, now, outcome):
    checks = check_words(replace(run, words={"h-one": was}), run, [verdict(now)])
    assert [check.outcome for check in checks] == ([outcome] if outcome else [])
    assert all(is_drop(check) == (outcome == "inconclusive") for check in checks)


def test_it_names_both_words_and_the_reason(run):
    [check] = check_words(replace(run, words={"h-one": "works"}), run, [verdict("broken")])
    assert describe(check) == "h-one · verdict: works → broken: half of the answers are empty"
    [check] = check_words(replace(run, words={"h-one": "works"}), run, [verdict("degraded")])
    assert describe(check).splitlines()[1] == (
        "inconclusive: each word is a test at 5 %, the metrics' checks decide"
    )


def test_a_changed_template_has_no_word_to_compare_with(run):
    old = replace(run, words={"h-one": "works"})
    changed = {**run.formats, "h-one": FormatIdentity("other", "held-out")}
    assert not check_words(replace(old, formats=changed), run, [verdict("broken")])


@pytest.mark.parametrize(
    ("word", "outcome"),
    [
        ("works", "passed"),
        ("degraded", "passed"),
        ("broken", "failed"),
        ("unclear", "inconclusive"),
        ("untestable", "inconclusive"),
    ],
)
def test_a_format_that_must_not_be_broken(run, word, outcome):
    both = [verdict(word), verdict(word, "n")]
    [check] = check_not_broken(run, both, ["native", "seen"])
    assert (check.format, check.outcome) == ("n", outcome)
    assert {c.format for c in check_not_broken(run, both, ["h-*", "native"])} == {"n", "h-one"}
    assert not check_not_broken(run, both, [])


def test_the_baseline_keeps_the_words(run, tmp_path):
    found = replace(run, words={"n": "works", "h-one": "unclear"})
    write_baseline(found, tmp_path / "b.json")
    assert read_baseline(tmp_path / "b.json").words == found.words
    assert '"words"' not in baseline_text(replace(run, words={}))
    assert set(run.words) == {"n", "h-one"}
