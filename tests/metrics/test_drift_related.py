"""Danish or Norwegian, Malay or Indonesian, traditional or simplified: distinguished by what only
one of them uses, and not scored where nothing distinguishes them.
"""

import pytest

from harness.metrics.drift import drift
from harness.metrics.language.related import _MARKERS, _SPELLINGS, related_stretches

SENTENCES = {
    "da": "Jeg ved ikke, hvad jeg skal sige, men jeg kommer efter arbejde.",
    "no": "Jeg vet ikke hva jeg skal si, men jeg kommer etter jobb.",
    "ms": "Saya mahu cuba lagi esok kerana kereta saya rosak.",
    "id": "Saya mau coba lagi besok karena mobil saya rusak.",
    "sk": "Neviem, čo mám povedať, pretože som ešte nič nejedla.",
    "cs": "Nevím, co mám říct, protože jsem ještě nic nejedla.",
    "sr": "Uvek je lepo videti šta se dešava u svetu posle ručka.",
    "hr": "Uvijek je lijepo vidjeti što se događa u svijetu poslije ručka.",
    "zh-Hans": "这个问题其实很简单，让我们一起来看一下。",
    "zh-Hant": "這個問題其實很簡單，讓我們一起來看一下。",
}
PAIRS = [("da", "no"), ("ms", "id"), ("sk", "cs"), ("sr", "hr"), ("zh-Hans", "zh-Hant")]


@pytest.mark.parametrize(("one", "other"), [*PAIRS, *((b, a) for a, b in PAIRS)])
def test_a_pair_is_distinguished(one: str, other: str) -> None:
    assert drift(SENTENCES[one], (one,)).drift is False
    assert drift(SENTENCES[one], (one, other)).drift is False
    found = drift(SENTENCES[other], (one,))
    assert found.drift is True
    assert other in found.languages


@pytest.mark.parametrize(
    ("text", "expect"),
    [
        ("Jeg har en hund og to katte i huset.", "da"),
        ("Han kommer fra Oslo og er 30 år.", "no"),
        ("Saya suka makan nasi goreng.", "id"),
        ("Saya suka makan nasi goreng.", "ms"),
        ("Danas idem u grad.", "hr"),
        ("你好，朋友，早上好，一起走。", "zh-Hant"),
    ],
)
def test_what_could_be_either_is_not_scored(text: str, expect: str) -> None:
    found = drift(text, expect)
    assert found.drift is None
    assert "tells" in found.why or "too few" in found.why


def test_one_word_of_the_other_language_is_no_drift() -> None:
    assert not list(related_stretches("hvad", frozenset({"no"})))
    assert not list(related_stretches("hvad hvad hvad", frozenset({"no"})))
    assert list(related_stretches("hvad meget", frozenset({"no"}))) == [(0, 10, "da")]
    assert not list(related_stretches("hvad mye meget", frozenset({"no"})))
    assert not list(related_stretches("hvad meget", frozenset({"no", "da"})))


def test_a_danish_sentence_in_a_norwegian_text() -> None:
    text = f"{SENTENCES['no']} {SENTENCES['da']} {SENTENCES['no']}"
    found = drift(text, ("no",))
    assert found.drift is True
    assert len(SENTENCES["no"]) < (found.onset_char or 0) < 2 * len(SENTENCES["no"])
    assert found.returns is True


def test_no_word_is_on_both_lists() -> None:
    for texts in _MARKERS.values():
        own, other = (frozenset(text.split()) for text in texts)
        assert not own & other


def test_spellings_do_not_match_the_words_of_the_other_language() -> None:
    import re

    for pair, texts in _MARKERS.items():
        for code, words in zip(pair[::-1], texts, strict=True):
            pattern = re.compile(_SPELLINGS.get(code, "(?!)"))
            assert not [word for word in words.split() if pattern.search(word)], code


def test_characters_of_the_prompt_and_single_ones() -> None:
    assert drift("「头」這個字的意思是頭，和臺灣的寫法不同。", "zh-Hant").drift is False
    assert drift("這個問題很简单，我們一起來看。", "zh-Hant").drift is True
    assert (
        drift("這個問題真的很简单，讓我們一起來看。", "zh-Hant", "简单是什麼意思?").drift is False
    )
    assert drift("他看着我，我也看着他，這樣的日子過得很快。", "zh-HK").drift is False
    for tag in ("zh-TW", "zh_HK", "zh-Hant-TW"):
        assert drift(SENTENCES["zh-Hans"], tag).drift is True
    assert drift(SENTENCES["zh-Hant"], "zh-CN").drift is True
    for tag in ("zh", "zh-Hant,zh-Hans"):
        assert drift(SENTENCES["zh-Hans"] + SENTENCES["zh-Hant"], tag).drift is False
    assert drift("今日は元気です。我们一起去公园吧。", "ja").drift is True
    assert drift("今日は学校で図書館の本を読みました。", "ja").drift is False


@pytest.mark.parametrize(
    ("text", "drifts"),
    [
        ("我觉得很好，but I think 我们再谈。", True),
        ("我觉得很好，but it 我们明天再谈一谈。", False),
        ("请打开 Visual Studio Code 再运行。", False),
        ("这是 end to end 的测试，很重要。", False),
        ("这个 How They Did 的故事很有意思。", False),
        ("他说 then add the noodles 就可以了。", True),
    ],
)
def test_english_clauses_in_chinese(text: str, drifts: bool) -> None:
    assert drift(text, ("zh",)).drift is drifts
