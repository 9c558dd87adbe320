import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.words import word_spans, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It isn't well-known.", ["It", "isn't", "well-known"]),
        ("1,200.5 people", ["1,200.5", "people"]),
        ("我们 like Oslo。", ["我", "们", "like", "Oslo"]),
        ("カタカナ", ["カ", "タ", "カ", "ナ"]),
        ("안녕 하세요", ["안녕", "하세요"]),
        ("snake_case -- '…'", ["snake", "case"]),
        ("", []),
    ],
)
def test_words_of_every_script(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text())
def test_spans_are_the_words(text: str) -> None:
    assert [text[start:end] for start, end in word_spans(text)] == words(text)
