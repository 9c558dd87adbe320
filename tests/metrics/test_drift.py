"""Figures of the default detector, expecting English. None of the measured texts is copied here.

The thresholds were tuned on one draw and measured once on another: software messages of 25
languages (8 to 25 words, Debian's .mo files) set into English manuals, and pieces of 800 characters
of English and code.

    sentences 1486 of 1500 (.991), 7-word clauses 1443 of 1500 (.962: under the target of .98)
    false alarms by words: standard library 3 of 2000, other code 2 of 2000, Debian notes 1 of 2000, npm manuals 0 of 774
    (on the tuning draw: READMEs 2 of 1332, licences with lists of names 7 of 1133)

What is mentioned (``language/mentions.py``, ``language/name_rows.py``) came later; docs/log.md has
the figures of ``benchmarks/language.py`` before and after.

The sentences in ``sentences.py`` were looked at while tuning: the tests on them guard against loss,
they measure nothing.
"""

import random
import re

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.drift import drift, strip_marks
from harness.metrics.language.detector import Foreign
from harness.metrics.language.scripts import count_letters
from tests.metrics.cost import computes_within
from tests.metrics.sentences import ENGLISH, HARD_ENGLISH, LOAN_WORDS, OTHER_SCRIPTS, SENTENCES

LATIN = [
    (language, sentence) for language, sentences in SENTENCES.items() for sentence in sentences
]


def inserted(host: str, part: str, seed: int, pattern: str = r"[.!?] ") -> tuple[str, int]:
    places = [match.end() for match in re.finditer(pattern, host)]
    at = random.Random(seed).choice(places)
    return f"{host[:at]}{part} {host[at:]}", at


@pytest.mark.parametrize(("language", "sentence"), LATIN)
def test_a_sentence_among_english_ones(language: str, sentence: str) -> None:
    for seed, host in enumerate(ENGLISH):
        text, at = inserted(host, sentence, seed)
        found = drift(text)
        assert found.drift is True, text
        assert found.window_drift
        assert found.onset_char is not None
        assert abs(found.onset_char - at) < 30


def test_inserted_clauses() -> None:
    rng = random.Random(3)
    found = total = 0
    for _, sentence in LATIN:
        words = sentence.split()
        start = rng.randrange(max(1, len(words) - 7))
        clause = " ".join(words[start : start + 8]).strip(".,")
        for seed, host in enumerate(ENGLISH):
            text, _ = inserted(host, clause, seed, r"(?<=[a-z]) (?=[a-z])")
            found += drift(text).drift is True
            total += 1
    assert found / total >= 0.96


@pytest.mark.parametrize("language", OTHER_SCRIPTS)
def test_other_scripts(language: str) -> None:
    sentence = OTHER_SCRIPTS[language]
    whole = drift(sentence)
    assert (whole.drift, whole.off_script, whole.onset_char) == (True, 1.0, 0)
    text, at = inserted(ENGLISH[0], sentence, 1)
    assert drift(text).drift is True
    assert abs((drift(text).onset_char or 0) - at) < 3
    assert drift(sentence, (language,)).drift is not True


@pytest.mark.parametrize("text", [*ENGLISH, *HARD_ENGLISH])
def test_english_is_no_drift(text: str) -> None:
    assert drift(text).drift is False, drift(text)


@pytest.mark.parametrize("text", LOAN_WORDS)
def test_rows_of_loan_words_are_no_drift(text: str) -> None:
    assert drift(text).drift is False


@pytest.mark.parametrize(("language", "sentence"), LATIN)
def test_the_expected_language_is_no_drift(language: str, sentence: str) -> None:
    assert drift(sentence, (language,)).drift is not True
    assert drift(sentence, ("en", language)).drift is not True


@pytest.mark.parametrize(
    "language", ["de", "fr", "es", "it", "pt", "nl", "sv", "pl", "tr", "zh", "ru"]
)
def test_english_among_another_language(language: str) -> None:
    own = " ".join(SENTENCES[language]) if language in SENTENCES else OTHER_SCRIPTS[language]
    found = drift(f"{own} I think that we should talk about this again. {own}", (language,))
    assert found.drift is True


def test_a_whole_short_answer() -> None:
    assert drift("Die Hauptstadt ist Paris.").drift is True
    assert drift("The capital is Paris.").drift is False
    assert drift("La capitale est Paris.", ("fr",)).drift is False


@pytest.mark.parametrize(
    "text",
    ["", "42", "Oslo", "La 42", "```\nprint('это код')\n```", "https://例え.jp/路", "$\\alpha$"],
)
def test_too_little_text_is_not_scored(text: str) -> None:
    found = drift(text)
    assert found.drift is None
    assert found.why.startswith("not scored")


def test_eight_letters_with_two_function_words_can_be_drift() -> None:
    assert drift("Sí, un poco.").drift is True
    assert drift("Es ist da.").drift is None


def test_two_foreign_letters_are_drift_whatever_the_length() -> None:
    assert drift("巴黎").drift is True
    assert drift("巴").drift is None
    assert drift("OK да").drift is True


