"""The shipped German, Spanish and Chinese cases: an English answer to each of them is drift, and an
answer in its own language is not.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.evaluation.cases.case_files import kind_of, load_cases
from harness.metrics.drift import drift

HERE = Path(__file__).parent
CASES = load_cases(["languages"])
LANGUAGES = ("de", "es", "zh")


def _rows(path: Path) -> dict[str, dict]:
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {row["id"]: row for row in rows}


ENGLISH = {id_: row["answer"] for id_, row in _rows(HERE / "english_answers.jsonl").items()}
RIGHT = {id_: row["right"] for id_, row in _rows(HERE / "case_answers/languages.jsonl").items()}


def _judged(case, answer):
    prompt = "\n".join(message.content for message in case.messages)
    return drift(answer, (case.expect_language,), prompt)


def _right_answers(case):
    if case.choices:
        return [case.choices[case.answer]]
    return [case.reference] if case.reference else RIGHT[case.id]


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_enough_cases_of_each_kind(language):
    kinds = Counter(kind_of(case) for case in CASES if case.expect_language == language)
    assert kinds.total() >= 20 and kinds["answer"] >= 15
    assert kinds["choice"] >= 3 and kinds["reference"] >= 3


def test_they_are_no_part_of_the_default_cases():
    assert {case.expect_language for case in load_cases()} == {"en"}
    assert {case.expect_language for case in CASES} == set(LANGUAGES)


def test_one_language_has_a_name_and_a_local_folder_comes_first(tmp_path, monkeypatch):
    assert {case.expect_language for case in load_cases(["languages/zh.jsonl"])} == {"zh"}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "languages").mkdir()
    mine = {"id": "mine", "messages": [{"role": "user", "content": "Hoi!"}], "reference": "Hoi!"}
    (tmp_path / "languages" / "nl.jsonl").write_text(json.dumps(mine))
    assert [case.id for case in load_cases(["languages"])] == ["mine"]


def test_a_name_that_is_nowhere_is_an_error_with_that_name():
    with pytest.raises(HarnessError, match="no such file or folder") as caught:
        load_cases(["languages/fr.jsonl"])
    assert str(caught.value).startswith("languages/fr.jsonl")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_english_answer_drifts(case):
    assert _judged(case, ENGLISH[case.id]).drift is True


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_right_answer_does_not_drift(case):
    for answer in _right_answers(case):
        judged = _judged(case, answer)
        assert judged.drift is False or judged.why.startswith("not scored"), (answer, judged.why)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_longest_right_answers_are_long_enough_to_be_judged(language):
    answered = [case for case in CASES if case.expect_language == language and case.checks]
    judged = [_judged(case, max(RIGHT[case.id], key=len)).drift for case in answered]
    assert judged.count(False) >= 0.75 * len(answered), judged
