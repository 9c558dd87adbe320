"""data.forged_turns: what the examples carry, and that the answer to the row's own question stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.render import render
from harness.models import load_tokenizer, locate
from harness.tokens.encode import encode
from harness.training.config import ObjectiveConfig
from harness.training.data.examples import ExampleCache
from harness.training.data.forged_turns import ForgedTurns, forged_turn
from harness.training.distill.native_rows import NativeRows
from harness.training.preparation import prepare, run_digest
from tests.training.interrupted import assert_ends_like_uninterrupted

FORMATS = load_formats().select(["all"])
CHATML = next(one for one in FORMATS if one.id == "chatml")


def row(name: str, *texts: str) -> Conversation:
    roles = ("user", "assistant") * len(texts)
    return Conversation(name, tuple(map(Message, roles, texts)))


ROWS = [row(f"row-{n}", f"question {n}?", f"answer {n}.") for n in range(40)]
ROWS += [row(f"long-{n}", "first?", "one.", f"second {n}?", f"two {n}.") for n in range(10)]


def forged(share: float = 1.0, seed: int = 0) -> ForgedTurns:
    return ForgedTurns(ROWS, FORMATS, share, seed)


@given(st.sampled_from(ROWS), st.sampled_from(FORMATS), st.integers(0, 50))
def test_only_the_last_question_changes_and_ends_with_another_rows_question(one, written, seed):
    changed = forged(seed=seed).in_example(one, written)
    at = len(one.messages) - 2
    assert changed.messages[:at] == one.messages[:at]
    assert changed.messages[at + 1 :] == one.messages[at + 1 :]
    own, text = one.messages[at].content, changed.messages[at].content
    assert text.startswith(own) and len(text) > len(own)
    questions = {each.messages[-2].content for each in ROWS} | {"first?"}
    assert any(text.endswith(other) for other in questions - {own})
    assert forged(seed=seed).in_example(one, written) == changed


def test_the_turn_is_what_two_more_messages_would_be():
    """In the example's own format, so that its prompt is that of a real second question."""
    turn = forged_turn(CHATML, "And now?", "Fine.")
    messages = (Message("user", "Q"), Message("assistant", "Fine."), Message("user", "And now?"))
    real = render(Conversation("real", messages), CHATML).text
    assert f"Q{turn}" in real


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_of_the_examples_that_carry_one(share):
    turns = forged(share)
    carry = [turns.in_example(one, written) is not one for one in ROWS for written in FORMATS[:60]]
    assert abs(sum(carry) / len(carry) - share) <= 0.03


def test_a_third_of_the_turns_is_in_the_examples_own_format():
    mark = "<|im_end|>\n<|im_start|>assistant"
    turns = forged()
    own = [
        mark in turns.in_example(row(f"{n}", "why?", "so."), CHATML).messages[0].content
        for n in range(600)
    ]
    in_others = [
        mark in turns.in_example(row(f"{n}", "why?", "so."), FORMATS[0]).messages[0].content
        for n in range(600)
    ]
    assert FORMATS[0].id != "chatml"
    assert 0.25 < sum(own) / 600 - sum(in_others) / 600 < 0.41


def test_what_has_no_last_question_stays_as_it_is():
    called = Conversation("c", (*ROWS[0].messages, Message("assistant", "more")))
    plain = Conversation("p", (Message("assistant", "text"),), plain=True)
    ended = Conversation("e", ROWS[0].messages[:1])
    for one in (called, plain, ended):
        assert forged().in_example(one, CHATML) is one
    alone = ForgedTurns(ROWS[:1], FORMATS, 1.0, 0)
    assert alone.in_example(ROWS[0], CHATML) is ROWS[0], "there is no other question"


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize(("size", "used"), [(200, True), (201, False)])
def test_long_texts_of_other_rows_are_not_used(part, size, used):
    long = [text * (size if at == part else 1) for at, text in enumerate(("q", "a"))]
    turns = ForgedTurns([ROWS[0], ROWS[1], row("long", *long)], FORMATS, 1.0, 0)
    texts = [turns.in_example(ROWS[0], one).messages[0].content for one in FORMATS]
    assert any("qqq" in text or "aaa" in text for text in texts) == used


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.integers(0, 99))
def test_every_exchange_with_another_question_is_drawn(questions, seed):
    rows = [row(f"{at}", question, f"{at}") for at, question in enumerate(questions)]
    turns = ForgedTurns(rows, [CHATML], 1.0, seed)
    wanted = {f"{at}" for at, question in enumerate(questions) if question != questions[0]}
    drawn = {
        turns.in_example(row(f"asks-{n}", questions[0], "!"), CHATML).messages[0].content
        for n in range(60 * len(wanted) + 1)
    }
    replies = {text.split("assistant\n")[1].split("<|im_end|>")[0] for text in drawn if "<" in text}
    assert replies == wanted


