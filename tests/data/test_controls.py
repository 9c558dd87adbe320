"""Rows set aside as controls: drawn within kind and length, the same at each run, from one pool."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.conversation import Conversation, Message, Tool, ToolCall
from harness.data.controls import (
    are_among,
    fingerprint,
    is_answered,
    possible_controls,
    set_aside,
    without,
)


def row(id: str, answer: str, kind: str = "", question: str = "") -> Conversation:
    messages = (Message("user", question or f"question {id}?"), Message("assistant", answer))
    return Conversation(id, messages, (kind,) if kind else ())


def rows(n: int, kinds=("",), seed: int = 0) -> list[Conversation]:
    rng = random.Random(seed)
    return [row(f"{n}-{i}", "word " * rng.randint(1, 60), rng.choice(kinds)) for i in range(n)]


@given(st.integers(1, 120), st.data())
def test_as_many_as_asked_for_each_of_them_once(n, data):
    pool = rows(n)
    count = data.draw(st.integers(0, n))
    chosen = set_aside(pool, count)
    assert len(chosen) == len({one.id for one in chosen}) == count
    assert chosen == [one for one in pool if one in chosen]  # in their order
    assert len(without(pool, chosen)) == n - count


def test_the_choice_depends_on_texts_and_seed_alone():
    pool = rows(200, "abc")
    chosen = {fingerprint(one) for one in set_aside(pool, 40)}
    renamed = [replace(one, id=f"x{at}") for at, one in enumerate(reversed(pool))]
    assert {fingerprint(one) for one in set_aside(renamed, 40)} == chosen
    assert {fingerprint(one) for one in set_aside(pool, 40, seed=1)} != chosen


def test_kinds_and_lengths_are_those_of_the_pool():
    pool = rows(400, ("short", "long"))
    pool = [
        one
        if one.tags != ("long",)
        else replace(
            one,
            messages=(
                one.messages[0],
                replace(one.messages[1], content=one.messages[1].content * 9),
            ),
        )
        for one in pool
    ]
    chosen = set_aside(pool, 100)
    share = Counter(one.tags for one in pool)
    assert all(
        abs(count - share[tag] / 4) <= 1 for tag, count in Counter(o.tags for o in chosen).items()
    )
    order = sorted(pool, key=lambda o: (o.tags, len(o.messages[-1].content), fingerprint(o)))
    places = [at for at, one in enumerate(order) if one in chosen]
    assert [place // 4 for place in places] == list(range(100))  # one of each four neighbours


def test_each_row_is_as_likely_as_any_other():
    pool = rows(60)
    times = Counter(one.id for seed in range(600) for one in set_aside(pool, 15, seed))
    assert set(times) == {one.id for one in pool}
    assert all(90 <= count <= 215 for count in times.values())  # 150 expected, sd 10.6


def test_what_is_trained_on_elsewhere_or_has_no_answer_is_never_a_control():
    twice = row("1", "the same"), row("2", "the same", question="question 1?")
    open_end = Conversation("3", (Message("user", "and?"),))
    pool = [*twice, open_end, *rows(5)]
    assert {one.id for one in set_aside(pool, 5)} == {one.id for one in rows(5)}
    with pytest.raises(ValueError, match="only 5"):
        set_aside(pool, 6)


def test_sets_are_strata_too():
    pool = rows(100)
    set_of = {one.id: int(at >= 80) for at, one in enumerate(pool)}
    assert Counter(set_of[one.id] for one in set_aside(pool, 20, 0, set_of)) == {0: 16, 1: 4}


def test_texts_are_compared_not_ids():
    pool = rows(4)
    renamed = [replace(one, id="other", source="f:1") for one in pool[:2]]
    assert are_among(renamed, pool) and not are_among(pool, renamed) and not are_among([], pool)
    assert without(pool, renamed) == pool[2:]


def test_a_digest_of_words_alone_is_as_it_was_and_thoughts_and_calls_change_it():
    plain = Conversation("a", (Message("user", "q", "Ann"), Message("assistant", "a")))
    before = json.dumps([["user", "q", "Ann"], ["assistant", "a", None]])
    assert fingerprint(plain) == hashlib.sha256(before.encode()).hexdigest()
    asked, answer = plain.messages
    call = ToolCall("f", "{}")
    tool = Tool('{"type": "function", "function": {"name": "f"}}')
    others = [
        replace(plain, messages=(asked, replace(answer, reasoning="t"))),
        replace(plain, messages=(asked, replace(answer, tool_calls=(call,)))),
        replace(plain, messages=(asked, replace(answer, tool_calls=(replace(call, id="x"),)))),
        replace(plain, tools=(tool,)),
    ]
    assert len({*map(fingerprint, (plain, *others))}) == 5


def test_a_row_that_ends_in_a_call_or_a_thought_is_no_control():
    call = Message("assistant", "I look.", tool_calls=(ToolCall("f", "{}"),))
    asked, result, answer = Message("user", "q"), Message("tool", "r"), Message("assistant", "a")
    ends = {"words": (asked, answer), "call": (asked, call), "thought": (asked,)}
    ends["thought"] = (asked, replace(answer, content="", reasoning="t"))
    ends["after a result"] = (asked, call, result, answer)
    found = possible_controls([Conversation(name, end) for name, end in ends.items()])
    assert [one.id for one in found] == ["words", "after a result"]
    assert [one.id for one in found if is_answered(one)] == ["words"]  # recall is of these
