"""Answers that speak for the user, under another name or out of character, and innocent ones beside
each.
"""

from __future__ import annotations

import pytest

from harness.metrics.roles import in_role, role_faults
from tests.metrics.cost import computes_within

SCENE = {"name": "Mira", "users": ["Dov"], "others": ["The Miller"]}


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("It is late.\nDov: Then let us go.", ["speaks-for-user"]),
        ("It is late.\n**User:** Then let us go.", ["speaks-for-user"]),
        ("Yes.\nHuman: And now?\nMira: Now we wait.", ["speaks-for-user"]),
        ("The Miller: Who is there?", ["wrong-speaker"]),
        ("Assistant: It is late.", ["wrong-speaker"]),
        ("> [The Miller]: Go away.\nDov: No.", ["wrong-speaker", "speaks-for-user"]),
        ("As an AI language model, I cannot row a boat.", ["out-of-character"]),
        ("I’m just an AI, but let us row.", ["out-of-character"]),
        ("I'd rather stay in character here.", ["out-of-character"]),
        ("I was created by OpenAI to help.", ["out-of-character"]),
    ],
)
def test_faults(text: str, kinds: list[str]) -> None:
    assert [fault.kind for fault in role_faults(text, **SCENE)] == kinds


@pytest.mark.parametrize(
    "text",
    [
        "Mira: It is late.\nMira: Very late.",
        "I told Dov: do not go there.",
        "Dov, you said: the boat leaves at six.",
        "You know how it is. You: a man of the sea.",
        "The user interface: three buttons.",
        "Her character was said to be mild, and she liked an assistant's work.",
        "",
    ],
)
def test_innocent_answers(text: str) -> None:
    assert role_faults(text, **SCENE) == ()


def test_a_fault_is_where_it_says() -> None:
    text = "Good.\n  **Dov**: What now?"
    (fault,) = role_faults(text, **SCENE)
    assert text[fault.start : fault.end] == "**Dov**:"


def test_without_a_name_only_speaking_for_others_counts() -> None:
    assert role_faults("As an AI, I cannot. Assistant: yes") == ()
    assert [fault.kind for fault in role_faults("Yes.\nUser: more?")] == ["speaks-for-user"]


def test_hostile_texts(hostile: str) -> None:
    with computes_within(5):
        faults = role_faults(hostile, **SCENE)
    assert all(0 <= fault.start < fault.end <= len(hostile) for fault in faults)


@pytest.mark.parametrize(
    "answer",
    [
        "I am a blacksmith.",
        "I'm a blacksmith.",
        "The Heron.",
        "In the lighthouse on the island, where else?",
        "For you, I make clocks.",
        "A blacksmith, friend, and the last one who will mend our old ploughs.",
        "Bread, cakes and pies, made at three at night by me.",
    ],
)
def test_an_answer_in_role_speaks_as_itself_or_is_a_fragment(answer):
    assert in_role(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "You are Quill, an old librarian who loves maps.",
        '"You are Quill." I love maps.',
        "Your country is made of ice.",
        "In the lighthouse, on the island, which you know.",
        "Quill is an old librarian who loves maps very much.",
        "I am an AI that plays a blacksmith.",
        "As a language model, I have no trade.",
        "I’m just a language model.",
    ],
)
def test_an_answer_that_describes_the_character_or_leaves_it_is_not_in_role(answer):
    assert not in_role(answer)


def test_a_fragment_has_at_most_eight_words():
    assert in_role("one two three four five six seven eight")
    assert not in_role("one two three four five six seven eight nine")
