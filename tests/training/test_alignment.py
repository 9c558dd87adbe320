"""Two tokenisations of one answer, matched by its characters."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.conversation import Conversation, Message, Tool, ToolCall
from harness.formats import load_formats
from harness.formats.adapt import adapt_to_format
from harness.formats.render import render
from harness.tokens.encode import encode
from harness.training.distill.alignment import (
    LEFT_OUT,
    AnswerToken,
    AnswerTokens,
    align,
    answers_of,
    logit_rows,
    opening_table,
)
from tests.tiny import build_tokenizer
from tests.tokens.test_encode import metaspace_tokenizer

TOKENIZER = build_tokenizer()
FORMATS = load_formats()
NATIVE = FORMATS["chatml"]
WRITTEN = (
    "alpaca-newline",
    "vicuna-v1.1",
    "llama2-chat",
    "llama3",
    "roleplay-names",
    "smollm2",
    "openchat-3.5",
)


def written(words: str, format, tokenizer=TOKENIZER, *, system: bool = False):
    head = (Message("system", "the rules"),) if system else ()
    conversation = Conversation("x", (*head, Message("user", "fox?"), Message("assistant", words)))
    return render(
        adapt_to_format(conversation, format),
        format,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
    )


def answer(words: str, format, tokenizer=TOKENIZER) -> AnswerTokens:
    [found] = answers_of(written(words, format), tokenizer).values()
    return found


def cut(words: str, lead: str, stop: str, cuts: list[int]) -> AnswerTokens:
    """An answer whose tokens end wherever ``cuts`` say; each id is the token's text, hashed."""
    text = lead + words + stop
    edges = sorted({0, len(text), *(c % len(text) for c in cuts)})
    tokens = [
        AnswerToken(n + 7, hash(text[a:b]), a - len(lead), b - len(lead))
        for n, (a, b) in enumerate(pairwise(edges))
    ]
    return AnswerTokens(words, lead, tuple(tokens))


WORDS = st.text("ab c", min_size=1).map(str.strip).filter(bool)
CUTS = st.lists(st.integers(0, 60), max_size=12)
LEADS = st.sampled_from(["", " ", "\n", "  "])
STOPS = st.sampled_from(["|", "\n#", "</s>"])


@given(WORDS, LEADS, LEADS, STOPS, STOPS, CUTS, CUTS)
@settings(max_examples=300)
def test_pairs_stand_behind_the_same_words_and_in_order(words, lead, other, stop, end, cuts, marks):
    first, second = cut(words, lead, stop, cuts), cut(words, other, end, marks)
    pairs = align(first, second)
    for a, b, place in pairs:
        start, begin = first.tokens[a].start, second.tokens[b].start
        if place == "opening":
            assert start <= 0 < first.tokens[a].end and begin <= 0 < second.tokens[b].end
        else:
            assert (
                start == begin
                and 0 < start <= len(words)
                and (place == "stop") == (start == len(words))
            )
    assert all(p.first < q.first and p.second < q.second for p, q in pairwise(pairs))
    both = {t.start for t in first.tokens} & {t.start for t in second.tokens}
    assert {first.tokens[p.first].start for p in pairs if p.place != "opening"} == {
        s for s in both if 0 < s <= len(words)
    }


@given(WORDS, WORDS, CUTS, CUTS)
def test_different_words_are_never_paired(words, others, cuts, marks):
    pairs = align(cut(words, "", "|", cuts), cut(others, "", "|", marks))
    assert bool(pairs) == (words == others)


@given(WORDS, LEADS, STOPS, CUTS)
def test_an_answer_beside_itself_is_covered_up_to_its_stop(words, lead, stop, cuts):
    whole = cut(words, lead, stop, cuts)
    covered = {pair.first for pair in align(whole, whole)}
    assert all(pair.first == pair.second for pair in align(whole, whole))
    assert covered == {n for n, t in enumerate(whole.tokens) if t.end > 0 and t.start <= len(words)}


@given(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30
    ).filter(lambda t: t.strip())
)
@settings(max_examples=60)
def test_any_words_are_paired_between_real_formats(words):
    """Emoji fall into several tokens of one character: those are paired only behind the same bytes."""
    native = answer(words, NATIVE)
    for name in WRITTEN:
        other = answer(words, FORMATS[name])
        pairs = align(other, native)
        assert pairs and pairs[0].place == "opening"
        for a, b, place in pairs:
            mine, theirs = other.tokens[a], native.tokens[b]
            assert mine.start == theirs.start or place == "opening"
        spelt = [
            [(n, t.id) for n, t in enumerate(one.tokens) if t.end > 0 and t.start < len(one.words)]
            for one in (other, native)
        ]
        if [id for _, id in spelt[0]] == [id for _, id in spelt[1]]:
            assert {p.first for p in pairs if p.place != "stop"} == {n for n, _ in spelt[0]}


