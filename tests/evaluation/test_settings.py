"""The longest answer follows the references."""

import pytest

from harness.conversation import Message
from harness.evaluation.cases.case_files import load_cases
from harness.evaluation.settings import EvalSettings
from harness.records import Case


def reference(text):
    return Case("r", (Message("user", "?"),), reference=text)


@pytest.mark.parametrize(
    ("characters", "tokens"), [(0, 256), (256, 256), (257, 288), (1000, 1024), (4096, 4096)]
)
def test_four_times_the_longest_reference_and_at_least_256(characters, tokens):
    cases = [reference("a" * characters), reference("short")]
    assert EvalSettings().with_length_budget(cases).max_new_tokens == tokens


def test_a_number_that_is_given_stays():
    cases = [reference("a" * 5000)]
    assert EvalSettings(max_new_tokens=40).with_length_budget(cases).max_new_tokens == 40


def test_the_shipped_cases_are_answered_in_256_tokens():
    cases = load_cases()
    assert EvalSettings().with_length_budget(cases).max_new_tokens == 256
    assert max(len(case.reference or "") for case in cases) > 150
