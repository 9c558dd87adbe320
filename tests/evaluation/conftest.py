"""A few cases of each kind, and formats."""

import pytest

from harness.evaluation.cases.case_files import parse_case
from harness.formats import load_formats


def ask(case_id, text, **rest):
    return parse_case(
        {"id": case_id, "messages": [{"role": "user", "content": text}], **rest}, f"cases:{case_id}"
    )


@pytest.fixture
def cases():
    return [
        ask("c1", "Capital of Norway?", choices=["Oslo", "Rome", "Lima"], answer=0),
        ask("c2", "Capital of Italy?", choices=["Oslo", "Rome", "Lima"], answer="Rome"),
        ask("a1", "Say hello in one word.", checks=[{"contains": "hello"}, {"max_words": 3}]),
        ask("a2", "Name a pet.", checks=[{"contains": ["cat", "dog"]}]),
        ask("r1", "Why?", reference="Because it is so."),
    ]


@pytest.fixture
def formats():
    return load_formats().select(["chatml", "alpaca-newline", "llama3"])
