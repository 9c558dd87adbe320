"""The prompts that are compared, and messages as a chat template gets them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.conversation import Conversation, Message, ToolCall
from harness.errors import HarnessError
from harness.records import KeptTemplate, Rendered, Span
from harness.ship.checks.standard_shapes import TIDES
from harness.ship.checks.trained_texts import (
    rows_of,
    tools_of,
    trained_texts,
    with_other_switch,
)
from tests.ship.artefacts import FORMATS, ROWS, tokenizer_of, trained_in

pytestmark = pytest.mark.local
CHATML = FORMATS["chatml"]
HI, HELLO = Message("user", "Hi"), Message("assistant", "Hello")


def trained(*messages, chat_format=CHATML, kind="bytes", **options):
    row = Conversation("row", messages)
    return trained_texts(chat_format, tokenizer_of(kind), [row], **options)


def own(found):
    return [prompt for prompt in found.prompts if prompt.own]


def test_a_prompt_ends_before_each_trained_answer():
    """Not before an answer that begins the conversation or has no weight."""
    later = [Message("user", "More"), Message("assistant", "x", weight=0.0)]
    begin = (HELLO, Message("system", "Be brief."), HI)
    found = own(trained(*begin, HELLO, *later, HI, replace(HELLO, weight=0.5)))
    assert [len(prompt.conversation.messages) for prompt in found] == [3, 7]
    assert [prompt.where for prompt in found] == ["row, answer 2", "row, answer 4"]
    assert found[0].rendered.text.endswith("Hi<|im_end|>\n<|im_start|>assistant\n")
    assert found[0].without_prompt == found[0].rendered.text.removesuffix("<|im_start|>assistant\n")


def test_a_text_that_a_prompt_does_not_extend_is_not_kept(monkeypatch):
    """Neither one that cannot be rendered without its generation prompt, nor an equal one."""
    from harness.ship.checks import trained_texts as module

    ours = module.render

    def rendering(plain):
        def render(conversation, chat_format, *, add_generation_prompt, **options):
            whole = ours(conversation, chat_format, add_generation_prompt=True, **options)
            if conversation.messages[-1].role == "assistant" or add_generation_prompt:
                return whole
            return plain(whole)

        return render

    def refused(whole):
        raise HarnessError("no")

    def other(whole):
        return Rendered("x", (Span(0, 1, "header"),), ())

    for plain in (refused, other, lambda whole: whole):
        monkeypatch.setattr(module, "render", rendering(plain))
        assert [prompt.without_prompt for prompt in own(trained(HI, HELLO))] == [""], plain


def test_a_prompt_that_the_owner_refuses_is_left_out(monkeypatch):
    from harness.ship.checks import trained_texts as module

    ours = module.render

    def render(conversation, chat_format, *, add_generation_prompt, **options):
        if add_generation_prompt and len(conversation.messages) > 1:
            raise HarnessError("no prompt here")
        return ours(
            conversation, chat_format, add_generation_prompt=add_generation_prompt, **options
        )

    monkeypatch.setattr(module, "render", render)
    found = own(trained(HI, HELLO, HI, HELLO))
    assert [len(prompt.conversation.messages) for prompt in found] == [1]


def test_bos_and_eos_are_written_as_trained():
    begins = own(trained(HI, HELLO, chat_format=FORMATS["llama3"], kind="bos"))[0]
    assert begins.rendered.text.startswith("<|endoftext|><|start_header_id|>user")
    vicuna = trained(HI, HELLO, HI, HELLO, chat_format=FORMATS["vicuna-v1.1"])
    assert "Hello<|im_end|>" in own(vicuna)[1].rendered.text
    assert vicuna.tokenizer.eos_token_id not in vicuna.answered, "EOS ends an answer"


def test_who_answers_is_named_in_the_prompt():
    """By the answer's own name, else by the last one of the conversation before it."""
    names = FORMATS["chatml-names"]
    turns = (HI, replace(HELLO, name="Ana"), HI, replace(HELLO, name="Ben"), HI, HELLO)
    texts = [prompt.rendered.text for prompt in own(trained(*turns, chat_format=names))]
    assert [text.rsplit("\n", 2)[1] for text in texts] == [
        "<|im_start|>[Ana]",
        "<|im_start|>[Ben]",
        "<|im_start|>[Ben]",
    ]


def test_rows_and_prompts_are_counted():
    found = trained(HI, HELLO)
    assert found.scope == "1 prompt of 1 row and 8 prompts of standard shapes"
    assert len(own(found)) == 1 and len(found.prompts) == 9
    two = trained_texts(CHATML, tokenizer_of("bytes"), ROWS, most=2)
    assert two.scope.endswith("left out: 2 more prompts") and len(own(two)) == 2
    all_of_them = trained_texts(CHATML, tokenizer_of("bytes"), ROWS, most=4)
    assert "left out" not in all_of_them.scope and len(own(all_of_them)) == 4


def test_a_shape_that_is_refused_is_not_counted(monkeypatch):
    """The user's rows are; and where nothing is left there is nothing to compare."""
    from harness.ship.checks import trained_texts as module

    odd = Conversation("odd", (HI, HI, Message("system", "x"), HI, HELLO))
    monkeypatch.setattr(module, "standard_shapes", lambda _: [odd])
    llama2 = FORMATS["llama2-chat"]
    assert trained(HI, HELLO, chat_format=llama2).scope == (
        "1 prompt of 1 row and 0 prompts of standard shapes"
    )
    with pytest.raises(HarnessError, match="the format llama2-chat renders none of the rows"):
        trained_texts(llama2, tokenizer_of("bytes"), [odd])


