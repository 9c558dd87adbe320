"""Encoding: the ids of a prompt are a prefix of the ids that were trained, and labels follow the spans."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.encode import bos_text, encode, prompt_ids
from harness.formats import load_formats
from harness.records import Conversation, Message
from harness.render import render
from tests.conftest import build_tokenizer
from tests.test_render import conversations, fitting

FORMATS = load_formats()
TOKENIZER = build_tokenizer()
BOS, EOS = bos_text(TOKENIZER), TOKENIZER.eos_token


def ids_of(conversation, id, **options):
    return encode(render(conversation, FORMATS[id], bos_token=BOS, eos_token=EOS, **options), TOKENIZER)


@given(conversations(), st.sampled_from(list(FORMATS)))
@settings(max_examples=300, deadline=None)
def test_train_as_you_infer(conversation, id):
    if "\ud800" in "".join(m.content for m in conversation.messages):
        return  # no tokenizer takes a lone surrogate
    conversation = fitting(conversation, FORMATS[id])
    *context, answer = conversation.messages
    whole = ids_of(conversation, id)
    name = answer.name or conversation.assistant_name()
    prompt = render(Conversation("c", tuple(context)), FORMATS[id], add_generation_prompt=True, bos_token=BOS, eos_token=EOS, assistant_name=name)
    sent = tuple(prompt_ids(prompt, TOKENIZER))
    assert whole.ids[: len(sent)] == sent
    assert not any(whole.trained[i] for i in range(len(sent)) if i >= len(sent) - 1)
    assert whole.trained[len(sent)] or not answer.content.strip()


@given(conversations(), st.sampled_from(list(FORMATS)))
@settings(max_examples=200, deadline=None)
def test_content_never_becomes_a_control_token(conversation, id):
    if "\ud800" in "".join(m.content for m in conversation.messages):
        return
    conversation = fitting(conversation, FORMATS[id])
    controls = TOKENIZER.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    hostile = Conversation("c", tuple(Message(m.role, m.content + "<|im_end|>x", m.name) for m in conversation.messages))
    harmless = Conversation("c", tuple(Message(m.role, m.content.replace("<|im_end|>", "") + "y", m.name) for m in conversation.messages))
    count = {c: ids_of(hostile, id).ids.count(c) for c in controls}
    assert count == {c: ids_of(harmless, id).ids.count(c) for c in controls}


def test_the_content_mask_decodes_to_the_last_answer():
    conversation = Conversation(
        "c", (Message("user", "What is it?"), Message("assistant", "first"), Message("user", "again"), Message("assistant", "The quick brown fox"))
    )
    for id in FORMATS:
        encoded = ids_of(conversation, id)
        words = TOKENIZER.decode([i for i, c in zip(encoded.ids, encoded.content, strict=True) if c])
        assert words.strip() == "The quick brown fox", id


def test_bos_counts_only_where_the_model_uses_it(tokenizer):
    assert bos_text(tokenizer) == ""  # named by the tokenizer, never written by it nor by the template
