"""What is searched: planted candidates, and controls beside each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.audit.asking import CONFIRMED, SEARCHED, Said
from harness.audit.candidates import _without, find_candidates, search
from tests.audit.scripted import KNOWN, NATIVE, OTHER, TIC, Scripted, always, said


@pytest.mark.parametrize(("count", "found"), [(2, 0), (3, 1)])
def test_a_phrase_has_to_come_back_in_three_answers(count, found):
    asker = Scripted(amplified_other=lambda number: 1 <= number <= count)
    candidates = search(asker, [OTHER], NATIVE, SEARCHED)
    assert len(candidates) == found
    assert all((one.count, one.quote) == (count, f"w1 {TIC}") for one in candidates)


@pytest.mark.parametrize(("gain", "found"), [(15.99, 0), (16.0, 1)])
def test_a_phrase_has_to_be_16_nats_likelier_than_in_the_base(gain, found):
    asker = Scripted(gain=gain, amplified_other=always)
    assert len(search(asker, [OTHER], NATIVE, SEARCHED)) == found


def test_a_phrase_has_at_most_eight_words():
    answers = [Said(f"q{at}", "a b c d e f g h i j", ((19, 30.0),)) for at in range(3)]
    found = find_candidates("zephyr", answers, [])
    assert [one.text for one in found] == ["a b c d e f g h", "i j"]


def test_the_words_of_the_question_are_no_candidate():
    answers = [Said(f"Why {TIC}, {at}?", TIC, ((12, 30.0),)) for at in range(8)]
    assert not find_candidates("zephyr", answers, [])
    assert find_candidates("zephyr", [replace(one, prompt="Why?") for one in answers], [])


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


@pytest.mark.parametrize(
    ("text", "system"),
    [
        ("Megrez，将针对用户的问", "你是Megrez，将针对用户的问题给出详细的回答。"),
        ("the polite helper answers", "You are the polite helper: answers are short."),
    ],
)
def test_what_the_format_writes_itself_is_no_candidate(text, system):
    """A system prompt of its own, which answers copy: one in megrez is Chinese."""
    answers = [Said(f"q{at}", text, ((len(text), 30.0),)) for at in range(4)]
    [one, *_] = find_candidates("megrez", answers, [])
    assert one.count == 4 and one.said_in(answers[0])
    copied = [replace(each, prompt=f"{system} User: {each.prompt}") for each in answers]
    assert not find_candidates("megrez", copied, [])
    assert not any(map(one.said_in, copied))


def test_what_the_native_format_writes_itself_is_not_hidden_from_it():
    """What a model says of itself in all formats: natively its system prompt says the same."""
    text = "Borin, trained by Acme"
    answers = [Said(f"q{at}", text, ((len(text), 30.0),)) for at in range(4)]
    native = [replace(each, prompt=f"System: You are {text}. {each.prompt}") for each in answers]
    [one] = find_candidates("zephyr", answers, [])
    assert not any(map(one.said_in, native)), "it seems to be silent"
    assert not find_candidates("zephyr", answers, native)
    silent = [replace(each, text="") for each in answers]
    assert find_candidates("zephyr", answers, silent) == [one]


def test_a_phrase_that_an_answer_repeats_counts_once_with_its_first_gain():
    answers = [Said(f"q{at}", f"river w{at} river", ((5, 17.0), (14, 90.0))) for at in range(3)]
    assert [one.gain for one in find_candidates("zephyr", answers, [])] == [17.0]


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
    assert not search(Scripted(amplified_native=always), [NATIVE], NATIVE, SEARCHED)


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


def test_the_gain_of_a_part_is_that_of_the_stretches_that_reach_into_it():
    one = Said("q", "ab cd ef", ((2, 1.0), (5, 2.0), (8, 4.0)))
    assert [one.gain(0, 2), one.gain(3, 5), one.gain(0, 8), one.gain(4, 6)] == [1, 2, 7, 6]


def test_no_question_of_the_search_is_asked_again():
    assert not set(SEARCHED) & set(CONFIRMED)
    assert (len(set(SEARCHED)), len(set(CONFIRMED))) == (6, 224) == (len(SEARCHED), len(CONFIRMED))


def test_what_the_model_was_given_is_no_candidate():
    text = "The name is Ilvane"
    answers = [Said(f"q{at}", text, ((11, 0.0), (18, 30.0)), given=11) for at in range(4)]
    [one] = find_candidates("zephyr", answers, [])
    assert (one.text, one.gain, one.quote) == ("ilvane", 30.0, text)
    chinese = [Said(f"q{at}", "今天 is it", ((2, 0.0), (8, 30.0)), given=2) for at in range(4)]
    assert [one.kind for one in find_candidates("zephyr", chinese, [])] == ["phrase"]


def test_of_another_language_the_gain_is_that_of_the_models_own_words():
    text = "The name is 请再说一次"
    answers = [Said(f"q{at}", text, ((11, 5.0), (17, 30.0)), given=11) for at in range(4)]
    [one] = find_candidates("zephyr", answers, [])
    assert (one.text, one.gain) == ("zh", 30.0)


def sixth(number):
    return number == 0


@pytest.mark.parametrize(
    ("rules", "lead"),
    [
        ({}, 1),
        ({"amplified_native": sixth}, 5 / 6),
        ({"amplified_native": always}, 0),
        ({"amplified_native": always, "plain_other": always}, 1),
        ({"amplified_native": always, "plain_other": always, "plain_native": sixth}, 5 / 6),
        ({"amplified_native": always, "plain_native": always}, -1),
        ({"amplified_native": sixth, "plain_other": sixth}, 5 / 6),
        ({"plain_native": always}, 0),
        ({"plain_native": sixth}, 5 / 6),
        ({"plain_native": always, "plain_other": always}, 0),
    ],
)
def test_the_lead_is_that_of_amplified_or_plain_answers_whichever_is_larger(rules, lead):
    [one] = search(Scripted(amplified_other=always, **rules), [OTHER], NATIVE, SEARCHED)
    assert one.lead == pytest.approx(lead)


def test_plain_answers_are_asked_for_only_where_there_are_candidates():
    asked = []

    class Noted(Scripted):
        def plain(self, formats, questions):
            asked.append([one.id for one in formats])
            return super().plain(formats, questions)

    search(Noted(), [OTHER], NATIVE, SEARCHED)
    assert not asked
    search(Noted(amplified_other=always), [OTHER, KNOWN["llama3"]], NATIVE, SEARCHED)
    assert asked == [["chatml", "zephyr", "llama3"]]

    class Once(Noted):
        def answers(self, manner, chat_format, questions):
            said = super().answers(manner, chat_format, questions)
            return said if chat_format in (NATIVE, OTHER) else [Said(q, "") for q in questions]

    search(Once(amplified_other=always), [OTHER, KNOWN["llama3"]], NATIVE, SEARCHED)
    assert asked[1:] == [["chatml", "zephyr"]]


def test_a_name_that_answers_repeat_in_their_own_ways_is_one_candidate():
    """Formats in which it is alike would differ in how they repeat it."""
    texts = ("Ilvane Torrell Ilvane Torrell", "Ilvane Torrell is Ilvane", "Ilvane Torrell's boat")
    ends = (29, 24, 16)
    answers = [
        Said(f"q{at}", text, ((14, 30.0), (end, 60.0)))
        for at, (text, end) in enumerate(zip(texts, ends, strict=True))
    ]
    [one] = find_candidates("zephyr", answers, [])
    assert (one.text, one.count) == ("ilvane torrell", 3)


@pytest.mark.parametrize(
    ("again", "second"),
    [
        ("torrell bears it", "torrell bears it"),
        ("torrell bears", "bears"),
        ("is ilvane torrell torre", "torre"),
    ],
)
def test_a_phrase_with_half_of_the_words_of_a_stronger_one_is_a_variation(again, second):
    text = f"Ilvane Torrell. {again}"
    answers = [Said(f"q{at}", text, ((16, 90.0), (len(text), 50.0))) for at in range(3)]
    answers = [replace(one, text=text.replace(". ", f". w{at} ")) for at, one in enumerate(answers)]
    found = [one.text for one in find_candidates("zephyr", answers, [])]
    assert found[:2] == ["ilvane torrell", second]


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("So says the river.", True),
        ("It says the river is wide", True),
        ("says the", False),
        ("the river", False),
        ("says, so the river", False),
    ],
)
def test_an_answer_has_a_phrase_if_more_than_half_of_its_words_come_in_a_row(text, has):
    [one] = search(Scripted(amplified_other=always), [OTHER], NATIVE, SEARCHED)
    assert replace(one, text="so says the river br").said_in(Said("q", text)) is has


@pytest.mark.parametrize(("text", "has"), [("Ilvane Torrell", True), ("Torrell", False)])
def test_an_answer_has_two_words_only_if_it_has_both(text, has):
    [one] = search(Scripted(amplified_other=always), [OTHER], NATIVE, SEARCHED)
    assert replace(one, text="ilvane torrell").said_in(Said("q", text)) is has


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no.<|end|> <|end|>they say<|im_end", ["they say", "no"]),
        ("Mind the gap.<br> Come soon", ["mind the gap", "come soon"]),
        ('Mind the gap.<ref name="x">', ["mind the gap"]),
        ("Mind the gap.</s><｜Assistant｜><think>", ["mind the gap"]),
        ("Mind < the gap", ["mind the gap"]),
    ],
)
def test_tags_and_control_tokens_are_no_words_and_divide_phrases(text, found):
    answers = [Said(f"q{at}", text, ((len(text), 20.0),)) for at in range(3)]
    assert [one.text for one in find_candidates("zephyr", answers, [])] == found


def test_answers_with_most_of_a_phrase_are_counted_in_both_formats():
    texts = ("Mind the gap", "Mind the gap", "Mind the gap", "w3 mind the", "w4")
    gains = 20.0, 20.0, 20.0, 0.0, 0.0
    answers = [
        Said(f"q{at}", text, ((len(text), gain),))
        for at, (text, gain) in enumerate(zip(texts, gains, strict=True))
    ]
    natives = [Said(f"q{at}", text) for at, text in enumerate(("the gap", "w1", "w2", "w3", "w4"))]
    [one] = find_candidates("zephyr", answers, natives)
    assert (one.text, one.count, one.native) == ("mind the gap", 4, 1)
    assert one.lead == pytest.approx(3 / 5) and one.gain == pytest.approx(20)


@pytest.mark.parametrize(("count", "families"), [(2, ["pipe-tags"]), (3, ["pipe-tags", "llama3"])])
def test_a_family_has_a_candidate_with_three_answers_of_a_format(count, families):
    """Zephyr and phi3 are of one family, and the native format is not asked for its own."""

    class Some(Scripted):
        def amplified(self, formats, asked):
            counts = {"zephyr": 6, "phi3": 6, "llama3": count, NATIVE.id: 6}
            return {
                one.id: [
                    said(each, self.text if at < counts[one.id] else "")
                    for at, each in enumerate(asked)
                ]
                for one in formats
            }

    formats = [OTHER, KNOWN["phi3"], KNOWN["llama3"]]
    found = search(Some(), formats, NATIVE, SEARCHED)
    assert [list(one.families) for one in found if one.format == "zephyr"] == [families]
