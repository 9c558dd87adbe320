import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.conversation import Message
from harness.metrics.answer import lenient_text, score_answer
from harness.metrics.checks import FORM_KINDS, KINDS, parse_check, passes
from harness.records import Case, Check
from tests.metrics.cost import computes_within


def case(*checks: dict[str, object]) -> Case:
    return Case("c", (Message("user", "?"),), checks=tuple(map(parse_check, checks)))


HOLDS = [
    ({"contains": "Oslo"}, "It is oslo.", True),
    ({"contains": "Oslo"}, "Osloer", False),
    ({"contains": ["Rome", "Roma"]}, "Roma!", True),
    ({"contains": "C++"}, "Use c++, please", True),
    ({"contains": "New York"}, "New\n york", True),
    ({"contains": "巴黎"}, "首都是巴黎。", True),
    ({"contains": "Paris"}, "是Paris。", True),
    ({"contains": "파리"}, "수도는 파리입니다", True),
    ({"contains": "café"}, "cafe\u0301", True),
    ({"contains": "don't"}, "I don’t", True),
    ({"not_contains": ["war", "arms"]}, "warm farms", True),
    ({"not_contains": "war"}, "No war", False),
    ({"ignores": {"word": "lantern", "order": "plain"}}, "It closes at six.", True),
    ({"ignores": {"word": "lantern", "order": "none"}}, "A Lantern!", False),
    ({"regex": "^b.d$"}, "a\nBAD", True),
    ({"regex": "^b.d$"}, "a bad", False),
    ({"equals": "Yes"}, " yes. ", True),
    ({"equals": "Yes"}, "yes, sir", False),
    ({"equals": ["a", "b"]}, "B", True),
    ({"starts_with": "Once"}, "once upon", True),
    ({"starts_with": "Yes"}, "Yesterday", False),
    ({"number": 1200}, "about 1,200", True),
    ({"number": 12}, "Twelve.", True),
    ({"number": 2}, "2.5", False),
    ({"json": {"a": 1}}, 'x {"a": 1, "b": 2}', True),
    ({"json": True}, "none", False),
    ({"max_words": 3}, "one two three", True),
    ({"max_words": 3}, "one two three four", False),
    ({"max_words": 3}, "一二三四", False),
    ({"min_words": 3}, "well-known men", False),
    ({"lines": 2}, "a\n\n b\n", True),
    ({"lines": 2}, "a", False),
    ({"uppercase": True}, "ÄB 1", True),
    ({"uppercase": True}, "Ab", False),
    ({"uppercase": True}, "12", False),
    ({"lowercase": True}, "ab!", True),
    ({"language": "en"}, "Je ne sais pas encore ce que je veux faire demain.", False),
    ({"language": "fr"}, "Je ne sais pas encore ce que je veux faire demain.", True),
    ({"language": "en"}, "42", True),
    ({"says": "Oslo"}, "It is not Oslo.", False),
    ({"not_says": "Oslo"}, "It is not Oslo.", True),
    ({"picks": ["even", "odd"]}, "even or odd", False),
    ({"order": ["a", "b"]}, "b, a", False),
    ({"date": "05-03"}, "3rd of May", True),
    ({"objects": "fur"}, "Fish have no fur.", True),
    ({"any": [{"objects": "fur"}, {"says": "scales"}]}, "Fish have no fur.", True),
    ({"any": [{"objects": "fur"}, {"says": "scales"}]}, "They have scales.", True),
    ({"any": [{"objects": "fur"}, {"says": "scales"}]}, "To keep warm.", False),
    ({"any": [{"number": 3}, {"any": [{"says": "b"}, {"says": "trio"}]}]}, "A trio.", True),
    ({"admits": True}, "I don't know.", False),
    ({"in_role": True}, "You are a baker.", False),
    ({"in_role": True}, "I am a baker.", True),
    ({"prose": True}, "water clouds drops sky falls rest brain energy", False),
    ({"prose": True}, "Water falls from the clouds.", True),
    ({"prose": True}, "It is rain.", False),
    ({"prose": True}, "Brushing removes bacteria that cause tooth decay.", True),
    ({"prose": True}, "water clouds drops sky falls rest brain energy teeth lava the sun", False),
]


@pytest.mark.parametrize(("check", "answer", "expected"), HOLDS)
def test_check(check: dict[str, object], answer: str, expected: bool) -> None:
    assert passes(parse_check(check), answer) is expected


