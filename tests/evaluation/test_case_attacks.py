"""The shipped checks against hand-written answers, and against answers that know nothing."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from harness.evaluation.cases.case_files import load_cases, parse_case
from harness.metrics.answer import score_answer
from harness.metrics.words import words
from harness.records import Case
from harness.resources import data_dir

MOST_LET_THROUGH = 0.05
"""Share of the cases of one tag that an answer without knowledge may pass."""
SHORT, OPTION = 4, 2
"""Words of an answer that is negated, and of one that is listed as an option."""


@dataclass(frozen=True)
class Answers:
    """What a good model could say to a case, what a bad one, and what is right in the wrong form."""

    right: list[str]
    wrong: list[str]
    partly: list[str]


def _answers() -> dict[str, Answers]:
    found: dict[str, Answers] = {}
    for file in sorted((Path(__file__).parent / "case_answers").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            assert row["id"] not in found, row["id"]
            found[row["id"]] = Answers(row["right"], row["wrong"], row.get("partly", []))
    return found


def _checked() -> list[Case]:
    folders = [data_dir("eval") / name for name in ("cases", "languages", "thoughts")]
    cases = load_cases(str(folder) for folder in folders if folder.is_dir())
    return [case for case in cases if case.checks]


ANSWERS = _answers()


CHECKED = _checked()


def test_every_checked_case_has_right_and_wrong_answers():
    assert {case.id for case in CHECKED} == set(ANSWERS)
    assert all(len(of.right) >= 2 and len(of.wrong) >= 2 for of in ANSWERS.values())


@pytest.mark.parametrize("case", CHECKED, ids=lambda case: case.id)
def test_right_answers_pass_and_wrong_ones_fail(case):
    answers = ANSWERS[case.id]
    for text in answers.right:
        score = score_answer(case, text)
        assert score.lenient == score.on_task == 1.0, (text, score.failed)
    for text in answers.wrong:
        score = score_answer(case, text)
        assert score.strict == score.lenient == score.on_task == 0.0, (text, case.checks)
    for text in answers.partly:
        score = score_answer(case, text)
        assert (score.strict, score.lenient, score.on_task) == (0.0, 0.0, 1.0), (text, score.failed)


Attack = Callable[[Case], Iterator[str]]


def _constant(text: str) -> Attack:
    return lambda _: iter([text])


def _echo_of_the_question(case: Case) -> Iterator[str]:
    yield case.messages[-1].content


def _echo_of_all(case: Case) -> Iterator[str]:
    yield "\n".join(message.content for message in case.messages)


def _echo_with_roles(case: Case) -> Iterator[str]:
    yield "\n".join(f"{message.role}: {message.content}" for message in case.messages)


def _bag(case: Case, texts: list[str]) -> str:
    said = [word for text in texts for word in words(text)]
    return " ".join(Random(case.id).sample(said, len(said)))


def _bag_of_the_question(case: Case) -> Iterator[str]:
    yield _bag(case, [case.messages[-1].content])


def _bag_of_all(case: Case) -> Iterator[str]:
    yield _bag(case, [message.content for message in case.messages])


def _short(texts: list[str], most: int = SHORT) -> list[str]:
    """The texts of few words, of those that are no JSON."""
    return [
        text.rstrip(".!") for text in texts if len(words(text)) <= most and text[-1] not in "}]`"
    ]


def _all_options(joint: str) -> Attack:
    """The short right and wrong answers in a row, those of the file and those of ``picks``."""

    def options(case: Case) -> Iterator[str]:
        answers = ANSWERS[case.id]
        listed = [
            option if isinstance(option, str) else option[0]
            for check in case.checks
            if check.kind == "picks"
            for option in check.value
        ]
        listed += _short(answers.right, OPTION)[:1] + _short(answers.wrong, OPTION)
        different = sorted({option.casefold() for option in listed})
        if len(different) > 1:
            yield joint.join(Random(case.id).sample(different, len(different)))

    return options


def _negated(sentence: str) -> Attack:
    """A sentence against the first short right answer, unless that is JSON or a denial itself."""

    def negated(case: Case) -> Iterator[str]:
        if case.tags[0] == "premise":
            return
        for text in _short(ANSWERS[case.id].right)[:1]:
            yield sentence.format(text)

    return negated


def _all_keywords(case: Case) -> Iterator[str]:
    """The words that any case of this tag wants, in one bag; only English has ``prose``."""
    if case.expect_language != "en":
        return
    wanted = [
        text
        for other in CHECKED
        if other.tags[:2] == case.tags[:2]
        for check in other.checks
        if check.kind in ("says", "contains")
        for text in ([check.value] if isinstance(check.value, str) else check.value[:2])
    ]
    if len(wanted) > 8:
        yield _bag(case, wanted)


CONSTANTS = (
    "Yes.",
    "No.",
    "I am not sure.",
    "I don't know.",
    "Sorry, I can't help with that.",
    "1",
)
ATTACKS: dict[str, Attack] = {
    **{f"constant {text}": _constant(text) for text in CONSTANTS},
    "echo of the question": _echo_of_the_question,
    "echo of all messages": _echo_of_all,
    "echo of all messages with roles": _echo_with_roles,
    "bag of the question": _bag_of_the_question,
    "bag of all messages": _bag_of_all,
    "all options in a row": _all_options(", "),
    "all options with or": _all_options(" or "),
    "negated with is not": _negated("It is not {}."),
    "negated with never": _negated("I would never say {}."),
    "negated with isn't": _negated("The answer isn't {}."),
}
STRICT_ATTACKS: dict[str, Attack] = {"bag of all keywords of the tag": _all_keywords}
"""Such a bag knows the answers, so it may be on task, but it must be no right answer."""


def let_through(cases: list[Case], attack: Attack, on_task: bool = True) -> list[str]:
    """The cases of which a check lets an answer through that knows nothing."""
    return [
        case.id
        for case in cases
        for text in attack(case)
        if (score := score_answer(case, text)).lenient or (on_task and score.on_task)
    ]


def too_many(cases: list[Case], attack: Attack, on_task: bool = True) -> dict[str, list[str]]:
    """Tag → the cases let through, where they are more than 5 %."""
    by_tag: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_tag["/".join((case.expect_language, *case.tags[:2]))].append(case)
    return {
        tag: through
        for tag, of_tag in by_tag.items()
        if len(through := let_through(of_tag, attack, on_task)) > MOST_LET_THROUGH * len(of_tag)
    }


@pytest.mark.parametrize("name", ATTACKS)
def test_no_kind_of_case_lets_an_answer_through_that_knows_nothing(name):
    assert not too_many(CHECKED, ATTACKS[name])


@pytest.mark.parametrize("name", STRICT_ATTACKS)
def test_a_bag_of_what_is_wanted_is_no_right_answer(name):
    assert not too_many(CHECKED, STRICT_ATTACKS[name], on_task=False)


LAX = {
    "constant No.": {"regex": r"\b(no|not|never)\b"},
    "constant I am not sure.": {"regex": r"\b(no|not|never)\b"},
    "echo of the question": {"not_contains": "xyz"},
    "bag of the question": {"max_words": 40},
    "all options in a row": {"contains": "Oslo"},
    "all options with or": {"contains": "Oslo"},
    "negated with is not": {"contains": "Oslo"},
    "negated with never": {"regex": "oslo"},
}


@pytest.mark.parametrize("name", LAX)
def test_a_lax_check_is_caught(name, monkeypatch):
    """A case as they were: any of these checks lets its attack through, and ``says`` does not."""
    asked = [{"role": "user", "content": "What is the capital of Norway?"}]
    row = {"id": "lax", "messages": asked, "tags": ["answer", "lax"]}
    monkeypatch.setitem(ANSWERS, "lax", Answers(["Oslo."], ["Bergen.", "Rome."], []))
    lax = parse_case({**row, "checks": [LAX[name]]}, "here:1")
    firm = parse_case({**row, "checks": [{"picks": ["Oslo", "Bergen", "Rome"]}]}, "here:1")
    assert too_many([lax], ATTACKS[name]) == {"en/answer/lax": ["lax"]}
    assert not too_many([firm], ATTACKS[name])


def _capitals(name: str, check: dict[str, object], number: int) -> list[Case]:
    """Cases of one tag that hold the same check."""
    row = {"messages": [{"role": "user", "content": "Capital?"}], "tags": ["answer", name]}
    rows = [{**row, "id": f"{name}-{at}", "checks": [check]} for at in range(number)]
    return [parse_case(row, "here:1") for row in rows]


@pytest.mark.parametrize(("firm", "is_too_many"), [(19, False), (18, True)])
def test_one_case_in_twenty_may_let_an_attack_through(firm, is_too_many):
    lax = _capitals("a", {"not_contains": "xyz"}, 1)
    cases = lax + _capitals("a", {"says": "Oslo"}, firm)
    assert too_many(cases, _constant("No.")) == ({"en/answer/a": ["a-0"]} if is_too_many else {})


@pytest.mark.parametrize(("more", "is_caught"), [([], True), ([{"prose": True}], False)])
def test_keywords_without_prose_are_caught(more, is_caught, monkeypatch):
    words_of = "bread", "flour", "water", "salt", "yeast", "dough", "oven", "loaf", "crust"
    row = {"messages": [{"role": "user", "content": "Explain?"}], "tags": ["answer", "why"]}
    cases = [
        parse_case({**row, "id": word, "checks": [{"says": word}, *more]}, "here:1")
        for word in words_of
    ]
    monkeypatch.setitem(globals(), "CHECKED", cases)
    assert bool(too_many(cases, _all_keywords, on_task=False)) is is_caught