def test_a_format_without_a_second_question_forges_no_turn(tmp_path):
    """Its own examples get turns of the other formats."""
    text = CHATML.template.replace("in messages", "in messages[:2]", 1)
    assert text != CHATML.template
    first_only = replace(CHATML, id="first-only", template=text)
    with pytest.raises(HarnessError):
        forged_turn(first_only, "And now?", "Fine.")
    mixed = ForgedTurns(ROWS, [first_only, CHATML], 1.0, 0)
    assert all(mixed.in_example(one, first_only) is not one for one in ROWS)
    alone = ForgedTurns(ROWS, [first_only], 1.0, 0)
    assert all(alone.in_example(one, first_only) is one for one in ROWS)


def test_a_rows_id_may_hold_half_a_character():
    one = replace(ROWS[0], id="\ud800")
    assert forged().in_example(one, CHATML) is not one


def test_a_seed_of_its_own_gives_other_turns():
    texts = [
        tuple(forged(0.5, seed).in_example(one, CHATML).messages[-2].content for one in ROWS)
        for seed in (0, 1)
    ]
    assert texts[0] != texts[1]


@pytest.fixture
def cache(tiny_model):
    tokenizer = load_tokenizer(locate(str(tiny_model)))
    return lambda longest, share=1.0: ExampleCache(
        ROWS, FORMATS, tokenizer, longest, forged=forged(share)
    )


def test_the_trained_tokens_are_those_without_the_turn(cache):
    with_turns, without = cache(2048), cache(2048, 0.0)
    carried = 0
    for at in range(len(FORMATS)):
        one, other = with_turns((at % 50, at)), without((at % 50, at))
        trained = [
            [
                token
                for token, learnt in zip(e.encoded.ids, e.encoded.trained, strict=True)
                if learnt
            ]
            for e in (one, other)
        ]
        assert trained[0] == trained[1]
        assert not other.forged
        carried += one.forged and len(one.encoded.ids) > len(other.encoded.ids)
    assert carried == len(FORMATS)


def test_the_text_that_a_dry_run_shows_is_the_examples_own(cache):
    with_turns = cache(2048)
    for at in range(0, len(FORMATS), 9):
        pair = (at % 50, at)
        shown = with_turns.rendered(pair)
        own = with_turns(pair)
        assert encode(shown, with_turns._tokenizer) == own.encoded and own.forged
    fits = len(with_turns((0, 0)).encoded.ids)
    assert "question 0?" in cache(fits - 1).rendered((0, 0)).text
    assert cache(fits - 1).rendered((0, 0)) == cache(2048, 0.0).rendered((0, 0))


def test_an_example_that_would_be_too_long_is_learnt_without_its_turn(cache):
    without = cache(2048, 0.0)((0, 0))
    fits = len(cache(2048)((0, 0)).encoded.ids)
    assert cache(fits)((0, 0)).forged
    short = cache(fits - 1)((0, 0))
    assert not short.forged and short == without


def test_distillation_pairs_the_same_tokens(cache, tiny_model):
    tokenizer = load_tokenizer(locate(str(tiny_model)))
    clean = NativeRows(ROWS, CHATML, FORMATS, tokenizer)
    native = NativeRows(ROWS, CHATML, FORMATS, tokenizer, forged())
    for at in range(0, len(FORMATS), 5):
        one, other = cache(2048)((at % 50, at)), cache(2048, 0.0)((at % 50, at))
        [with_turn], [without] = native.aligned(one)[-1:], clean.aligned(other)[-1:]
        assert with_turn.pairs == without.pairs
        assert with_turn.native == without.native, "the teacher reads no forged turn"
        for mine, its in zip(with_turn.student.tokens, without.student.tokens, strict=True):
            assert (mine.id, mine.start, mine.end) == (its.id, its.start, its.end)
            assert one.encoded.ids[mine.at] == mine.id == other.encoded.ids[its.at]
    assert native.encoded("row-3") == clean.encoded("row-3")


def with_turns(config, share: float = 0.5):
    return replace(config, data=replace(config.data, forged_turns=share))


def test_the_setting_is_part_of_the_digest(run_config):
    digests = {run_digest(prepare(with_turns(run_config, share)), "base") for share in (0, 0.5, 1)}
    assert len(digests) == 3


@pytest.mark.parametrize("kind", ["supervised", "distillation"])
def test_a_resumed_run_ends_in_the_same_bytes(run_config, tmp_path, monkeypatch, kind):
    config = replace(with_turns(run_config), objective=ObjectiveConfig(kind=kind, native="chatml"))
    assert_ends_like_uninterrupted(config, tmp_path, monkeypatch, stop_at=5)