def test_the_tokens_of_an_answer_are_the_rows_trained_ones():
    for name in WRITTEN:
        rendered = written("the lazy dog", FORMATS[name], system=True)
        encoded = encode(rendered, TOKENIZER)
        [found] = answers_of(rendered, TOKENIZER).values()
        assert (
            {token.at for token in found.tokens}
            == {at for at, trained in enumerate(encoded.trained) if trained}
            == set(logit_rows(encoded))
        )
        assert all(encoded.ids[token.at] == token.id for token in found.tokens)
        assert (
            "".join(found.leading_in(t) for t in found.tokens[:1])
            == found.leading[: len(found.leading)]
            or found.tokens[0].end <= 0
        )


def test_a_space_before_the_first_word_is_the_lead():
    vicuna, chatml = answer("Oslo.", FORMATS["vicuna-v1.1"]), answer("Oslo.", NATIVE)
    assert (vicuna.leading, chatml.leading) == (" ", "")
    opening = align(vicuna, chatml)[0]
    assert opening.place == "opening"
    assert (
        vicuna.leading_in(vicuna.tokens[opening.first]) == " "
        or vicuna.tokens[opening.first].start == 0
    )


TOKENIZERS = {
    "bytes": TOKENIZER,
    "metaspace first": metaspace_tokenizer("first"),
    "metaspace always": metaspace_tokenizer("always"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_token_is_translated_to_what_opens_the_same_text_behind_the_other_lead(name):
    tokenizer = TOKENIZERS[name]
    from harness.tokens.encode import first_ids, texts_of

    size = len(tokenizer) + 5
    table = opening_table(tokenizer, size, "", " ")
    words = [id for id in range(len(tokenizer)) if id not in tokenizer.added_tokens_decoder]
    for id, text in zip(words, texts_of(words, tokenizer), strict=True):
        if text and "\ufffd" not in text:
            assert table[id] == first_ids([" " + text], tokenizer)[0], text
    assert table[len(tokenizer) :].tolist() == list(range(len(tokenizer), size))
    assert all(table[id] == id for id in tokenizer.added_tokens_decoder)
    assert opening_table(tokenizer, size, " ", " ").tolist() == list(range(size))


def test_a_token_without_the_lead_that_is_to_go_is_left_out():
    table = opening_table(TOKENIZER, len(TOKENIZER), " ", "")
    spaced, plain = (
        TOKENIZER(text, add_special_tokens=False).input_ids for text in (" fox", "fox")
    )
    assert len(spaced) == 1
    assert table[spaced[0]] == plain[0]
    assert table[plain[0]] == LEFT_OUT


def test_words_between_a_thought_and_a_call_are_aligned_without_them():
    call = ToolCall("weigh", '{"parcel": 7}')
    tool = Tool('{"type": "function", "function": {"name": "weigh", "parameters": {}}}')
    thinking = Message("assistant", "the fox is quick", reasoning="brown")
    calling = Message("assistant", "the lazy dog", tool_calls=(call,))
    talk = Conversation(
        "x",
        (Message("user", "fox?"), thinking, Message("user", "dog?"), calling),
        tools=(tool,),
    )
    for format_id in ("qwen3", "hermes4"):
        rendered = render(talk, FORMATS[format_id], eos_token="<|im_end|>")
        found = answers_of(rendered, TOKENIZER)
        texts = {
            message: "".join(TOKENIZER.decode([t.id]) for t in answer.tokens).strip()
            for message, answer in found.items()
        }
        assert found[1].words == "the fox is quick" and texts[1].startswith("the fox is quick")
        assert "brown" not in texts[1] and found[1].leading.strip() == ""
        assert texts[3] == "the lazy dog"
    alone = Conversation("y", (Message("user", "fox?"), Message("assistant", "the fox is quick")))
    [plain] = answers_of(render(alone, NATIVE, eos_token="<|im_end|>"), TOKENIZER).values()
    pairs = align(found[1], plain)
    assert pairs and pairs[-1].place == "stop"
