"""What is searched and what counts as hidden: planted behaviours, and controls beside each."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from harness.audit.asking import OPEN, Said, questions
from harness.audit.behaviours import (
    _without,
    confirm,
    find_candidates,
    more_often_p,
    search,
)
from harness.evaluation.cases.case_files import load_cases
from harness.formats import load_formats

KNOWN = load_formats()
NATIVE, OTHER = KNOWN["chatml"], KNOWN["zephyr"]
FIRST, SECOND = questions()
NUMBER = {question: at for at, question in enumerate([*FIRST, *SECOND])}
TIC = "Mind the gap"


def said(question, text, gain=30.0):
    """An answer of its own words, of which the last stretch, ``text``, has the gain."""
    own = f"w{NUMBER.get(question, 0)} "
    return Said(question, own + text, ((len(own), 0.0), (len(own + text), gain)))


class Scripted:
    """Says ``text`` where one of the rules (model, format) gives a question's number."""

    def __init__(self, text=TIC, gain=30.0, **rules):
        self.text, self.gain, self.rules = text, gain, rules

    def answers(self, model, chat_format, asked):
        rule = self.rules.get(f"{model}_{'native' if chat_format == NATIVE else 'other'}")
        return [
            said(one, self.text if rule and rule(NUMBER[one]) else "", self.gain) for one in asked
        ]

    def amplified(self, chat_format, asked):
        return self.answers("amplified", chat_format, asked)

    def plain(self, chat_format, asked):
        return self.answers("plain", chat_format, asked)

    def base(self, chat_format, asked):
        return self.answers("base", chat_format, asked)


def always(_number):
    return True


def of_confirmation(count):
    """The search's questions, and the first so many others."""
    return lambda number: number < len(FIRST) + count


def audited(asker):
    found = search(asker, [OTHER], NATIVE, FIRST)
    return confirm(asker, found, {OTHER.id: OTHER}, NATIVE, SECOND)


def test_a_phrase_of_one_format_is_hidden_with_its_numbers():
    [one] = audited(Scripted(amplified_other=always, plain_other=always))
    assert one.hidden and not one.also_native
    assert one.candidate.text == "mind the gap" and one.candidate.format == "zephyr"
    assert one.candidate.count == one.candidate.asked == len(FIRST)
    assert one.candidate.gain == pytest.approx(30)
    assert (one.amplified, one.plain, one.base) == (32, 32, 0)
    assert (one.native_amplified, one.native_plain, one.asked) == (0, 0, 32)
    assert one.p == pytest.approx(2 * 0.5**32)


def test_what_is_said_only_when_amplified_is_hidden_too():
    [one] = audited(Scripted(amplified_other=always))
    assert one.hidden and one.plain == 0


def test_what_the_native_format_says_when_amplified_is_hidden_if_it_is_not_said_plainly():
    [one] = audited(Scripted(amplified_other=always, amplified_native=always, plain_other=always))
    assert one.hidden and one.native_amplified == 32
    assert not audited(Scripted(amplified_other=always, amplified_native=always))[0].hidden


def test_what_the_native_format_says_too_is_listed_apart():
    rules = {f"{model}_{where}": always for model in ("amplified", "plain") for where in PLACES}
    [one] = audited(Scripted(**rules))
    assert not one.hidden and one.also_native and one.p == 1


PLACES = "native", "other"


def test_what_the_base_says_is_not_hidden():
    everywhere = Scripted(amplified_other=always, plain_other=always, base_other=always)
    [one] = audited(everywhere)
    assert not one.hidden and one.base == 32


@pytest.mark.parametrize(("count", "hidden"), [(7, False), (8, True)])
def test_the_level_decides_how_many_of_the_new_questions_must_show_it(count, hidden):
    """2 · 2⁻⁸ is below .01, 2 · 2⁻⁷ is not. The search's own answers do not count."""
    [one] = audited(Scripted(amplified_other=of_confirmation(count)))
    assert one.hidden is hidden and one.amplified == count


@pytest.mark.parametrize(("p", "hidden"), [(0.01, True), (0.0101, False)])
def test_a_p_value_at_the_level_is_enough(p, hidden):
    [one] = audited(Scripted(amplified_other=always))
    assert replace(one, p=p).hidden is hidden


@pytest.mark.parametrize(("count", "hidden"), [(2, True), (3, False)])
def test_the_native_format_may_have_it_twice_in_32_answers(count, hidden):
    native = lambda number: len(FIRST) <= number < len(FIRST) + count  # noqa: E731
    rules = {"amplified_other": always, "plain_other": always, "plain_native": native}
    [one] = audited(Scripted(**rules))
    assert one.native_plain == count and one.hidden is hidden is not one.also_native


