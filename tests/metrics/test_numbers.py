import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.checks import passes
from harness.metrics.parsing import number_spans
from harness.records import Check


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,200 men and 2.5 litres", [1200, 2.5]),
        ("-3 or −4", [-3, -4]),
        ("5-3=2", [5, 3, 2]),
        ("$1,234,567.89.", [1234567.89]),
        ("gpt4 weighs 10km", [10]),
        ("version 1.2.3", []),
        ("1e3 and .5", [1000, 0.5]),
        ("有42个", [42]),
        ("2,5", [2, 5]),
        ("pages 3, 4, 5", [3, 4, 5]),
        ("twelve", [12]),
        ("Twenty-one", [21]),
        ("minus three", [-3]),
        ("two hundred", [200]),
        ("someone, tone, stone", []),
        ("9" * 500, []),
    ],
)
def test_numbers(text: str, expected: list[float]) -> None:
    assert [value for value, _, _ in number_spans(text)] == expected


@given(st.integers(-(10**9), 10**9))
def test_any_integer_is_found_with_and_without_commas(value: int) -> None:
    assert passes(Check("number", value), f"It is {value}.")
    assert passes(Check("number", value), f"It is {value:,}.")


def test_a_part_of_a_number_is_not_it() -> None:
    assert not passes(Check("number", 3), "13, 30, 3.5 and 1,300")
    assert not passes(Check("number", 20), "twenty-one")
