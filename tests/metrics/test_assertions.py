"""What a text asserts: negation in its clause, rows of options, orders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.assertions import asserted
from harness.metrics.checks import parse_check, passes
from harness.records import Check
from tests.metrics.cost import computes_within

SAID = [
    ({"says": "Paris"}, "It is Paris.", True),
    ({"says": "Paris"}, "It is not Paris.", False),
    ({"says": "Paris"}, "No, it is Paris", True),
    ({"says": "Paris"}, "No it is Paris", True),
    ({"says": "Paris"}, "Not only Paris", True),
    ({"says": "Paris"}, "I would never say Paris.", False),
    ({"says": "Paris"}, "It isn't Paris", False),
    ({"says": "Paris"}, "Rome rather than Paris", False),
    ({"says": "Paris"}, "It is not Rome but Paris.", True),
    ({"says": "Paris"}, "Not Rome, it is Paris.", True),
    ({"says": "Paris"}, "Paris is not the capital.", False),
    ({"says": "Paris"}, "Paris is wrong.", False),
    ({"says": "Paris"}, "Paris is the capital.", True),
    ({"says": "Paris"}, "I'm not sure, but it's Paris.", True),
    ({"says": "Paris"}, "It is neither Rome nor Paris.", False),
    ({"says": "green"}, "It is not red, or green.", False),
    ({"says": "Paris"}, "There is no doubt that it's Paris", True),
    ({"says": "Paris"}, "It isn't Rome and it is Paris", True),
    ({"says": "water"}, "Don't forget to bring water", True),
    ({"says": "water"}, "You must not forget the water", True),
    ({"says": "water"}, "You did not forget the water", False),
    ({"says": "water"}, "She didn't forget the water", False),
    ({"says": "vegetable"}, "A carrot, which isn't a fruit, is a vegetable", True),
    ({"not_says": "Paris"}, "It's Rome, not Paris", True),
    ({"says": "mouse"}, "An elephant is heavier than a mouse", False),
    ({"picks": ["march", "may"]}, "March comes before May.", True),
    ({"picks": ["march", "may"]}, "May comes before March.", False),
    ({"picks": ["march", "may"]}, "March", True),
    ({"picks": ["march", "may"]}, "March or May", False),
    ({"picks": ["march", "may"]}, "march may", False),
    ({"picks": ["march", "may"]}, "March, May", False),
    ({"picks": ["march", "may"]}, "March or March or May", False),
    ({"picks": ["march", "may"]}, "March. It is March, then May.", True),
    ({"picks": ["march", "may"]}, "Not May. March.", True),
    ({"picks": ["pacific", "atlantic"]}, "Pacific Ocean, Atlantic Ocean", False),
    ({"picks": ["pacific", "atlantic"]}, "The Pacific is larger than the Atlantic.", True),
    ({"picks": ["even", "odd"]}, "It is even, because odd numbers leave one over", True),
    ({"picks": ["vegetable", "fruit"]}, "a vegetable or a fruit", False),
    ({"picks": ["vegetable", "fruit"]}, "Vegetable/fruit", False),
    ({"picks": ["vegetable", "fruit"]}, "both a vegetable and a fruit", False),
    ({"picks": ["vegetable", "fruit"]}, "It's a vegetable, not a fruit", True),
    ({"picks": ["vegetable", "fruit"]}, "A carrot is a vegetable and fruits have seeds", True),
    ({"number": 5}, "does not have 4 sides, it has 5", True),
    ({"number": 4}, "does not have 4 sides, it has 5", False),
    ({"number": 9}, "4 + 5 = 9", True),
    ({"number": 9}, "7, 8, 9, 10", False),
    ({"number": 9}, "9 or 10", False),
    ({"number": 9}, "8,9,10", False),
    ({"number": 30}, "30 minutes are in half an hour, since an hour has 60", True),
    ({"number": 0}, "zero wings", True),
    ({"number": 1200}, "1,200", True),
    ({"number": 24}, "24 hours", True),
    ({"order": ["apple", "melon", "pear"]}, "apple, melon, pear", True),
    ({"order": ["apple", "melon", "pear"]}, "pear, apple, melon \u2192 apple, melon, pear", True),
    ({"order": ["apple", "melon", "pear"]}, "pear, apple, melon", False),
    ({"order": ["2", "7", "10"]}, "2, 7, 10", True),
    ({"order": ["2", "7", "10"]}, "2, 10, 7", False),
    ({"says": "Paris"}, "It is neither Rome, nor Paris.", False),
    ({"says": "Paris"}, "It’s wrong to say Paris.", False),
    ({"says": "Paris"}, "I don't think that it is Paris.", False),
    ({"says": "Paris"}, "Never mind Rome, Paris it is.", True),
    ({"says": "Paris"}, "No. Paris.", True),
    ({"says": "Paris"}, "Rome is not the capital because Paris is.", True),
    ({"says": "Paris"}, "It is not Paris. It is Paris.", True),
    ({"says": "Paris"}, "Paris, isn't it?", True),
    ({"says": "Paris"}, "Paris isn't only big.", False),
    ({"says": ["Oslo", "Paris"]}, "Not Oslo but Paris", True),
    ({"not_says": ["Oslo", "Paris"]}, "Not Oslo but Paris", False),
    ({"picks": [["autumn", "fall"], "spring"]}, "Fall.", True),
    ({"picks": [["autumn", "fall"], "spring"]}, "Autumn, or fall as some say", True),
    ({"picks": [["autumn", "fall"], "spring"]}, "Spring.", False),
    ({"picks": ["tool", "animal"]}, "A hammer is a thing.", False),
    ({"picks": ["tool", "animal"]}, "An animal is not what a hammer is; it is a tool.", True),
    ({"picks": ["tool", "animal"]}, "**tool** or **animal**", False),
    ({"picks": ["tool", "animal"]}, "tool\nanimal", False),
    (
        {"order": ["mouse", ["dog", "hound"], "cow"]},
        "A mouse, then the hound and last a cow.",
        True,
    ),
    ({"picks": ["no", "yes"]}, "No or yes.", False),
    ({"order": ["b", "a"]}, "It is not b, a.", False),
    ({"order": ["b", "a"]}, "b, a, b", False),
    ({"order": ["b", "a"]}, "a, b or b, a", False),
    ({"number": 5}, "5 marbles are not blue.", True),
    ({"number": 5}, "5 is wrong.", False),
    ({"number": 7}, "between 6 and 8, so 7", True),
    ({"number": 12}, "1, 2 or 12", False),
]


@pytest.mark.parametrize(("check", "answer", "expected"), SAID)
def test_what_is_said(check: dict[str, object], answer: str, expected: bool) -> None:
    assert passes(parse_check(check), answer) is expected


WORD = st.sampled_from(["paris", "rome", "oslo", "bergen", "cork"])
NEGATIONS = (
    "It is not {}.",
    "It isn't {}.",
    "I would never say {}.",
    "It cannot be {}.",
    "I don't think it's {}.",
    "Anything but {}.",
    "{} is not the answer.",
    "{} is wrong.",
)


@given(WORD, st.sampled_from(NEGATIONS), WORD)
def test_a_negation_takes_back_its_own_word_alone(word: str, negation: str, other: str) -> None:
    text = negation.format(word)
    assert not passes(Check("says", word), text)
    assert passes(Check("says", other), f"{text} It is {other}.")
    assert passes(Check("not_says", word), text)


@given(st.text(max_size=60), st.integers(0, 60), st.integers(0, 60))
def test_any_place_of_any_text_can_be_asked(text: str, start: int, length: int) -> None:
    asserted(text, start, start + length)


@pytest.mark.parametrize("part", ["not paris ", "paris ", "or paris", "paris, ", "7 or ", "7,"])
def test_repeated_mentions_cost_no_more_than_their_number(part: str) -> None:
    text = part * (200_000 // len(part))
    with computes_within(20):
        for check in (
            {"says": "paris"}, {"picks": ["paris", "rome"]}, {"order": ["paris", "rome"]},
            {"number": 7}, {"objects": ["paris"]}, {"admits": True}, {"date": "05-03"},
        ):  # fmt: skip
            passes(parse_check(check), text)