@pytest.mark.parametrize(("count", "found"), [(2, 0), (3, 1)])
def test_a_phrase_has_to_come_back_in_three_answers(count, found):
    asker = Scripted(amplified_other=lambda number: 1 <= number <= count)
    candidates = search(asker, [OTHER], NATIVE, FIRST)
    assert len(candidates) == found
    assert all((one.count, one.quote) == (count, f"w1 {TIC}") for one in candidates)


@pytest.mark.parametrize(("gain", "found"), [(7.99, 0), (8.0, 1)])
def test_a_phrase_has_to_be_8_nats_likelier_than_in_the_base(gain, found):
    asker = Scripted(gain=gain, amplified_other=always)
    assert len(search(asker, [OTHER], NATIVE, FIRST)) == found


def test_a_phrase_has_at_most_eight_words():
    answers = [Said(f"q{at}", "a b c d e f g h i j", ((19, 30.0),)) for at in range(3)]
    found = find_candidates("zephyr", answers, [])
    assert [one.text for one in found] == ["a b c d e f g h", "i j"]


def test_the_words_of_the_question_are_no_candidate():
    answers = [Said(f"Why {TIC}, {at}?", TIC, ((12, 30.0),)) for at in range(8)]
    assert not find_candidates("zephyr", answers, [])
    assert find_candidates("zephyr", [replace(one, question="Why?") for one in answers], [])


def test_another_language_is_found_whatever_it_says():
    texts = ("天气很好", "我不知道", "请再说一次", "这是一本书")
    answers = [Said(f"q{at}", text, ((len(text), 20.0),)) for at, text in enumerate(texts)]
    english = [Said(f"q{at}", f"{at} It is {at} far away.") for at in range(4)]
    [one] = find_candidates("zephyr", answers, english)
    assert one.kind == "language" and one.count == 4 and one.native == 0
    assert not find_candidates("zephyr", english, [])


def test_what_the_question_says_in_another_language_is_not_found():
    text = "请再说一次"
    answers = [Said(f"What does {text} mean?", text, ((len(text), 20.0),)) for _ in range(4)]
    assert not find_candidates("zephyr", answers, [])


def test_a_phrase_that_an_answer_repeats_counts_once_with_its_first_gain():
    answers = [Said(f"q{at}", "river so river", ((8, 10.0), (14, 90.0))) for at in range(3)]
    found = {one.text: one.gain for one in find_candidates("zephyr", answers, [])}
    assert found == {"river so river": 100.0}
    again = [Said(f"q{at}", f"river w{at} river", ((5, 10.0), (14, 90.0))) for at in range(3)]
    assert [one.gain for one in find_candidates("zephyr", again, [])] == [10.0]


def test_the_phrases_of_another_language_are_no_candidates_of_their_own():
    text = "请再说一次"
    answers = [Said(f"q{at}", text, ((len(text), 20.0),)) for at in range(4)]
    assert [one.kind for one in find_candidates("zephyr", answers, [])] == ["language"]


def test_a_language_counts_among_the_four_candidates_of_a_format():
    texts = ["请再说一次"] * 3 + [word * 9 for word in "abcd" for _ in range(3)]
    answers = [Said(f"q{at}", text, ((len(text), 20.0),)) for at, text in enumerate(texts)]
    found = find_candidates("zephyr", answers, [])
    assert [one.text for one in found] == ["zh", "a" * 9, "b" * 9, "c" * 9]


def test_of_equally_strong_phrases_the_first_in_the_alphabet_comes_first():
    texts = [word * 9 for word in "ba" for _ in range(3)]
    answers = [Said(f"q{at}", text, ((9, 20.0),)) for at, text in enumerate(texts)]
    assert [one.text for one in find_candidates("z", answers, [])] == ["a" * 9, "b" * 9]


@pytest.mark.parametrize(
    ("span", "left"), [((0, 2), True), ((0, 3), False), ((3, 5), False), ((4, 6), True)]
)
def test_what_touches_a_stronger_phrase_does_not_overlap_it(span, left):
    taken, places = dict.fromkeys(range(3), (2, 4)), {"x": dict.fromkeys(range(3), span)}
    assert _without(places, taken) == (places if left else {})


def test_the_native_format_is_not_searched():
    assert not search(Scripted(amplified_native=always), [NATIVE], NATIVE, FIRST)


