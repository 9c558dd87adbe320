"""The shipped rows and controls: one pool, split at random, free of repetitions and of the cases.

``python -m experiments.split_pool`` splits it again after a row was changed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from statistics import fmean

import pytest

from experiments.split_pool import CONTROLS, pool, split
from harness.data.check import check_conversations
from harness.data.controls import CONTROLS_FILE, kind_of
from harness.data.conversations import load_conversations
from harness.evaluation.cases.case_files import load_cases
from harness.resources import data_dir

POOL = pool()
ROWS = load_conversations([str(data_dir("trainset"))])
HELD = load_conversations([str(data_dir("eval") / CONTROLS_FILE)])


def answers(row):
    return [message.content for message in row.messages if message.role == "assistant"]


def shares(rows):
    """Each kind's share of the words of all answers."""
    words = Counter()
    for row in rows:
        words[kind_of(row)] += sum(len(text.split()) for text in answers(row))
    return {kind: count / words.total() for kind, count in words.items()}


def test_the_files_are_what_the_program_makes():
    for file, text in split(POOL).items():
        assert file.read_text(encoding="utf-8") == text, f"{file}: split the pool again"
    assert len(HELD) == CONTROLS >= 200 and len(ROWS) + len(HELD) == len(POOL)


def test_each_kind_and_length_is_in_both_halves_alike():
    kinds = Counter(map(kind_of, POOL))
    held = Counter(map(kind_of, HELD))
    for kind, count in kinds.items():
        assert abs(held[kind] - count * CONTROLS / len(POOL)) <= 1.5, kind
        lengths = [
            fmean(len(row.messages[-1].content) for row in half if kind_of(row) == kind)
            for half in (ROWS, HELD)
        ]
        assert 0.8 < lengths[0] / lengths[1] < 1.25, kind


def test_no_kind_has_more_than_its_share_of_the_words():
    assert max(shares(POOL).values()) <= 0.15
    for half in (ROWS, HELD):
        assert max(shares(half).values()) <= 0.17
        assert all(abs(share - shares(half)[kind]) <= 0.03 for kind, share in shares(POOL).items())


def test_no_phrase_of_four_words_is_in_more_than_three_rows():
    places = defaultdict(set)
    for row in POOL:
        for text in answers(row):
            words = re.findall(r"[\w'’]+", text.casefold())
            for at in range(len(words) - 3):
                places[tuple(words[at : at + 4])].add(row.id)
    assert {gram: rows for gram, rows in places.items() if len(rows) > 3} == {}


def test_nothing_is_said_twice_nor_asked_by_the_evaluation():
    """No near-duplicate between rows, controls, references to choose by, and cases."""
    languages = sorted(map(str, (data_dir("eval") / "languages").glob("*.jsonl")))
    cases = [*load_cases(), *load_cases([str(data_dir("eval") / "dev.jsonl")])]
    cases += load_cases(languages)
    assert [
        (finding.kind, finding.place, finding.message)
        for finding in check_conversations(POOL, cases)
        if finding.kind != "over-long"
    ] == []


@pytest.mark.parametrize("kind", sorted({kind_of(row) for row in POOL}))
def test_a_row_says_what_kind_it_is(kind):
    rows = [row for row in POOL if kind_of(row) == kind]
    assert all(row.id.startswith(f"{kind}-") and len(row.tags) >= 2 for row in rows)
    assert len(rows) >= 20