def test_the_longest_row_and_what_answers_contain():
    """Ids of ends and of prompts are not inside an answer."""
    tokenizer = tokenizer_of("bytes")
    long = trained(HI, replace(HELLO, content="x " * 300))
    assert long.longest > 300 > trained(HI, HELLO).longest
    answered = trained(Message("user", "~"), HELLO).answered
    assert set(tokenizer("Hello").input_ids) <= answered
    assert not {tokenizer.eos_token_id, *tokenizer("~").input_ids} & answered


def test_ends_of_all_rows_are_collected():
    """An end of an earlier answer counts only if a runtime may stop there."""
    human = FORMATS["human-assistant"]
    assert trained_texts(human, tokenizer_of("bytes")).tails == ("<|im_end|>", "\n\nHuman:")
    without = replace(human, stops=())
    assert trained_texts(without, tokenizer_of("bytes")).tails == ("<|im_end|>",)


def test_every_text_that_can_end_an_answer():
    found = trained_in("chatml")
    more = replace(found, tails=("<|im_end|>", "### End"))
    assert more.stops == ("<|im_end|>", "### End"), "each once"
    assert more.tokens_of("### End") == {}
    both = more.tokens_of("<|im_end|><|im_start|>")
    assert both == {"<|im_end|>": 2, "<|im_start|>": 1}


@pytest.mark.parametrize(
    ("kind", "bos", "written"), [("bytes", "<|endoftext|>", ""), ("bos", *["<|endoftext|>"] * 2)]
)
def test_a_bos_that_is_named_is_not_always_trained(kind, bos, written):
    found = trained(HI, HELLO, kind=kind)
    assert (found.bos, found.bos_written) == (bos, written)


@pytest.mark.parametrize(
    ("template", "dated"),
    [("{{ strftime_now('%Y') }}", True), ("{{ date_string }}", True), ("{{ date }}", False)],
)
def test_a_template_that_writes_the_date(template, dated):
    found = trained_in("chatml")
    assert replace(found, chat_format=replace(CHATML, template=template)).dated is dated


def test_each_other_value_of_each_switch():
    """Not the value that was trained, and no value that the template refuses."""
    found = trained_in("smollm3")
    others = dict(with_other_switch(found, found.prompts[0]))
    assert list(others) == ["enable_thinking=false"]
    assert others["enable_thinking=false"] != found.prompts[0].rendered.text
    assert "<|im_start|>assistant\n" in others["enable_thinking=false"]
    off = replace(found.chat_format, variables={"enable_thinking": False})
    found = replace(found, chat_format=off)
    assert list(dict(with_other_switch(found, found.prompts[0]))) == ["enable_thinking=true"]
    two = "{{ messages[0].content }} {{ one }} {{ two }}"
    pair = replace(CHATML, template=two, switches={"one": [1, 2], "two": [3, 4]})
    pair = replace(pair, variables={"one": 2, "two": 3}, trusted=False)
    texts = dict(with_other_switch(replace(found, chat_format=pair), found.prompts[0]))
    asked = found.prompts[0].conversation.messages[0].content
    assert texts == {"one=1": f"{asked} 1 3", "two=4": f"{asked} 2 4"}
    refuses = "{{ raise_exception('x') if mode == 2 else messages[0].content }}"
    switches = {"mode": [1, 2, 3]}
    strict = replace(CHATML, template=refuses, switches=switches, trusted=False)
    found = replace(found, chat_format=strict)
    assert list(dict(with_other_switch(found, found.prompts[0]))) == ["mode=3"]


CALL = ToolCall("tide_table", '{"place": "Faro"}', "id7")
TALK = Conversation(
    "row",
    (
        Message("user", "How high?", name="Eva"),
        Message("assistant", "", reasoning="hm", tool_calls=(CALL, replace(CALL, id=None))),
        Message("tool", "2", tool_call_id="id7"),
        Message("assistant", "2 metres", reasoning=" "),
    ),
    tools=(TIDES,),
)


def test_messages_as_our_own_templates_get_them():
    user, called, result, answer = rows_of(TALK, FORMATS["qwen3"])
    assert user == {"role": "user", "content": "How high?", "name": "Eva"}
    assert called["reasoning_content"] == "hm" and set(called) == {
        *("role", "content", "reasoning_content", "tool_calls"),
    }
    function = {"name": "tide_table", "arguments": {"place": "Faro"}}
    assert called["tool_calls"] == [
        {"id": "id7", "type": "function", "function": function},
        {"type": "function", "function": function},
    ]
    assert result == {"role": "tool", "content": "2", "tool_call_id": "id7"}
    assert answer == {"role": "assistant", "content": "2 metres"}, "an empty thought is none"
    assert tools_of(TALK) == [TIDES.as_object()] and tools_of(ROWS[0]) is None


def test_messages_as_a_server_gets_them():
    _, called, *_ = rows_of(TALK, FORMATS["qwen3"], as_text=True)
    assert called["tool_calls"][0]["function"]["arguments"] == CALL.arguments


def test_a_format_without_thoughts_gets_none():
    assert "reasoning_content" not in rows_of(TALK, CHATML)[1]


@pytest.mark.parametrize("arguments", ["text", "object"])
def test_messages_as_a_kept_template_gets_them(arguments):
    kept = KeptTemplate(content="parts", arguments=arguments, thought="thinking")
    user, called, *_ = rows_of(TALK, replace(FORMATS["qwen3"], kept=kept))
    assert user["content"] == [{"type": "text", "text": "How high?"}]
    assert called["thinking"] == called["reasoning_content"] == "hm"
    given = called["tool_calls"][0]["function"]["arguments"]
    assert given == (CALL.arguments if arguments == "text" else {"place": "Faro"})
    plain = replace(FORMATS["qwen3"], kept=KeptTemplate())
    assert rows_of(TALK, plain)[0]["content"] == "How high?"
