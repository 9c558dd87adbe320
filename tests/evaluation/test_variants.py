"""Variants of a case: behind other talk, as a later question, with its facts moved."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.conversation import Message
from harness.errors import HarnessError
from harness.evaluation.analysis.depth import _axes
from harness.evaluation.cases.case_files import case_digest, load_cases
from harness.evaluation.cases.context_window import variants_of
from harness.evaluation.cases.variants import (
    CHARS_PER_TOKEN,
    Variants,
    at_depth,
    at_position,
    at_turn,
    filler_from,
    questions,
    read_variants,
)
from harness.formats.adapt import adapt_to_format
from harness.formats.render import render
from harness.records import CaseVariant
from harness.tokens.encode import prompt_ids
from tests.evaluation.conftest import ask

FILLER = filler_from(load_cases(()))
CASE = ask("a1", "Say hello.", checks=[{"contains": "hello"}])
FACTS = replace(
    ask("m1", "What is my dog called?", checks=[{"contains": "rollo"}]),
    messages=(
        Message("system", "Be kind."),
        Message("user", "My dog is Rollo."),
        Message("assistant", "Good."),
        Message("user", "What is my dog called?"),
    ),
)


@given(st.integers(20, 4000))
def test_a_case_is_moved_behind_as_many_tokens_as_asked(tokens):
    made = at_depth(CASE, tokens, FILLER)
    assert (
        made.messages[-1] == CASE.messages[-1]
        and made.checks == CASE.checks
        and made.variant == CaseVariant("a1", tokens)
    )
    assert [m.role for m in made.messages[:-1]] == ["user", "assistant"] * (len(made.messages) // 2)
    size = sum(len(m.content) for m in made.messages[:-1])
    assert size <= tokens * CHARS_PER_TOKEN
    assert size >= tokens * CHARS_PER_TOKEN - 60
    assert all(message.content.strip() for message in made.messages)


def test_the_system_prompt_stays_first():
    made = at_depth(FACTS, 300, FILLER)
    assert made.messages[0] == Message("system", "Be kind.") and made.messages[1].role == "user"
    assert made.messages[-3:] == FACTS.messages[-3:]


@pytest.mark.parametrize(("tokens", "words"), [(0, "invalid depth"), (10**7, "invalid depth")])
def test_impossible_depths(tokens, words):
    with pytest.raises(HarnessError, match=words):
        at_depth(CASE, tokens, FILLER)


@given(st.integers(0, 100), st.integers(50, 2000))
def test_facts_move_through_the_same_talk(position, tokens):
    made, end = at_position(FACTS, tokens, position, FILLER), at_depth(FACTS, tokens, FILLER)
    assert sorted(m.content for m in made.messages) == sorted(m.content for m in end.messages)
    assert made.messages[0].role == "system" and made.messages[-1] == FACTS.messages[-1]
    assert [m.role for m in made.messages[1:]] == (["user", "assistant"] * len(made.messages))[
        : len(made.messages) - 1
    ]
    at = made.messages.index(FACTS.messages[1])
    assert made.messages[at + 1] == FACTS.messages[2]
    talk = len(made.messages) - 4
    assert abs((at - 1) - talk * position / 100) <= 1
    assert made.variant == CaseVariant("m1", tokens, position)


def test_the_ends_of_the_talk():
    first, last = at_position(FACTS, 500, 0, FILLER), at_position(FACTS, 500, 100, FILLER)
    assert first.messages[1] == FACTS.messages[1]
    assert last.messages == at_depth(FACTS, 500, FILLER).messages
    with pytest.raises(HarnessError, match="invalid position"):
        at_position(FACTS, 500, 101, FILLER)


@given(st.integers(3, 200))
def test_a_case_is_asked_as_a_later_question(turn):
    made = at_turn(FACTS, turn, FILLER)
    assert (
        questions(made) == turn
        and made.messages[-3:] == FACTS.messages[-3:]
        and made.messages[0].role == "system"
    )
    assert made.variant == CaseVariant("m1", turn=turn)


def test_no_question_is_answered_in_the_talk_before_it():
    question, _ = FILLER[0]
    made = at_turn(ask("q", question, checks=[{"contains": "x"}]), 4, FILLER)
    assert [m.content for m in made.messages].count(question) == 1


def test_impossible_turns():
    with pytest.raises(HarnessError, match="cannot be asked as question 2"):
        at_turn(FACTS, 2, FILLER)


def test_which_cases_have_which_variants():
    choice = ask("c1", "Yes?", choices=["yes", "no"], answer=0)
    reference = ask("r1", "Why?", reference="So.")
    made = Variants(depths=(300,), positions=(0, 100), turns=(2, 5)).of(
        [CASE, FACTS, choice, reference], FILLER
    )
    assert [case.id for case in made] == [
        "a1@300",
        "m1@300",
        "m1@300/0%",
        "m1@300/100%",
        "a1#turn2",
        "c1#turn2",
        "a1#turn5",
        "m1#turn5",
        "c1#turn5",
    ]


def test_options_of_the_command_line():
    assert read_variants(["500", "90%", "2000"], ["0", "50%"], ["4"]) == Variants(
        (500, 2000), (90,), (0, 50), (4,)
    )
    for words, match in (
        ((["x"], [], []), "--depths 'x'"),
        ((["120%"], [], []), "--depths '120%'"),
        ((["5"], ["101"], []), "--positions '101'"),
        (([], ["50"], []), "say how much"),
        (([], [], ["1"]), "--turns '1'"),
    ):
        with pytest.raises(HarnessError, match=match):
            read_variants(*words)


@pytest.mark.parametrize("share", [25, 50, 100])
def test_a_percentage_of_the_window_fits_in_every_format(tiny, formats, share):
    """The tiny model's window is 2048 tokens; its tokenizer makes some three of a word, and an
    exchange takes about 150 in the widest format: less than that is left free.
    """
    made = variants_of(Variants(window_percents=(share,)), [CASE, FACTS], formats, tiny, 64)
    assert len(made) == 2
    sizes = []
    for case in made:
        for chat_format in formats:
            rendered = render(
                adapt_to_format(case.conversation, chat_format),
                chat_format,
                add_generation_prompt=True,
                bos_token="",
                eos_token="<|im_end|>",
            )
            sizes.append(len(prompt_ids(rendered, tiny.tokenizer)))
    room = 2048 * share // 100 - 64
    assert room - 160 < max(sizes) <= room


def test_a_window_must_be_known_and_large_enough(tiny, formats):
    with pytest.raises(HarnessError, match="runs elsewhere"):
        variants_of(Variants(window_percents=(50,)), [CASE], formats, None, 64)
    with pytest.raises(HarnessError, match="no room"):
        variants_of(Variants(window_percents=(3,)), [CASE], formats, tiny, 64)
    assert variants_of(Variants(), [CASE], formats, tiny, 64) == []


def test_other_talk_does_not_hold_the_answer():
    filler = [
        ("Who wrote Romeo and Juliet?", "William Shakespeare wrote it."),
        ("Where is Oslo?", "In Norway."),
        ("A pet?", "A cat."),
    ]
    checked = ask("a", "Which playwright?", checks=[{"contains": "shakespeare"}])
    picked = ask("c", "Which capital?", choices=["Norway", "Peru"], answer=0)
    for case, secret in ((checked, "Shakespeare"), (picked, "Norway")):
        for made in (at_depth(case, 300, filler), at_turn(case, 5, filler)):
            talk = " ".join(message.content for message in made.messages[:-1])
            assert secret not in talk and "A cat." in talk
    assert "Norway" in at_depth(picked, 100, filler[1:2]).messages[1].content, (
        "nothing else is left"
    )


def test_ids_and_digests_of_variants_stay():
    """Stored results are found by them, so they never change; the field ``variant`` is no part."""
    case = ask("x", "Where is Oslo?", choices=["Norway", "Peru"], answer=0, name="Ann")
    case = replace(case, expect_language="de")
    filler = [("A pet?", "A cat.")]
    made = (case, at_turn(case, 2, filler), at_depth(case, 60, filler))
    assert {case.id: case_digest(case) for case in made} == {
        "x": "b4188f4021c2e3f6",
        "x#turn2": "1b306e45684b49a2",
        "x@60": "c257c74f15eb4314",
    }


def test_an_id_that_looks_like_that_of_a_variant():
    """Only cases made from another are variants, whatever a user calls his own."""
    cases = {id_: ask(id_, "Say hi.", checks=[{"contains": "hi"}]) for id_ in ("a", "a@500")}
    assert dict(_axes(cases))["depth"] == {"a": 0, "a@500": 0}


def test_a_variant_without_its_original_is_a_case_like_others():
    """There is nothing to compare it with, so it counts by its number of questions alone."""
    case = at_turn(CASE, 3, FILLER)
    axes = dict(_axes({case.id: case}))
    assert axes["turn"] == {case.id: 3} and axes["asked as turn"] == {}
