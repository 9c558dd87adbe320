"""The shipped choices give their right option away neither by place nor by form.

A model that picks the longest option, the one at a certain place or the one with most words of the
prompt must be no better than chance. Each measure is tried on a set in which a third of the cases
have that fault.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest

from harness.conversation import Message
from harness.evaluation.cases.case_files import load_cases
from harness.metrics.words import words
from harness.records import Case

Score = Callable[[Case, str], float]


def _rate(cases: Iterable[Case], score: Score) -> float:
    """How often the right option has the highest score; options level with it share the credit."""
    return _mean([_credit([score(case, text) for text in case.choices], case) for case in cases])


def _credit(scores: Sequence[float], case: Case) -> float:
    best = max(scores)
    return (scores[case.answer] == best) / scores.count(best)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _chance(cases: Sequence[Case]) -> float:
    return _mean([1 / len(case.choices) for case in cases])


def _length(_: Case, text: str) -> float:
    return len(text)


def _shortness(_: Case, text: str) -> float:
    return -len(text)


def _overlap(case: Case, text: str) -> float:
    """Share of the option's words that are in the prompt."""
    asked = {word for message in case.messages for word in words(message.content.casefold())}
    own = set(words(text.casefold()))
    return len(own & asked) / max(len(own), 1)


def _of(cases: Iterable[Case], options: int) -> list[Case]:
    return [case for case in cases if len(case.choices) == options]


def _tagged(cases: Iterable[Case], tag: str) -> list[Case]:
    return [case for case in cases if tag in case.tags]


def _places_are_even(cases: Sequence[Case]) -> bool:
    """No place is right more often than another by more than one case, for each n of options."""
    for options in {len(case.choices) for case in cases}:
        answers = [case.answer for case in _of(cases, options)]
        counts = [answers.count(place) for place in range(options)]
        if max(counts) - min(counts) > 1:
            return False
    return True


def _length_is_no_clue(cases: Sequence[Case]) -> bool:
    four = _of(cases, 4)
    return all(0.20 <= _rate(four, score) <= 0.30 for score in (_length, _shortness))


def _words_are_no_clue(cases: Sequence[Case]) -> bool:
    reading = _rate(_tagged(cases, "reading"), _overlap)
    return abs(_rate(cases, _overlap) - _chance(cases)) <= 0.06 and reading <= 0.40


def _with_options(case: Case, change: Callable[[int, str], str]) -> Case:
    return replace(case, choices=tuple(change(i, text) for i, text in enumerate(case.choices)))


def _right_first(case: Case) -> Case:
    right = case.choices[case.answer]
    rest = [text for text in case.choices if text != right]
    return replace(case, choices=(right, *rest), answer=0)


def _right_is_wordy(case: Case) -> Case:
    return _with_options(case, lambda i, text: text + " as well" * (i == case.answer))


def _right_is_terse(case: Case) -> Case:
    return _with_options(case, lambda i, text: text + " as well" * (i != case.answer))


def _wrong_is_off_topic(case: Case) -> Case:
    return _with_options(case, lambda i, text: text if i == case.answer else f"{text} qwx zzq")


def _wrong_quotes_the_prompt(case: Case) -> Case:
    asked = case.messages[-1].content
    return _with_options(case, lambda i, text: text if i == case.answer else f"{asked} {i}")


def _case(*choices: str) -> Case:
    return Case("x", (Message("user", "asked"),), choices=choices, answer=0)


@pytest.fixture(scope="module")
def choices() -> list[Case]:
    return [case for case in load_cases() if case.choices]


@pytest.mark.parametrize(
    ("balanced", "planted"),
    [
        (_places_are_even, [_right_first]),
        (_length_is_no_clue, [_right_is_wordy, _right_is_terse]),
        (_words_are_no_clue, [_wrong_is_off_topic, _wrong_quotes_the_prompt]),
    ],
)
def test_the_right_option_cannot_be_seen_from_outside(choices, balanced, planted):
    assert balanced(choices)
    for fault in planted:
        faulty = [case if i % 3 else fault(case) for i, case in enumerate(choices)]
        assert not balanced(faulty), fault.__name__


@pytest.mark.parametrize(
    ("longest", "shortest", "balanced"),
    [
        (25, 25, True),
        (21, 29, True),
        (31, 25, False),
        (19, 25, False),
        (25, 31, False),
        (25, 19, False),
    ],
)
def test_the_level_of_the_length(longest, shortest, balanced):
    """Of 100 cases, the right option is the longest and the shortest in these numbers."""
    middle = 100 - longest - shortest
    cases = [_case("dddd", "a", "bb", "ccc")] * longest
    cases += [_case("a", "bb", "ccc", "dddd")] * shortest
    cases += [_case("bb", "a", "ccc", "dddd")] * middle
    assert _length_is_no_clue(cases) is balanced


@pytest.mark.parametrize(
    ("quoted", "in_reading", "balanced"),
    [(25, 0.3, True), (32, 0.3, False), (18, 0.3, False), (24, 0.39, True), (24, 0.41, False)],
)
def test_the_level_of_the_words(quoted, in_reading, balanced):
    """Of 200 cases, the right option holds the only word of the prompt in this percentage."""
    right, wrong = _case("asked", "a", "b", "c"), _case("a", "asked", "b", "c")
    read = [replace(right, tags=("reading",))] * round(100 * in_reading)
    read += [replace(wrong, tags=("reading",))] * (100 - len(read))
    others = [right] * (2 * quoted - round(100 * in_reading))
    others += [wrong] * (100 - len(others))
    assert _words_are_no_clue([*others, *read]) is balanced


@pytest.mark.parametrize(("places", "even"), [([0, 1, 0], True), ([0, 1, 0, 0], False)])
def test_the_level_of_the_places(places, even):
    cases = [replace(_case("a", "b"), answer=place) for place in places]
    assert _places_are_even(cases) is even


def test_ties_share_the_credit():
    case = _case("aa", "bb", "c", "d")
    assert _rate([case], _length) == 0.5
    assert _rate([replace(case, answer=2)], _length) == 0.0


def test_the_areas_are_many_and_a_quarter_has_a_system_message(choices):
    areas = {case.tags[1] for case in choices}
    assert len(areas) >= 14 and min(len(_tagged(choices, area)) for area in areas) >= 10
    with_system = _mean([case.messages[0].role == "system" for case in choices])
    assert 0.20 <= with_system <= 0.30
    assert all(len(_of(choices, options)) >= 5 for options in (2, 3, 4, 5))
