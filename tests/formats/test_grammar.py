"""Formats drawn from the grammar: reproducible, different, and as sound as the shipped ones."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.conversation import Conversation
from harness.errors import HarnessError
from harness.formats import load_format, load_formats
from harness.formats.grammar.sample import SAMPLERS, sample, sample_by_name, to_format
from harness.formats.grammar.symbols import (
    BRACKETS,
    DELIMITERS,
    EDGES,
    LEADS,
    LINKS,
    PHRASES,
    ROLES,
    TAG_ROLES,
    THINGS,
)
from harness.formats.grammar.tag_style import SHAPES, draw_tags
from harness.formats.properties import check_format
from harness.formats.render import render
from harness.formats.turns import EOS
from tests.formats.test_render import EXAMPLES, conversations

STYLES = ["markdown", "tags"]
SAMPLES = {
    (style, split): sample(n, 7, split, style=style)
    for style in STYLES
    for split, n in ((None, 300), ("train", 100), ("test", 100))
}
SAMPLED = {chat_format.id: chat_format for sampled in SAMPLES.values() for chat_format in sampled}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("split", [None, "train", "test"])
def test_a_seed_gives_the_same_formats_and_more_only_adds(split, style):
    few, many = sample(50, 3, split, style=style), sample(200, 3, split, style=style)
    assert many[:50] == few
    assert (
        len({f.id for f in many})
        == len({f.digest for f in many})
        == len({f.template for f in many})
        == 200
    )
    assert [f.id for f in sample(50, 4, split, style=style)] != [f.id for f in few]


def test_a_compositional_split_shares_no_constant():
    def headers(formats):
        return {text for chat_format in formats for text in chat_format.roles.values()}

    train, test = sample(400, 1, "train"), sample(400, 1, "test")
    assert not headers(train) & headers(test)
    words = [{word.lower() for group in ROLES[side::2] for word in group} for side in (0, 1)]
    assert not words[0] & words[1]
    marks = [{(opens, closes) for opens, closes, _ in DELIMITERS[side::2]} for side in (0, 1)]
    assert not marks[0] & marks[1]
    assert not set(LEADS[0::2]) & set(LEADS[1::2])


def test_the_halves_of_tags_share_no_word():
    def words(side):
        lists = (EDGES[side::2], TAG_ROLES[side::2])
        return (
            {word for group in lists for pair in group for word in pair}
            | set(THINGS[side::2])
            | set(PHRASES[side::2])
        )

    assert len(set(THINGS)) == len(THINGS)
    shared = {
        "user",
        "human",
        "system",
    }  # role names that no model does without; the marks around them differ
    assert not (words(0) & words(1)) - shared
    assert not set(BRACKETS[0::2]) & set(BRACKETS[1::2]) and not set(LINKS[0::2]) & set(LINKS[1::2])


def test_no_shipped_format_holds_a_mark_that_may_be_drawn():
    """A family that is held out stays unseen, however many formats are drawn."""
    shipped = " ".join(chat_format.template for chat_format in load_formats().values())
    specs = [draw_tags(Random(seed), None) for seed in range(3000)]
    assert {spec.shape for spec in specs} == set(SHAPES)
    for turns in (spec.turns() for spec in specs):
        marks = [turns.user_open.strip(), turns.assistant_open.strip(), turns.stop.replace(EOS, "")]
        assert not [mark for mark in marks if mark and mark in shipped]


def test_a_random_split_keeps_the_combinations_apart():
    train, test = (sample(300, 1, split, compositional=False) for split in ("train", "test"))
    assert not {f.digest for f in train} & {f.digest for f in test}
    assert {f.family for f in train} == {"grammar-train"}


@pytest.mark.parametrize(("style", "split"), SAMPLES)
def test_every_sampled_format_has_all_its_properties(style, split):
    for report in map(check_format, SAMPLES[style, split]):
        assert report.findings == (), report.format
        lacking = {name for name, value in report.properties.items() if value is not True}
        assert lacking == {"thoughts", "calls", "results"}, report.format


@given(conversations(), st.sampled_from(list(SAMPLED)))
@settings(max_examples=EXAMPLES)
def test_nothing_is_lost_and_only_answers_are_trained(conversation, format_id):
    chat_format = SAMPLED[format_id]
    rendered = render(conversation, chat_format, bos_token="<s>", eos_token="</s>")
    for index, message in enumerate(conversation.messages):
        shown = "".join(
            rendered.text[s.start : s.end]
            for s in rendered.spans
            if s.kind == "content" and s.message == index
        )
        assert shown == message.content
    for span in rendered.spans:
        if span.trained and span.kind == "content":
            assert conversation.messages[span.message].role == "assistant"
    *context, answer = conversation.messages
    prompt = render(
        Conversation("c", tuple(context)),
        chat_format,
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
    )
    assert rendered.text.startswith(prompt.text) and answer.role == "assistant"


def test_a_sampled_format_written_to_a_file_is_the_same(tmp_path):
    for style, seed in product(STYLES, range(40)):
        spec = SAMPLERS[style](Random(seed), None)
        file = tmp_path / f"{spec.id}.jinja"
        file.write_text(spec.source("grammar"))
        assert load_format(file).digest == to_format(spec).digest


def test_settings_name_a_sample():
    assert load_formats().select(["grammar:5:seed=7:split=train"]) == sample(5, 7, "train")
    assert sample_by_name("grammar:3") == sample(3, 0)
    assert sample_by_name("grammar:3:style=tags:split=train") == sample(3, 0, "train", style="tags")
    assert sample_by_name("grammar:3:split=test:random") == sample(
        3, 0, "test", compositional=False
    )


@pytest.mark.parametrize(
    "name",
    [
        "grammar:",
        "grammar:0",
        "grammar:x",
        "grammar:3:seed=a",
        "grammar:3:seed=-1",
        "grammar:3:split=dev",
        "grammar:3:style=xml",
        "grammar:3:sed=1",
    ],
)
def test_an_invalid_sample_is_an_error(name):
    with pytest.raises(HarnessError, match=name):
        load_formats().select([name])
