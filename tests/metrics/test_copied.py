"""What an answer copies of its conversation."""

from random import Random

import pytest

from harness.conversation import Message
from harness.metrics.answer import score_answer
from harness.metrics.checks import parse_check
from harness.metrics.copied import RUN, without_copies
from harness.records import Case
from tests.metrics.cost import computes_within

TALK = (
    Message("system", "You are Quill, an old librarian who loves maps more than anything else."),
    Message("user", "I live in Bergen."),
    Message("assistant", "A fine town."),
    Message("user", "Is a carrot a fruit or a vegetable?"),
)


def left(answer: str) -> str:
    return " ".join(without_copies(TALK, answer).split())


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("A carrot is a vegetable.", "A carrot is a vegetable."),
        (
            "Is a carrot a fruit or a vegetable? A carrot is a vegetable.",
            "? A carrot is a vegetable.",
        ),
        ("You live in Bergen.", "You live in Bergen."),
        ("You said: I LIVE in Bergen!", "You said: !"),
        ("A fine town.", "A fine town."),
        ("an old librarian who loves maps more than", ""),
        ("an old librarian who loves maps more", "an old librarian who loves maps more"),
    ],
)
def test_long_runs_and_whole_messages_are_cut(answer: str, kept: str) -> None:
    assert left(answer) == kept


@pytest.mark.parametrize("seed", range(20))
def test_a_bag_of_the_words_is_empty(seed: int) -> None:
    question = TALK[-1].content.strip("?").split()
    everything = " ".join(message.content for message in TALK).split()
    for bag in (question, everything, sorted(set(question))):
        shuffled = Random(seed).sample(bag, len(bag))
        assert left(" ".join(shuffled)) == ""


def test_an_answer_that_uses_most_of_the_words_stays() -> None:
    for answer in ("A carrot is a vegetable, not a fruit.", "A carrot is a vegetable."):
        assert left(answer) == answer


def test_chinese_characters_are_half_a_word() -> None:
    talk = (Message("user", "我住在北京的一个小公寓里，每天骑自行车去上班。我住在哪里？"),)
    answer = "你住在北京的一个小公寓里。"
    assert without_copies(talk, answer) == answer
    assert without_copies(talk, talk[0].content).strip("，。？\n") == ""


def test_a_copied_text_says_nothing_and_one_that_is_quoted_in_part_does() -> None:
    case = Case("c", TALK, checks=(parse_check({"says": "maps"}),))
    assert score_answer(case, TALK[0].content).on_task == 0.0
    assert score_answer(case, "I love maps.").strict == 1.0
    assert RUN == 8


def test_three_words_and_an_assistants_short_message_may_be_repeated() -> None:
    talk = (
        Message("user", "I like Oslo."),
        Message("assistant", "Oslo is very fine."),
        Message("user", "What do I like, and what did you say of it?"),
    )
    for answer in ("I like Oslo.", "Oslo is very fine."):
        assert without_copies(talk, answer) == answer


def test_a_bag_may_lack_one_word_of_a_long_question() -> None:
    question = "Which of these big old grey towns lies far up north?"
    bag = "north up far lies towns grey old big these of"
    assert without_copies((Message("user", question),), bag) == ""


def test_not_says_sees_what_is_copied() -> None:
    case = Case("c", TALK, checks=(parse_check({"not_says": "maps"}),))
    assert score_answer(case, f"{TALK[0].content} A carrot.").on_task == 0.0


def test_equals_and_json_judge_the_whole_answer() -> None:
    text = "the old man sat by the window and watched the boats"
    case = Case(
        "c", (Message("user", f"Repeat exactly: {text}"),), checks=(parse_check({"equals": text}),)
    )
    assert score_answer(case, text).strict == 1.0


def test_a_long_answer_takes_no_long_time() -> None:
    long = Message("user", "word " * 20_000 + "and then?")
    with computes_within(20):
        left_over = without_copies((*TALK, long), "word " * 200_000 + "A carrot.")
    assert left_over.strip() == "A carrot."