def test_an_all_chinese_answer_is_all_drift() -> None:
    found = drift("首都是巴黎。", prompt="What is the capital of France?")
    assert (found.drift, found.off_script, found.sticky, found.languages) == (
        True,
        1.0,
        1.0,
        ("zh",),
    )


def test_letters_of_the_prompt_may_be_quoted() -> None:
    prompt = "What does 你好 mean, and what is Москва? Say it after «ist nicht aber so einfach, wie man denkt»."
    assert (
        drift("你好 means hello, and Москва is Moscow, the capital.", prompt=prompt).drift is False
    )
    assert (
        drift(
            "It is «ist nicht aber so einfach, wie man denkt» indeed, as asked.", prompt=prompt
        ).drift
        is False
    )
    assert drift("你好 means hello, 再见 means goodbye.", prompt=prompt).drift is True
    assert drift("Москва и Питер are cities in Russia.", prompt=prompt).drift is True


def test_scripts_of_east_asia() -> None:
    assert drift("これはペンです。", ("zh",)).drift is True
    assert drift(OTHER_SCRIPTS["zh"], ("ja",)).drift is True
    assert drift(OTHER_SCRIPTS["ja"], ("ja",)).drift is False
    assert drift(OTHER_SCRIPTS["ko"], ("ja",)).drift is True
    assert drift("使用 Python 和 NumPy 很方便，我们都喜欢这样做。", ("zh",)).drift is False
    assert drift("Paris is the capital.", ("zh",)).drift is True


def test_code_urls_and_mathematics_are_left_out() -> None:
    text = "It is so: `переменная` and $\\text{где } x$ and https://ja.wikipedia.org/日本 or \\(你好\\) [INST] done."
    assert drift(text).drift is False
    assert len(strip_marks(text)) == len(text)
    assert drift("It costs $5 и так далее, or $6 at most.").drift is True


def test_the_course_of_a_drift() -> None:
    gone = drift(f"{ENGLISH[0]} {SENTENCES['de'][0]} {SENTENCES['de'][1]}")
    back = drift(f"{ENGLISH[0]} {SENTENCES['de'][0]} {ENGLISH[1]}")
    assert gone.sticky is not None
    assert back.sticky is not None
    assert gone.sticky > 0.9 > 0.5 > back.sticky
    assert (gone.returns, back.returns) == (False, True)
    assert gone.languages == ("de",)


def test_language_tags_and_unknown_languages() -> None:
    assert drift(OTHER_SCRIPTS["zh"], ("zh-Hans",)).drift is False
    assert drift(OTHER_SCRIPTS["zh"], ("zh-Hant",)).drift is True
    assert drift(OTHER_SCRIPTS["zh"] + ENGLISH[0], "en, zh").drift is False
    assert drift(ENGLISH[0], ("EN_us",)).drift is False
    assert drift("Þetta er íslenska og hún er falleg.", ("is",)).why.startswith(
        "not scored"
    )  # no profile: neither fine nor drift
    for nothing in ((), "", " , "):
        with pytest.raises(ValueError, match="no expected language"):
            drift("x", nothing)


def test_another_detector_can_be_given() -> None:
    class Everything:
        def stretches(self, text: str, expect: frozenset[str], prompt: str = "") -> list[Foreign]:
            return [Foreign(0, 5, "xx")]

    assert drift(ENGLISH[0], detector=Everything()).languages == ("xx",)


@given(st.text(), st.sampled_from([("en",), ("zh",), ("ja", "en"), ("ru",), ("de",)]))
def test_shares_and_offsets(text: str, expect: tuple[str, ...]) -> None:
    found = drift(text, expect)
    assert 0.0 <= found.off_script <= 1.0
    assert all(regex.match(r"\p{L}", text[at]) for at in found.off_script_chars)
    assert (found.onset_char is None) == (found.sticky is None) == (found.drift is not True)
    assert found == drift(text, expect)


@given(st.text())
def test_letters_are_category_l(text: str) -> None:
    assert count_letters(text) == len(regex.findall(r"\p{L}", text))


def test_hostile_texts(hostile: str) -> None:
    for expect in (("en",), ("zh",), ("ja",)):
        with computes_within(15):
            found = drift(hostile, expect, hostile[:1000])
        assert 0 <= found.off_script <= 1
        assert found.why if found.drift is None else found.drift == (found.onset_char is not None)


def test_clean_english_is_quick() -> None:
    texts = [(f"{host} {n} " * 3)[:800] for n in range(50) for host in ENGLISH]
    drift(texts[0])
    with computes_within(len(texts) / 500):
        for text in texts:
            drift(text)


def test_a_language_without_a_profile_is_not_called_fine():
    """Basque shares the Latin script and has no profile: English cannot be told from it, Chinese
    can. Georgian has its own script.
    """
    english = "Today the weather is good and we go up to the mountains with our friends for the whole day."
    assert drift(english, ("eu",)).drift is None
    assert drift(english + "然后渡船来了", ("eu",)).drift is True
    assert (
        drift("დღეს კარგი ამინდია და ჩვენ მთაში მივდივართ მეგობრებთან ერთად.", ("ka",)).drift
        is False
    )
