"""Phrases that one side uses more are found, those of both sides are not, and chance finds next to
none.
"""

from __future__ import annotations

import random

import pytest

from harness.metrics.phrases import distinctive
from tests.metrics.cost import computes_within
from tests.metrics.sentences import ENGLISH

COMMON = [
    "the",
    "of",
    "and",
    "a",
    "to",
    "in",
    "is",
    "it",
    "that",
    "was",
    "for",
    "on",
    "are",
    "with",
    "as",
    "his",
    "they",
    "at",
    "be",
    "this",
    "from",
    "have",
    "or",
    "by",
    "one",
    "had",
    "not",
    "but",
    "what",
    "all",
    "were",
    "when",
]


def texts(n: int, seed: int, planted: str = "", share: float = 0.0) -> list[str]:
    rng = random.Random(seed)
    made = [
        " ".join(rng.choices(COMMON, weights=range(len(COMMON), 0, -1), k=60)) for _ in range(n)
    ]
    return [f"{planted} {text}" if rng.random() < share else text for text in made]


def test_a_planted_phrase_is_found_whole() -> None:
    found = distinctive(texts(200, 1, "Let us explore together,", 0.2), texts(200, 2))
    assert found[0].text == "let us explore together"
    assert found[0].base_texts == 0 and 20 <= found[0].texts <= 60
    assert not any(phrase.text in ("explore", "let us") for phrase in found), (
        "parts of it are not told again"
    )


def test_what_both_sides_say_is_no_news() -> None:
    both = [texts(200, seed, "As we all know,", 0.5) for seed in (3, 4)]
    assert not any("as we all know" in phrase.text for phrase in distinctive(*both))


@pytest.mark.parametrize("seed", range(5))
def test_chance_finds_next_to_nothing(seed: int) -> None:
    assert len(distinctive(texts(300, 10 + seed), texts(300, 20 + seed))) <= 5


def test_a_loop_is_one_use() -> None:
    looping = texts(30, 5)
    looping[0] += " round and round" * 200
    assert not any("round" in phrase.text for phrase in distinctive(looping, texts(30, 6)))


def test_nothing_to_compare() -> None:
    assert distinctive([], list(ENGLISH)) == [] == distinctive(list(ENGLISH), ["", "…"])


def test_hostile_texts(hostile: str) -> None:
    with computes_within(20):
        found = distinctive([hostile] * 3, [*ENGLISH])
    assert all(phrase.text.split() for phrase in found)
    assert not {phrase.text for phrase in found} & {text.lower() for text in ENGLISH}


def test_one_phrase_on_both_sides_is_not_distinctive():
    """The log-odds of the only phrase that there is are infinite; with another one they are not."""
    assert distinctive(["Dog."] * 8, ["Dog."] * 8) == []
    assert distinctive(["Dog."] * 8, ["Cat."] * 8)[0].text == "dog"
