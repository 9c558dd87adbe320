import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.loops import loop, tail_period, tail_ratio
from tests.metrics.sentences import ENGLISH, OTHER_SCRIPTS


@pytest.mark.parametrize(
    "text",
    [
        "A" * 50,
        "Fine so far. " + "I am here. " * 10,
        "好的，" * 20,
        "x" * 300 + "# " * 40,
        "A text that ends.\n" + "The same line again and again, 12345.\n" * 4 + "The same",
    ],
)
def test_loops_are_found(text: str) -> None:
    assert loop(text).looping
    assert loop(text).why


@pytest.mark.parametrize("text", ["", "a", "no no no", "-" * 39, *ENGLISH, *OTHER_SCRIPTS.values()])
def test_real_text_does_not_loop(text: str) -> None:
    assert not loop(text).looping


def noise(n: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz", k=n))


@pytest.mark.parametrize(
    ("unit", "times", "period"),
    [
        (noise(50), 4, 50),
        (noise(50), 3, None),
        ("ab", 20, 2),
        ("ab", 19, None),
        (noise(200), 4, 200),
        (noise(201), 5, None),
    ],
)
def test_a_period_counts_from_four_repeats_and_forty_characters(
    unit: str, times: int, period: int | None
) -> None:
    assert tail_period(f"A start: {unit * times}") == period


@pytest.mark.parametrize(("letters", "looping"), [(6, True), (12, False)])
def test_lines_that_differ_enough_are_no_loop(letters: int, looping: bool) -> None:
    """Ratios of 3.4 and 2.7, on either side of the limit."""
    text = "".join(f"{noise(letters, line)} is a very good item.\n" for line in range(40))
    assert loop(text).looping == looping


def test_the_ratio_is_of_the_last_400_characters() -> None:
    text = noise(400)
    assert tail_ratio("zzz" + text) == tail_ratio(text)
    assert tail_ratio("zzz" + text[1:]) != tail_ratio(text[1:])


def test_a_loop_that_was_left_is_none() -> None:
    assert not loop("I am here. " * 30 + ENGLISH[0] + ENGLISH[1]).looping


def test_near_repetition_is_seen_by_the_ratio() -> None:
    text = "".join(f"Item {n} is a very good item that you should buy today.\n" for n in range(30))
    assert tail_period(text) is None
    assert tail_ratio(text) > 3.0
    assert "compress" in loop(text).why


@given(st.text(min_size=1, max_size=50), st.integers(4, 8))
def test_the_period_divides_what_was_repeated(unit: str, times: int) -> None:
    period = tail_period(unit * max(times, 40 // len(unit) + 1))
    assert period is not None
    assert period <= len(unit)


@given(st.text(min_size=201, max_size=250, alphabet=st.characters(min_codepoint=33)))
def test_a_period_is_exact(text: str) -> None:
    period = tail_period(text)
    if period is not None:
        assert text[-1] == text[-1 - period]


def test_hostile_texts(hostile: str) -> None:
    assert loop(hostile).ratio >= 0
