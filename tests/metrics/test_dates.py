from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.checks import passes
from harness.metrics.dates import date_spans
from harness.records import Check

WRITTEN = (
    "%-d %B %Y",
    "%B %-d, %Y",
    "%-d of %B %Y",
    "%b %-d %Y",
    "%Y-%m-%d",
    "the %-dth of %B, %Y",
)


@given(st.dates(date(1000, 1, 1), date(2999, 12, 31)), st.sampled_from(WRITTEN))
def test_every_spelling_of_every_date_is_read(day: date, spelling: str) -> None:
    text = f"It was on {day.strftime(spelling)}, a long time ago."
    assert [found for found, _, _ in date_spans(text)] == [day.isoformat()]
    assert passes(Check("date", day.isoformat()), text)
    assert passes(Check("date", day.isoformat()[5:]), text)
    assert not passes(Check("date", day.isoformat()), f"It was not on {day.strftime(spelling)}.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the third of May", ["05-03"]),
        ("May the twenty-first", ["05-21"]),
        ("Sept. 30th", ["09-30"]),
        ("on the thirty-first of December 1999", ["1999-12-31"]),
        ("You may 3 times try", ["05-03"]),
        ("3/5 or 3.5.", []),
        ("13 Maybe", []),
        ("Mayor 3", []),
    ],
)
def test_dates(text: str, expected: list[str]) -> None:
    assert [found for found, _, _ in date_spans(text)] == expected


def test_a_year_that_is_wanted_must_be_given() -> None:
    assert not passes(Check("date", "2024-05-03"), "3 May")
    assert not passes(Check("date", "2024-05-03"), "3 May 2023")