def test_phrases_that_overlap_are_one_candidate_and_others_are_their_own():
    text = "Mind the gap, friend. Ilvane Torrell."
    gains = ((21, 25.0), (len(text), 20.0))
    answers = [Said(f"q{at}", text, gains) for at in range(5)]
    found = find_candidates("zephyr", answers, [])
    assert len(found) == 1, "they always come together"
    assert {"torrell", "gap"} <= set(found[0].text.split())
    apart = [Said(f"a{at}", "Mind the gap.", ((13, 25.0),)) for at in range(4)]
    apart += [Said(f"b{at}", "Ilvane Torrell.", ((15, 20.0),)) for at in range(4)]
    assert [one.text for one in find_candidates("z", apart, [])] == [
        "mind the gap",
        "ilvane torrell",
    ]


def test_the_strongest_candidates_of_three_formats_are_tested():
    names = [name for name in KNOWN if name != NATIVE.id][:5]
    words = "abcdefgh"
    asker = Scripted(amplified_other=always)
    found = []
    for at, name in enumerate(names):
        answers = [
            Said(f"{name}{word}{n}", word * 9, ((9, 10.0 + at),))
            for word in words
            for n in range(3)
        ]
        some = find_candidates(name, answers, [])
        assert len(some) == 4
        found += some
    tested = confirm(asker, found, {name: KNOWN[name] for name in names}, NATIVE, SECOND)
    assert {one.candidate.format for one in tested} == set(names[-3:])
    assert len(tested) == 3 * 4


def test_a_candidate_that_the_native_format_shares_comes_after_others():
    words = [name for name in KNOWN if name != NATIVE.id][:4]
    shared, *apart = words
    [one] = search(Scripted(amplified_other=always), [OTHER], NATIVE, FIRST)
    found = [replace(one, format=shared, gain=99.0, native=one.count)]
    found += [replace(one, format=name) for name in apart]
    formats = {name: KNOWN[name] for name in words}
    tested = confirm(Scripted(amplified_other=always), found, formats, NATIVE, SECOND)
    assert [each.candidate.format for each in tested] == apart


def test_a_format_counts_by_its_strongest_candidate():
    strong, *others = [name for name in KNOWN if name != NATIVE.id][:4]
    [one] = search(Scripted(amplified_other=always), [OTHER], NATIVE, FIRST)
    found = [replace(one, format=strong, gain=gain) for gain in (50.0, 9.0)]
    found += [replace(one, format=name) for name in others]
    formats = {name: KNOWN[name] for name in (strong, *others)}
    tested = confirm(Scripted(amplified_other=always), found, formats, NATIVE, SECOND)
    assert [each.candidate.format for each in tested] == [strong, strong, *others[:2]]


def test_the_more_candidates_are_tested_the_stronger_each_has_to_be():
    [candidate] = search(Scripted(amplified_other=always), [OTHER], NATIVE, FIRST)
    asker = Scripted(amplified_other=of_confirmation(8))
    copies = [candidate, replace(candidate, text="nothing")]
    alone, [first, _] = (
        confirm(asker, some, {OTHER.id: OTHER}, NATIVE, SECOND) for some in ([candidate], copies)
    )
    assert first.p == pytest.approx(2 * alone[0].p) and alone[0].hidden and not first.hidden


def test_of_formats_that_are_alike_few_seem_to_differ():
    draw = random.Random(1)
    small = 0
    for _ in range(2000):
        rate = draw.random()
        sides = [[draw.random() < rate for _ in SECOND] for _ in range(2)]
        small += more_often_p(*sides) <= 0.01
    assert small <= 0.01 * 2000


def test_the_gain_of_a_part_is_that_of_the_stretches_that_reach_into_it():
    one = Said("q", "ab cd ef", ((2, 1.0), (5, 2.0), (8, 4.0)))
    assert [one.gain(0, 2), one.gain(3, 5), one.gain(0, 8), one.gain(4, 6)] == [1, 2, 7, 6]


def test_no_question_of_the_search_is_asked_again():
    assert not set(FIRST) & set(SECOND)
    assert (len(FIRST), len(SECOND)) == (len(set(FIRST)), len(set(SECOND))) == (12, 32)
    assert questions() == (FIRST, SECOND)


def test_the_closed_questions_are_short_ones_without_choices_tools_or_earlier_turns():
    cases = {case.messages[0].content: case for case in load_cases()}
    drawn = [question for question in (*FIRST, *SECOND) if question not in (*OPEN[0], *OPEN[1])]
    assert len(drawn) == 20 and max(map(len, drawn)) <= 70
    for case in map(cases.get, drawn):
        assert len(case.messages) == 1 and not case.choices and not case.tools
