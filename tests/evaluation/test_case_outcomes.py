"""Which cases a report shows, what it expects of them, and how each came out in each format."""

from __future__ import annotations

import pytest

from harness.evaluation.analysis import case_outcomes
from harness.evaluation.analysis.case_outcomes import case_rows, is_right, outcome, shown_cases
from harness.evaluation.analysis.sample_answers import samples
from harness.evaluation.cases.expected_answer import check_text, expected_answer
from harness.evaluation.run import evaluate
from harness.evaluation.settings import EvalSettings
from harness.evaluation.store.results_file import Store
from harness.metrics.checks import KINDS, parse_check
from harness.records import Case, Evidence, Message, Verdict
from tests.scripted_backend import ScriptedBackend


@pytest.fixture
def measured(tmp_path, cases, formats):
    """Every answer is empty in the second format and says hello in the others."""
    bad = formats[1].id

    def reply(prompt):
        return "</s>" if prompt.format == bad else "hello</s>"

    with Store(tmp_path / "r") as store:
        groups = {one.id: "held-out" for one in formats}
        backend = ScriptedBackend(reply)
        return bad, evaluate(
            backend, cases, formats, groups, None, store, EvalSettings(), quiet=True
        )


@pytest.mark.parametrize(
    ("scores", "letter"),
    [
        ({"choice": 1.0}, "r"),
        ({"choice": 0.0}, "w"),
        ({"on_task": 1.0, "stopped": 1.0, "empty": 0.0, "leak": 0.0}, "r"),
        ({"on_task": 1.0, "stopped": 0.0, "leak": 0.0}, "n"),
        ({"on_task": 0.0, "stopped": 0.0, "leak": 1.0}, "l"),
        ({"on_task": 0.0, "empty": 1.0}, "e"),
        ({"on_task": None}, "-"),
        ({}, "-"),
        ({"call_when_none": 1.0}, "w"),
        ({"call_exact": 1.0}, "r"),
    ],
)
def test_a_case_has_one_letter(scores, letter):
    assert outcome(scores) == letter


def test_right_is_said_only_where_something_says_it():
    assert is_right({"nll": 1.0}) is None and is_right({"on_task": None}) is None


def test_the_grid_has_a_letter_for_each_format(measured):
    bad, found = measured
    names = [one.id for one in found.formats]
    rows = case_rows([found, found])
    answers = [row for row in rows if row.kind == "answer"]
    assert answers and all(len(text) == len(names) for row in rows for text in row.outcomes)
    assert {row.outcomes[1][names.index(bad)] for row in answers} == {"e"}
    assert "e" not in {row.outcomes[1][0] for row in answers}
    assert not [row for row in rows if row.kind == "reference"]


def test_every_kind_is_shown_with_what_was_expected(measured):
    bad, found = measured
    shown = samples(found)
    assert {"choice", "answer", "reference"} <= {sample.kind for sample in shown}
    for sample in shown:
        assert sample.expected
        assert (sample.right is None) == (sample.kind == "reference")
    [choice, *_] = [sample for sample in shown if sample.kind == "choice"]
    best = max(choice.options, key=lambda option: option.logprob)
    assert choice.answer == best.text and choice.right == (best.text == choice.expected)
    assert not any(sample.right for sample in shown if sample.format == bad and not sample.options)


def test_the_worst_case_of_a_verdict_is_among_the_samples(measured, formats, monkeypatch):
    monkeypatch.setattr(case_outcomes, "SHOWN", dict.fromkeys(case_outcomes.SHOWN, 0))
    _, found = measured
    shared = shown_cases([found])
    names = [formats[at].id for at in (0, 2)]
    missing = next(case.id for case in found.cases if not any(case.id in shared[n] for n in names))
    evidence = Evidence("on_task", 0.0, 3, worst_case=missing)
    chosen = shown_cases([found], [Verdict(names[0], "broken", "", evidence=evidence)])
    assert missing in chosen[names[0]] and missing not in chosen[names[1]]


@pytest.mark.parametrize(
    ("check", "text"),
    [
        ({"says": ["Oslo", "Kristiania"]}, "says “Oslo” or “Kristiania”"),
        (
            {"picks": [["autumn", "fall"], "spring"]},
            "picks “autumn” or “fall”, not “spring”",
        ),
        ({"number": 9}, "the number 9"),
        ({"json": {"age": 7}}, 'has JSON with {"age": 7}'),
        ({"json": True}, "has JSON"),
        ({"order": ["2", "7"]}, "in this order: “2”, “7”"),
        ({"any": [{"says": "a"}, {"number": 2}]}, "says “a” or the number 2"),
        ({"max_words": 3}, "at most 3 words"),
        ({"admits": True}, "admits that nobody can know"),
        ({"no_call": True}, "calls no tool"),
        (
            {"calls": [{"name": "get", "arguments": {"city": "Oslo"}}]},
            'calls get({"city": "Oslo"})',
        ),
    ],
)
def test_checks_in_words(check, text):
    assert check_text(parse_check(check)) == text


def test_every_kind_of_check_has_words():
    from harness.evaluation.cases import expected_answer as words

    assert set(KINDS) == set(words._WORDS) | {"picks", "json", "any", "calls"}


def test_an_option_and_a_reference_are_expected_as_they_are():
    ask = (Message("user", "Which?"),)
    assert expected_answer(Case("a", ask, choices=("x", "y"), answer=1)) == "y"
    assert expected_answer(Case("a", ask, reference="Because.")) == "Because."
