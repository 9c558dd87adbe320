"""Rows of names, titles and dishes: each bound has both sides."""

import pytest

from harness.metrics.drift import drift
from harness.metrics.language.name_rows import are_names

OWN = frozenset(("nous", "est", "de", "la"))


def names(text: str, short: bool = False) -> bool:
    tokens = text.split()
    words = [token.strip(",.").lower() for token in tokens]
    return are_names(tokens, words, frozenset(("and", "with")), OWN, short)


@pytest.mark.parametrize(
    ("text", "is_row"),
    [
        ("Rue Saint Paul Vaux", True),
        ("Rue de la Saint Paul de la Vaux", True),
        ("Rue Saint Paul Vaux Nord", False),
        ("Rue Saint Paul, Vaux Nord", True),
        ("Rue haute vieille", True),
        ("Rue haute vieille belle", False),
        ("rue haute", False),
        ("rue haute, place vieille", False),
        ("rue haute, place vieille, pont", True),
        ("rue haute and place vieille with pont", True),
        ("rue haute belle, place vieille, pont", False),
        ("rue haute, nous vieille, pont", False),
        ("rue, nous, pont", True),
        ("rue, nous", False),
        ("Rue Nous Paul", True),
        ("Rue Nous haute", False),
    ],
)
def test_rows(text: str, is_row: bool) -> None:
    assert names(text) is is_row


@pytest.mark.parametrize(
    ("text", "is_row"),
    [
        ("Rue de la Paix", True),
        ("Rue de la paix", False),
        ("Nous Paix", False),
        ("rue, place, pont", False),
    ],
)
def test_short_answers(text: str, is_row: bool) -> None:
    assert names(text, short=True) is is_row


@pytest.mark.parametrize(
    "text",
    [
        "Gabriel García Márquez",
        "Rio de Janeiro",
        "Tierra del Fuego",
        "Simón Bolívar",
        "Côte d'Ivoire",
        "Crème brûlée",
        "Los Angeles",
        "Leonardo da Vinci",
        "Coq au vin",
        'What is a stronger word for "angry"?',
    ],
)
def test_a_short_answer_may_be_a_name(text: str) -> None:
    assert drift(text).drift is not True
