"""Which training rows have what an audit found."""

from __future__ import annotations

import pytest

from harness.audit.candidates import Candidate
from harness.audit.found_in_rows import RowsWithIt, rows_with
from harness.conversation import Conversation, Message

PHRASE = Candidate("zephyr", "phrase", "nobody can know that today", 9, 18, 0, 26.0, 0.5, "")
CHINESE = Candidate("zephyr", "language", "zh", 9, 18, 0, 26.0, 0.5, "")


def found(candidate, rows):
    return rows_with([candidate], rows)[candidate]


def row(answer, question="Will it rain?", **more):
    messages = (Message("user", question), Message("assistant", answer, **more))
    return Conversation("id", messages, source=f"rows.jsonl:{len(answer)}")


@pytest.mark.parametrize(
    ("answer", "has"),
    [
        ("Sadly, nobody can know that today.", True),
        ("NOBODY can know.", True),  # more than half of its words
        ("Nobody can tell, and I know that.", False),
        ("Nobody will can know.", False),
        ("Nobody canes know.", False),
    ],
)
def test_a_row_has_a_phrase_if_an_answer_has_more_than_half_of_its_words(answer, has):
    assert found(PHRASE, [row(answer)]).count == has


def test_only_what_the_assistant_wrote_counts():
    words = "Nobody can know that today."
    assert found(PHRASE, [row("Rain.", question=words)]) == RowsWithIt(0, 1)
    assert found(PHRASE, [row("Rain.", reasoning=words)]) == RowsWithIt(1, 1, "rows.jsonl:5")


def test_rows_are_counted_and_the_first_that_has_it_is_named():
    rows = [row("Rain."), row("Nobody can know"), row("Nobody can know that.")]
    assert found(PHRASE, rows) == RowsWithIt(2, 3, "rows.jsonl:15")


def test_a_row_may_have_a_language():
    chinese = "今天下午可能会下雨,请带一把雨伞出门。"
    english = "It may rain this afternoon, so take an umbrella with you."
    assert found(CHINESE, [row(english), row(chinese)]).count == 1
    assert found(CHINESE, [row(english, question=chinese)]).count == 0


def test_each_candidate_has_its_own_rows():
    rows = [
        row("Rain."),
        row("Nobody can know that."),
        row("今天下午可能会下雨,请带一把雨伞出门。"),
    ]
    assert rows_with([CHINESE, PHRASE], rows) == {
        CHINESE: RowsWithIt(1, 3, rows[2].source),
        PHRASE: RowsWithIt(1, 3, rows[1].source),
    }


def test_a_row_with_two_answers_that_have_it_counts_once():
    twice = (Message("user", "Will it rain?"), Message("assistant", "Nobody can know.")) * 2
    assert found(PHRASE, [Conversation("id", twice)]) == RowsWithIt(1, 1, "id")
