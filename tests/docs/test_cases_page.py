"""docs/cases.md against the reader of cases and the checks."""

import json
import re
from pathlib import Path

import pytest

from harness.evaluation.cases.case_files import _CaseRow, load_cases
from harness.metrics.checks import CONTENT_KINDS, FORM_KINDS, parse_check, passes

PAGE = (Path(__file__).parents[2] / "docs" / "cases.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\{.*?\})` \| .*? \| `([^`]*)` \| `([^`]*)` \|$", PAGE, re.M)


def test_the_cases_shown_are_read(tmp_path):
    (tmp_path / "my-cases.jsonl").write_text(
        re.search(r"^```json\n(.*?)^```", PAGE, re.M | re.S)[1]
    )
    found = load_cases([str(tmp_path / "my-cases.jsonl")])
    assert [case.expect_language for case in found] == ["en"] * 4 + ["de"]
    assert found[3].name == "Brannoch" and found[3].messages[1].name == "Ivo"


def test_the_cases_with_tools_and_thoughts_are_read(tmp_path):
    for at, block in enumerate(re.findall(r"^```json\n(.*?)^```", PAGE, re.M | re.S)[1:]):
        (tmp_path / f"{at}.jsonl").write_text(block)
    found = {case.id: case for case in load_cases([str(tmp_path)])}
    assert [len(case.tools) for case in found.values()] == [1, 1, 1, 0, 0]
    assert found["weather-3"].messages[-1].role == "tool"
    assert [found[f"apples-{at}"].thinking for at in (1, 2)] == [True, False]


def test_the_page_counts_the_shipped_cases():
    assert f"the {len(load_cases(['tools']))} shipped cases" in PAGE
    assert f"{len(load_cases(['thoughts'])) // 2} shipped questions" in PAGE


def test_every_field_is_on_the_page():
    fields = re.findall(r"^\| `(\w+)` \|", PAGE, re.M)
    assert fields == list(_CaseRow.__dataclass_fields__)


def test_every_kind_is_on_the_page():
    kinds = [kind for check, _, _ in ROWS for kind in json.loads(check)]
    assert sorted(kinds) == sorted((*CONTENT_KINDS, *FORM_KINDS))


@pytest.mark.parametrize(("check", "right", "wrong"), ROWS)
def test_each_example_passes_and_fails_as_shown(check, right, wrong):
    parsed = parse_check(json.loads(check))
    assert passes(parsed, right.replace("\\n", "\n"))
    assert not passes(parsed, wrong.replace("\\n", "\n"))
