"""Off-script tokens are told by letters and by lead bytes, and their probability is summed up over
a path.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.hazard import hazard, is_off_script
from harness.metrics.language.scripts import off_script, scripts_of
from harness.tokens.vocabulary import off_script_ids, token_bytes
from tests.tiny import build_tokenizer


def test_a_path() -> None:
    found = hazard([0.0, 0.1, 0.6, 0.2])
    assert found is not None
    assert found.value == pytest.approx(1 - 0.9 * 0.4 * 0.8)
    assert (found.highest, found.first) == (0.6, 2)
    even = hazard([0.49, 0.5])
    assert even is not None and even.first == 1
    assert hazard([]) is None
    sure = hazard([1.0, 1.0])
    assert sure is not None and sure.value == pytest.approx(1.0) and sure.first == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_a_hazard_is_a_probability(masses: list[float]) -> None:
    found = hazard(masses)
    assert found is not None
    assert max(masses) - 1e-9 <= found.value <= 1.0


@pytest.mark.parametrize(
    ("piece", "english", "chinese", "russian"),
    [
        ("的", True, False, True),
        (" привет", True, True, False),
        ("hello", False, True, True),
        (" é", False, True, True),
        ("— “", False, False, False),
        ("😀", False, False, False),
        ("λ", False, False, False),
        ("한", True, True, True),
    ],
)
def test_whole_letters(piece: str, english: bool, chinese: bool, russian: bool) -> None:
    found = tuple(is_off_script(piece.encode(), language) for language in ("en", "zh", "ru"))
    if piece.strip().isascii() or piece == " é":
        assert (
            found[0] is english
        )  # single Latin terms are no drift elsewhere (metrics/language/scripts.py)
    else:
        assert found == (english, chinese, russian)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("漢字", "zh"),
        ("ひらがな", "ja"),
        ("한글", "ko"),
        ("Привет", "ru"),
        ("שלום", "he"),
        ("سلام", "ar"),
    ],
)
def test_split_characters_are_told_by_their_first_byte(text: str, language: str) -> None:
    for letter in text:
        data = letter.encode()
        for cut in range(1, len(data)):
            assert is_off_script(b" " + data[:cut], "en")
            assert not is_off_script(data[:cut], language)
            assert not is_off_script(data[cut:], "en"), "the rest of a character is of no script"


@given(st.binary(max_size=12))
def test_any_bytes_are_judged(piece: bytes) -> None:
    assert is_off_script(piece, "en") in (True, False)


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
    st.sampled_from(["en", "ru", "ja"]),
)
def test_whole_texts_agree_with_the_measure_on_text(text: str, language: str) -> None:
    assert is_off_script(text.encode(), language) == bool(
        off_script(text, scripts_of([language]))[0]
    )


@pytest.mark.local
def test_a_byte_level_vocabulary() -> None:
    tokenizer = build_tokenizer()
    pieces = token_bytes(tokenizer)
    text = "Oslo, déjà vu 漢字 Привет\n"
    assert b"".join(pieces[id] for id in tokenizer(text).input_ids) == text.encode()
    off = off_script_ids(tokenizer, "en")
    assert {pieces[id] for id in off} == {
        bytes([byte]) for byte in range(256) if is_off_script(bytes([byte]), "en")
    }
    assert set(off) & set(tokenizer("漢").input_ids)
    assert not set(off) & set(tokenizer(text[:14]).input_ids)


def test_a_token_of_one_of_several_languages() -> None:
    assert is_off_script("да".encode(), "en")
    assert not is_off_script("да".encode(), "en,ru")
    assert is_off_script("好".encode(), "en,ru")
