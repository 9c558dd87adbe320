import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.normalise import composed, normalise, normalised_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The\tQuick\n\nFox ", "the quick fox"),
        ("Straße ﬁn", "strasse fin"),
        ("ＵＳＥＲ\u00a0１", "user 1"),
        ("cafe\u0301", "café"),
        ("\u1112\u1161\u11ab", "한"),
        ("", ""),
        (" ", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text).text == expected


@given(st.text())
def test_every_character_comes_from_somewhere(text: str) -> None:
    found = normalise(text)
    assert len(found.text) == len(found.starts) == len(found.ends)
    assert list(found.starts) == sorted(found.starts)
    assert all(
        0 <= start < end <= len(text) for start, end in zip(found.starts, found.ends, strict=True)
    )
    assert found.text == normalised_text(text)
    assert "  " not in found.text
    assert found.text.strip() == found.text


@given(st.text(alphabet="abÉ ﬁ\n\u0301中", min_size=1))
def test_the_way_back_covers_the_same_letters(text: str) -> None:
    found = normalise(text)
    if found.text:
        start, end = found.original(0, len(found.text))
        assert normalise(text[start:end]).text == found.text


def test_an_empty_stretch_has_no_original() -> None:
    with pytest.raises(ValueError, match="no stretch"):
        normalise("abc").original(2, 2)


def test_hostile_texts(hostile: str) -> None:
    assert len(normalise(hostile).starts) == len(normalised_text(hostile))
    assert len(composed(hostile)) <= len(hostile)


@given(st.text(max_size=20))
def test_composed_is_nfc(text: str) -> None:
    assert composed(text) == unicodedata.normalize("NFC", text)
