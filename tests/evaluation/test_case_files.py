"""Cases: every mistake with its place; the shipped ones are many enough and right."""

import json
from collections import Counter

import pytest

from harness.errors import HarnessError
from harness.evaluation.cases.case_files import kind_of, limit_cases, load_cases

GOOD = {"id": "x", "messages": [{"role": "user", "content": "q"}]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**GOOD}, "exactly one of"),
        ({**GOOD, "choices": ["a", "b"], "answer": 2}, "not the index"),
        ({**GOOD, "choices": ["a", "b"], "answer": "c"}, "neither an index nor one of the choices"),
        (
            {**GOOD, "choices": ["a", "a"], "answer": "a"},
            "choices: 'a' and 'a' are the same option",
        ),
        ({**GOOD, "choices": ["a", "b", " A"], "answer": 0}, "'a' and ' A' are the same option"),
        ({**GOOD, "choices": ["a b", "a  b"], "answer": 0}, "'a b' and 'a  b' are the same option"),
        (
            {**GOOD, "choices": ["a", "b"], "answer": True},
            "neither an index nor one of the choices",
        ),
        ({**GOOD, "choices": ["a", " "], "answer": 0}, "choices: an empty text"),
        ({**GOOD, "choices": "ab", "answer": 0}, "choices: expected a valid list, not 'ab'"),
        ({**GOOD, "reference": 7}, "reference: expected a valid string, not 7"),
        ({**GOOD, "reference": "a", "tags": "ab"}, "tags: expected a valid list, not 'ab'"),
        ({**GOOD, "reference": "a", "expect_language": []}, "no expected language"),
        ({**GOOD, "reference": "a", "id": ""}, "id: String should have at least 1 character"),
        ({"messages": GOOD["messages"], "reference": "a"}, "id: missing"),
        ({**GOOD, "checks": [{"contain": "a"}]}, "contain"),
        ({**GOOD, "checks": [{"regex": "("}]}, "regex"),
        (
            {**GOOD, "reference": "a", "refrence": "b"},
            "refrence: unknown key — did you mean reference",
        ),
        ({**GOOD, "messages": [], "reference": "a"}, "non-empty list"),
        (
            {**GOOD, "messages": [{"role": "assistant", "content": "q"}], "reference": "a"},
            "end with the user",
        ),
        (
            {**GOOD, "messages": [{"role": "boss", "content": "q"}], "reference": "a"},
            r"messages\[0\]: unknown role 'boss'",
        ),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path, row, message):
    file = tmp_path / "cases.jsonl"
    file.write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(HarnessError, match=message) as caught:
        load_cases([str(file)])
    assert "cases.jsonl:2" in str(caught.value)


@pytest.mark.parametrize("expect", ["en, ru", ["en", "ru"], ["en,ru"]])
def test_an_answer_may_be_in_several_languages(tmp_path, expect):
    file = tmp_path / "cases.jsonl"
    file.write_text(json.dumps({**GOOD, "reference": "a", "expect_language": expect}))
    assert load_cases([str(file)])[0].expect_language == "en,ru"


def test_broken_json_and_repeated_ids_are_named_by_their_line(tmp_path):
    file = tmp_path / "cases.jsonl"
    row = json.dumps({**GOOD, "reference": "a"})
    file.write_text(row + "\n{\n")
    with pytest.raises(HarnessError, match=r"cases\.jsonl:2: not JSON"):
        load_cases([str(file)])
    file.write_text(row + "\n" + row + "\n")
    with pytest.raises(
        HarnessError, match=r"cases\.jsonl:2: the id 'x' is already used at .*cases\.jsonl:1"
    ):
        load_cases([str(file)])


def test_the_shipped_cases_are_enough_of_each_kind():
    cases = load_cases()
    kinds = Counter(kind_of(case) for case in cases)
    assert kinds["choice"] >= 300 and kinds["answer"] >= 80 and kinds["reference"] >= 80
    tags = Counter(tag for case in cases for tag in case.tags)
    assert tags["multiturn"] >= 20 and tags["character"] >= 20 and tags["premise"] >= 10
    assert sum(1 for case in cases if case.name) >= 20


def test_a_limit_is_a_fixed_even_subset():
    cases = load_cases()
    some = limit_cases(cases, 12)
    assert some == limit_cases(cases, 12)
    assert Counter(map(kind_of, some)) == {"choice": 12, "answer": 12, "reference": 12}
    assert len({tag for case in some for tag in case.tags}) > 8
    assert limit_cases(cases, None) == cases


def test_a_folder_of_cases_may_hold_other_files(tmp_path):
    (tmp_path / "README.md").write_text("My cases")
    (tmp_path / "a.jsonl").write_text(json.dumps({**GOOD, "reference": "a"}))
    assert [case.id for case in load_cases([str(tmp_path)])] == ["x"]