def test_every_kind_is_tested() -> None:
    of_calls = {"calls", "no_call"}  # they are in no text: test_calls.py
    assert {kind for check, _, _ in HOLDS for kind in check} == set(KINDS) - of_calls


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"contain": "x"}, "did you mean contains"),
        ({"contains": 3}, "a text or a list"),
        ({"contains": []}, "a text or a list"),
        ({"contains": " "}, "a text or a list"),
        ({"regex": "("}, "does not compile"),
        ({"number": "3"}, "a number"),
        ({"number": True}, "a number"),
        ({"number": float("nan")}, "a number"),
        ({"json": False}, "true or an object"),
        ({"max_words": 0}, "from 1"),
        ({"lines": 1.5}, "from 1"),
        ({"uppercase": False}, "takes true"),
        ({"language": "english please"}, "language code"),
        ({"picks": ["a"]}, "two or more"),
        ({"picks": "a"}, "two or more"),
        ({"order": [["a"], []]}, "two or more"),
        ({"date": "3 May"}, "a date such as"),
        ({"date": "13-01"}, "a date such as"),
        ({"admits": False}, "takes true"),
        ({"any": [{"says": "a"}]}, "two or more"),
        ({"any": {"says": "a"}}, "two or more"),
        ({"any": [{"says": "a"}, {"max_words": 3}]}, "such as says"),
        ({"any": [{"says": "a"}, {"equals": "a"}]}, "such as says"),
        ({"any": [{"says": "a"}, {"sais": "a"}]}, "did you mean says"),
        ({"any": [{"says": "a"}, {"number": "3"}]}, "takes a number"),
        ({"contains": "a", "regex": "b"}, "one key"),
        ({}, "one key"),
        ("contains", "one key"),
    ],
)
def test_a_wrong_check_is_refused_in_plain_words(mapping: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_check(mapping)  # type: ignore[arg-type]


def test_an_unknown_kind_never_passes_silently() -> None:
    with pytest.raises(ValueError, match="unknown check 'lenght'"):
        passes(Check("lenght", 3), "x")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("**Paris**", "paris"),
        ("The answer is: “Paris”.", "paris."),
        ("Sure, the answer is Paris", "paris"),
        ("Answer: `Paris`", "paris"),
        ("Here is the list:\n# One", "one"),
        ("It's Paris", "paris"),
        ("don't", "don't"),
        ("Sure", "sure"),
    ],
)
def test_lenient_text(answer: str, expected: str) -> None:
    assert lenient_text(answer).strip() == expected


def test_strict_lenient_and_on_task_part() -> None:
    score = score_answer(case({"equals": "Paris"}, {"max_words": 1}), "The answer is **Paris**.")
    assert (score.strict, score.lenient, score.on_task) == (0.0, 1.0, 1.0)
    assert score.failed == ("equals='Paris'", "max_words=1")


def test_on_task_needs_a_content_check_where_the_case_has_one() -> None:
    assert score_answer(case({"contains": "Oslo"}, {"max_words": 9}), "Bergen").on_task == 0.0
    assert score_answer(case({"uppercase": True}, {"max_words": 9}), "BERGEN").on_task == 1.0
    assert score_answer(case({"uppercase": True}, {"max_words": 9}), "bergen").on_task == 0.0


def test_on_task_needs_every_check_of_content() -> None:
    both = case({"contains": "red"}, {"not_says": "blue"}, {"max_words": 2})
    assert score_answer(both, "It is certainly a red one").on_task == 1.0
    assert score_answer(both, "red, blue").on_task == 0.0


def test_alternatives_decide_on_task_and_are_named_when_they_fail() -> None:
    one_of = case({"any": [{"says": "fur"}, {"number": 3}]})
    assert score_answer(one_of, "**Three**!").on_task == 1.0
    score = score_answer(one_of, "Not fur.")
    assert score.on_task == 0.0 and score.failed == ("says='fur' or number=3",)


def test_case_and_json_are_judged_as_written() -> None:
    assert score_answer(case({"lowercase": True}), "ABC").lenient == 0.0
    assert score_answer(case({"json": {"A": "B"}}), '```json\n{"A": "b"}\n```').lenient == 1.0


@pytest.mark.parametrize("kind", FORM_KINDS)
@pytest.mark.parametrize("answer", ["", " \n\t"])
def test_an_empty_answer_is_worth_nothing(kind: str, answer: str) -> None:
    values = {"uppercase": True, "lowercase": True, "language": "en", "not_contains": "x"}
    value = {**values, "ignores": {"word": "x", "order": "none"}}.get(kind, 1)
    score = score_answer(case({kind: value}), answer)
    assert (score.strict, score.lenient, score.on_task) == (0.0, 0.0, 0.0)
    assert score.failed


def test_a_case_without_checks_is_no_zero() -> None:
    with pytest.raises(ValueError, match="no checks"):
        score_answer(Case("c", (Message("user", "?"),), reference="x"), "x")


MANY = case(
    {"contains": "a b"}, {"not_contains": "zz"}, {"regex": r"\w+x$"}, {"equals": "x"}, {"starts_with": "a"},
    {"number": 3}, {"json": {"a": 1}}, {"max_words": 3}, {"min_words": 2}, {"lines": 2}, {"uppercase": True},
    {"lowercase": True}, {"language": "en"},
)  # fmt: skip


@given(st.text() | st.sampled_from(["Sure, 3", '"a b"', "**3**", "x.", "A B", "The answer is x"]))
def test_lenient_is_never_below_strict(text: str) -> None:
    for check in MANY.checks:
        one = Case("c", MANY.messages, checks=(check,))
        score = score_answer(one, text)
        assert score.strict <= score.lenient
        assert bool(score.failed) == (score.strict == 0.0)


def test_hostile_answers(hostile: str) -> None:
    with computes_within(20):
        score = score_answer(MANY, hostile)
    assert score.strict == score.lenient == 0.0 and score.failed  # no text passes all of MANY


def test_a_regex_that_explodes_is_stopped() -> None:
    with computes_within(5):
        assert passes(Check("regex", r"(\w+\s?)+\d$"), "word " * 40 + "!") is False
