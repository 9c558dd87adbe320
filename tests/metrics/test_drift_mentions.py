"""Foreign words that are asked for, quoted or named are no drift, and every bound has both sides."""

import pytest

from harness.metrics.drift import drift
from harness.metrics.language.detector import Foreign
from harness.metrics.language.language_names import languages_asked, languages_named
from tests.metrics.cost import computes_within

IN_RUSSIAN = "How do you say it in Russian?"


def russian(words: int, sentences: int = 1) -> str:
    """A text of this many Russian words, in sentences of about equal length."""
    ends = {words * n // sentences for n in range(1, sentences)}
    return " ".join("слово" + "." * (at in ends) for at in range(1, words + 1))


@pytest.mark.parametrize(("words", "drifts"), [(12, False), (13, True)])
@pytest.mark.parametrize("marks", ['""', "“”", "„“", "«»", "‘’", "''", "**", "__", "《》", "「」"])
def test_a_quotation_is_short(marks: str, words: int, drifts: bool) -> None:
    text = f"The old man said {marks[0]}{russian(words)}{marks[1]} and closed the door behind him."
    assert drift(text).drift is drifts


@pytest.mark.parametrize(("frame", "drifts"), [("", True), ("Hm:", True), ("He said:", False)])
def test_an_answer_all_in_quotation_marks_is_no_quotation(frame: str, drifts: bool) -> None:
    assert drift(f'{frame} "Да, конечно, я приду"').drift is drifts


@pytest.mark.parametrize(("words", "drifts"), [(4, False), (5, True)])
def test_parentheses_after_a_word_are_short(words: int, drifts: bool) -> None:
    assert drift(f"The museum in Moscow ({russian(words)}) opens at nine.").drift is drifts


def test_parentheses_that_follow_no_word_are_no_gloss() -> None:
    assert drift(f"It opens at nine.\n({russian(3)})").drift is True


@pytest.mark.parametrize(("words", "drifts"), [(4, False), (5, True)])
def test_a_sentence_may_name_the_language_of_few_words(words: int, drifts: bool) -> None:
    assert drift(f"The Russian name of the street is {russian(words)}, I think.").drift is drifts


def test_the_language_is_named_in_the_same_sentence() -> None:
    assert drift("He spoke Russian. The street is called Новый Арбат.").drift is True
    assert drift("He spoke. The street is called Новый Арбат in Russian.").drift is False
    assert drift("The Greek name of the street is Новый Арбат.").drift is True


@pytest.mark.parametrize(("words", "drifts"), [(12, False), (13, True)])
def test_a_sentence_that_is_asked_for(words: int, drifts: bool) -> None:
    assert drift(russian(words), prompt=IN_RUSSIAN).drift is drifts


@pytest.mark.parametrize(
    ("asked", "words", "drifts"), [(20, 20, False), (20, 21, True), (60, 40, False), (60, 41, True)]
)
def test_a_translation_is_about_as_long_as_its_sentence(
    asked: int, words: int, drifts: bool
) -> None:
    prompt = f"Translate into Russian.\n{' '.join(['word'] * asked)}."
    assert drift(russian(words), prompt=prompt).drift is drifts


@pytest.mark.parametrize(("words", "drifts"), [(6, False), (7, True)])
def test_an_answer_that_goes_on_is_drift(words: int, drifts: bool) -> None:
    assert drift(russian(words, sentences=2), prompt=IN_RUSSIAN).drift is drifts


def test_a_whole_answer_after_the_word_asked_for() -> None:
    prompt = "What is the Russian word for peace?"
    assert drift("Мир.", prompt=prompt).drift is False
    assert drift("Мир. Это слово означает также вселенную и всех людей.", prompt=prompt).drift
    assert drift("Paz.", prompt="And the Spanish one?").drift is None


@pytest.mark.parametrize(("home", "drifts"), [(30, False), (29, True)])
def test_all_stretches_together_are_no_longer_than_the_rest(home: int, drifts: bool) -> None:
    parts = [russian(6)] * 5
    rest = [["means"] * (home // 5 + (at < home % 5)) for at in range(5)]
    text = " ".join(f"{part} {' '.join(words)}" for part, words in zip(parts, rest, strict=True))
    assert drift(text, prompt=IN_RUSSIAN).drift is drifts


def test_another_language_than_the_one_asked_for_is_drift() -> None:
    assert drift("你好！", prompt=IN_RUSSIAN).drift is True
    german = "Ich weiß es leider nicht mehr so genau."
    assert drift(german, prompt="How do you say it in German?").drift is False
    assert drift(german, prompt="How do you say it in Spanish?").drift is True


def test_words_in_transcription() -> None:
    text = "You say: wo hen hao, xiexie ni, ni ne?"
    assert drift(text, prompt="How do I answer in Chinese?").drift is False
    assert drift(text, prompt="How do I answer him?").drift is True
    assert drift("nikatatam aspatal kahan hai?", prompt="Where is it, in Hindi?").drift is False


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Ya ne govoryu po-russki ochen khorosho, izvinite.", "Russian"),
        ("Ana la atakallam al-lughata al-arabiyya jayyidan.", "Arabic"),
        ("Watashi wa nihongo ga sukoshi dekimasu.", "Japanese"),
    ],
)
def test_words_in_a_transcription_that_has_no_profile(text: str, language: str) -> None:
    assert drift(text).drift is True
    assert drift(text, prompt=f"How do I say it in {language}?").drift is False
    assert drift(text, prompt="How do I say it in Spanish?").drift is True


def test_a_text_with_blanks_is_not_accused_of_more() -> None:
    """What is blanked leaves a shorter text, which a detector judges by lower thresholds."""

    class OfBlanked:
        def stretches(self, text: str, expect: frozenset[str], prompt: str = "") -> list[Foreign]:
            return [Foreign(0, 5, "xx")] if "слово" not in text else []

    assert drift('We found the word "слово" here.', detector=OfBlanked()).drift is False


@pytest.mark.parametrize(
    ("prompt", "languages"),
    [
        ("hello in Chinese?", {"zh"}),
        ("Russian for peace?", {"ru"}),
        ("Wie sagt man Frieden auf Russisch?", {"ru"}),
        ("用俄语怎么说?", {"ru"}),
        ("Как будет мир по-немецки?", {"de"}),
        ("Comment dit-on paix en russe ?", {"ru"}),
        ("¿Cómo se dice paz en japonés?", {"ja"}),
        ("ロシア語で何と言いますか?", {"ru"}),
        ("Teach me a Greek and a Latin word.", {"el", "la"}),
        ("Is it from Greek?", {"el"}),
        ("Who was the first Russian president?", set()),
        ("I like Chinese food.", set()),
        ("The rushing water", set()),
        ("How do you say it?", set()),
    ],
)
def test_which_language_a_prompt_asks_for(prompt: str, languages: set[str]) -> None:
    assert languages_asked(prompt) == languages


def test_names_of_languages_are_whole_words() -> None:
    assert languages_named("The Polish and the русский text") == {"pl", "ru"}
    assert languages_named("The Polishes and Germany") == set()


@pytest.mark.parametrize(
    "face", ["(´・ω・｀)", "щ(ﾟДﾟщ)", "ಠ_ಠ", "(ノಠ益ಠ)ノ彡┻━┻", "ヽ(・∀・)ノ", "(づ｡◕‿‿◕｡)づ"]
)
def test_faces_are_no_letters(face: str) -> None:
    assert drift(f"That made me laugh {face} a lot.").drift is False


@pytest.mark.parametrize("text", ["好的~~", "(好的)*", "男=女", "ш•щ", "*да*~"])
def test_words_between_signs_are_no_faces(text: str) -> None:
    assert drift(text).drift is True


def test_lists_of_names_in_their_own_letters() -> None:
    assert (
        drift("Thanks to José Álvarez, Ann Li, 王小明 and Дмитрий Иванов for the help.").drift
        is False
    )
    assert drift("Thanks to José Álvarez, 王小明 and Ann Li for the help.").drift is False
    assert drift("Thanks to José, 王小明, 李白, 杜甫 and Иван for the help.").drift is True
    assert drift("Thanks to José, 王小明 and 李白 for the help.").drift is True
    assert drift("Thanks to José and 王小明 for all the help.").drift is True
    assert drift("We ate an apple, 苹果, and Иван, and left.").drift is True


@pytest.mark.parametrize(
    ("text", "drifts"),
    [
        ("The Río de la Plata, the Río Negro and the Río Uruguay are on my map of rivers.", False),
        ("You could watch Le Fabuleux Destin d'Amélie Poulain and Au revoir les enfants.", False),
        ("We had boeuf bourguignon, coq au vin, ratatouille and tarte tatin for dinner.", False),
        ("We had boeuf bourguignon et nous avons mangé une tarte tatin for dinner.", True),
        ("We had une belle soupe chaude avec pommes frites maison for dinner.", True),
    ],
)
def test_rows_of_names_and_dishes(text: str, drifts: bool) -> None:
    assert drift(text).drift is drifts


def test_what_is_mentioned_does_not_excuse_the_rest() -> None:
    prompt = "What does 'мир' mean?"
    good = 'The word "мир" means peace, and "добрый день" means good day.'
    assert drift(good, prompt=prompt).drift is False
    gone = drift(f"{good} Потом мы пошли домой и легли спать.", prompt=prompt)
    assert gone.drift is True
    assert gone.onset_char == len(good) + 1
    assert gone.off_script < 0.5


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("(´・ω・`) 你好 " * 8000, ""),
        ("x (да " * 20000, ""),
        ("The Russian слово is here " * 5000, "in Russian"),
        ("Aa, " * 30000 + "你好", ""),
        ("Да, да", "in Russian " * 20000),
    ],
)
def test_the_time_grows_with_the_length(text: str, prompt: str) -> None:
    with computes_within(15):
        found = drift(text, prompt=prompt)
    assert found.why if found.drift is None else found.drift == (found.onset_char is not None)
