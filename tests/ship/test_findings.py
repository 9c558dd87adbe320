"""A check that was not made is never counted as equal."""

from __future__ import annotations

import json

import pytest

from harness.ship.findings import Checked, Finding

FINDING = Finding("texts", "double-bos", "row 1", "two BOS", "remove one")


def test_a_check_differs_with_findings_and_only_then():
    assert Checked.of("texts", "hf", []).state == "equal"
    assert Checked.of("texts", "hf", [FINDING]).state == "differs"
    with pytest.raises(ValueError, match="if, and only if"):
        Checked("texts", "hf", "equal", findings=(FINDING,))
    with pytest.raises(ValueError, match="if, and only if"):
        Checked("texts", "hf", "differs")
    with pytest.raises(ValueError, match="if, and only if"):
        Checked("texts", "hf", "not checked", "no server", (FINDING,))


def test_a_check_that_was_not_made_says_why():
    assert Checked.not_checked("texts", "ollama", "no Ollama runs").reason == "no Ollama runs"
    with pytest.raises(ValueError, match="needs its reason"):
        Checked.not_checked("texts", "ollama", "")
    with pytest.raises(ValueError, match="unknown state"):
        Checked("texts", "ollama", "fine")


def test_a_kind_is_a_stable_name():
    with pytest.raises(ValueError, match="invalid kind 'Double BOS'"):
        Finding("texts", "Double BOS", "", "two BOS", "remove one")
    with pytest.raises(ValueError, match="needs a check"):
        Finding("texts", "double-bos", "", "two BOS", "")
    assert str(FINDING) == "row 1: two BOS [double-bos] — remove one"


@pytest.mark.parametrize(
    "checked",
    [
        Checked.of("texts", "hf", [FINDING], "12 rows"),
        Checked.of("texts", "hf", []),
        Checked.not_checked("texts", "ollama", "no Ollama runs"),
    ],
)
def test_it_goes_through_json(checked):
    assert Checked.from_json(json.loads(json.dumps(checked.to_json()))) == checked
