"""Exchanges that say the same in nearly the same words are found, and related ones are not."""

from __future__ import annotations

import json
import random

import pytest

from harness.conversation import Message
from harness.data.check import check_files
from harness.data.near_duplicates import Exchange, exchange_of, likenesses
from harness.records import Case, Check
from tests.metrics.sentences import ENGLISH

CASES = [
    Case(
        "opposite",
        (Message("user", 'What is the opposite of "generous"?'),),
        choices=("Kind", "Stingy", "Rich"),
        answer=1,
    ),
    Case(
        "bees",
        (Message("user", "What do bees make?"),),
        checks=(Check("contains", ("honey", "wax")),),
    ),
    Case(
        "offside",
        (Message("user", "Explain offside in football simply."),),
        reference="An attacker may not wait nearer to the goal than the last defender.",
    ),
]
PLANTED = [
    ("Give me the opposite of generous.", "Stingy.", "opposite"),
    ("Is there an opposite of generous?", "Yes: stingy.", "opposite"),
    ("Bees! What do they make?", "Honey and wax.", "bees"),
    (
        "Please explain the offside in football.",
        "No attacker may be waiting nearer the goal than the last of the defenders.",
        "offside",
    ),
    ("Explain offside in football, simply", "Ask my brother.", "offside"),
]
RELATED = [
    ("Give me the opposite of early.", "Late."),
    ("What do bakers make?", "Bread."),
    ("Where do bees live?", "In a hive, where they keep their honey."),
    ("Explain a corner kick in football simply.", "A kick from the corner of the field."),
    ("What is the opposite of a corner?", "That depends on the room."),
]


def row(question: str, answer: str) -> dict:
    roles = ("user", question), ("assistant", answer)
    return {"messages": [{"role": role, "content": text} for role, text in roles]}


def findings(tmp_path, rows, cases=()):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row(*each)) + "\n" for each in rows))
    kinds = ("overlap", "duplicate", "near-duplicate")
    return [each for each in check_files([str(file)], cases)[1] if each.kind in kinds]


@pytest.mark.parametrize(("question", "answer", "case"), PLANTED)
def test_a_row_that_is_a_case_in_nearly_the_same_words_is_found(tmp_path, question, answer, case):
    found = findings(tmp_path, [(question, answer)], CASES)
    assert [(each.kind, each.other) for each in found] == [("overlap", case)]


@pytest.mark.parametrize(("question", "answer"), RELATED)
def test_a_related_row_is_not(tmp_path, question, answer):
    assert findings(tmp_path, [(question, answer)], CASES) == []


def test_rows_are_compared_with_each_other_once(tmp_path):
    rows = [("What is the opposite of generous?", "Stingy."), *(each[:2] for each in PLANTED[:2])]
    places = [(each.kind, each.place[-1], each.other[-1]) for each in findings(tmp_path, rows)]
    assert sorted({place[1:] for place in places}) == [("2", "1"), ("3", "1"), ("3", "2")]
    assert len(places) == 3


def test_a_question_in_the_middle_of_a_conversation_counts(tmp_path):
    talk = row("Good morning.", "And to you.")
    talk["messages"] += row(*PLANTED[0][:2])["messages"]
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(talk) + "\n")
    assert [each.other for each in check_files([str(file)], CASES)[1]] == ["opposite"]


def test_conversations_that_share_a_topic_are_told_apart_from_edited_ones():
    """Sentences of one text in random order: from a third of other words on it is another text."""
    rng = random.Random(0)
    for text in ENGLISH:
        words = text.split()
        whole = Exchange("a", "Tell me.", text)
        for share, found in ((0.1, True), (0.9, False)):
            edited = [f"x{n}" if rng.random() < share else w for n, w in enumerate(words)]
            rng.shuffle(edited)
            other = Exchange("b", "Go on.", " ".join(edited))
            assert bool(list(likenesses([whole], [other]))) == found


def test_other_scripts_are_compared_by_pairs_of_characters():
    first = Exchange("a", "挪威的首都是哪里?", "奥斯陆是挪威的首都。")
    same = Exchange("b", "请问挪威的首都是哪里?", "挪威的首都是奥斯陆。")
    other = Exchange("c", "面包怎么做?", "先把面粉和水混合在一起。")
    assert [like.second for like in likenesses([first], [same, other])] == [0]


def test_the_answer_of_a_case_is_its_right_option_its_reference_or_its_checks():
    assert [exchange_of(case).answer for case in CASES] == [
        "Stingy",
        "honey wax",
        "An attacker may not wait nearer to the goal than the last defender.",
    ]
