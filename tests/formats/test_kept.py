"""A kept template: its mask against the marks of an oracle, and faults that are planted in it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.conversation import Conversation, Message, ToolCall
from harness.errors import HarnessError
from harness.formats.adapt import adapt_to_format
from harness.formats.format_set import with_switches
from harness.formats.kept.keeping import keep_template
from harness.formats.kept.kept_facts import find_facts
from harness.formats.kept.kept_probes import Prober
from harness.formats.kept.kept_proof import prove
from harness.formats.parse import parse_answer
from harness.formats.render import render

#: Thoughts of the last turn, calls as JSON, results in the user's block, a prefilled thought.
FULL = (
    "{%- set ns = namespace(last=-1) %}{%- for m in messages %}{%- if m.role == 'user' %}"
    "{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}{{- bos_token }}"
    "{%- for m in messages %}{{- '<|im_start|>' + ('user' if m.role == 'tool' else m.role) + '\n' }}"
    "{%- if m.role == 'assistant' and m.reasoning_content and loop.index0 > ns.last %}"
    "{{- '<think>\n' + m.reasoning_content | trim + '\n</think>\n\n' }}{%- endif %}"
    "{%- if m.role == 'tool' %}{{- '<result>' + m.content + '</result>' }}"
    "{%- else %}{{- m.content }}{%- endif %}"
    "{%- for call in m.tool_calls or [] %}{{- '<call>' + call.function | tojson + '</call>' }}"
    "{%- endfor %}{{- '<|im_end|>\n' }}{%- endfor %}"
    "{%- if tools %}{{- '' }}{%- endif %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n' }}{%- endif %}"
)
LAST_USER = (
    "{%- if messages[0].role == 'system' %}{%- set system = messages[0].content %}"
    "{%- set rest = messages[1:] %}{%- else %}{%- set rest = messages %}{%- endif %}{{- bos_token }}"
    "{%- for m in rest %}{%- if m.role == 'user' %}{{- '[INST]' }}{%- if loop.last and system is "
    "defined %}{{- system + '\n\n' }}{%- endif %}{{- m.content + '[/INST]' }}{%- else %}"
    "{{- m.content + eos_token }}{%- endif %}{%- endfor %}"
)
SWITCHED = FULL.replace(
    "{{- '<|im_start|>assistant\n<think>\n' }}",
    "{{- '<|im_start|>assistant\n' }}{%- if enable_thinking is defined and not enable_thinking %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}",
)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cn", "Co"]), min_size=1)
WORDS = WORDS.map(str.strip).filter(bool)


@pytest.fixture(scope="module")
def full():
    return keep_template(FULL, "full", where="full").format


def trained(rendered):
    return [(s.kind, rendered.text[s.start : s.end]) for s in rendered.spans if s.trained]


def test_facts_are_found_by_probing(full):
    assert (full.system, full.reasoning, full.tools) == ("own", "last-turn", "own")
    assert full.stops == ("<|im_end|>",) and full.thought_marks.close == "</think>"


def test_thoughts_and_calls_have_spans_of_their_own(full):
    call = ToolCall("look", '{"word": "a"}')
    messages = (
        Message("user", "q"),
        Message("assistant", "old", reasoning="gone"),
        Message("user", "r"),
        Message("assistant", "let me see", reasoning="hm", tool_calls=(call,)),
        Message("tool", "found", name="look"),
        Message("assistant", "done", reasoning="so"),
    )
    rendered = render(Conversation("c", messages), full)
    assert rendered.dropped == (1,)
    assert trained(rendered) == [
        ("content", "old"),
        ("stop", "<|im_end|>"),
        ("reasoning", "hm\n</think>\n\n"),
        ("content", "let me see"),
        ("call", '<call>{"name": "look", "arguments": {"word": "a"}}</call>'),
        ("stop", "<|im_end|>"),
        ("reasoning", "so\n</think>\n\n"),
        ("content", "done"),
        ("stop", "<|im_end|>"),
    ], "the prompt has written the opening mark of a thought"


def test_the_switch_of_thoughts_is_found(full):
    assert not full.switches
    switched = keep_template(SWITCHED, "switched", where="x").format
    assert switched.switches == {"enable_thinking": [True, False]} and switched.thinks
    off = with_switches(switched, ["enable_thinking=false"])
    assert not off.thinks
    question = Conversation("c", (Message("user", "q"),))
    texts = [render(question, one, add_generation_prompt=True).text for one in (switched, off)]
    assert texts[1] == texts[0] + "<think>\n\n</think>\n\n"


def test_an_answer_is_read_back(full):
    call = ToolCall("look", '{"word": "a"}')
    answer = Message("assistant", "let me see", reasoning="hm", tool_calls=(call, call))
    prompt = render(
        Conversation("c", (Message("user", "q"),)), full, add_generation_prompt=True
    ).text
    text = render(Conversation("c", (Message("user", "q"), answer)), full).text
    parsed = parse_answer(text.removeprefix(prompt).rstrip(), full, opened="<think>\n")
    assert (parsed.content, parsed.reasoning) == ("let me see", "hm")
    assert [(one.name, one.values()) for one in parsed.tool_calls] == [("look", {"word": "a"})] * 2


@settings(max_examples=40)
@given(st.lists(WORDS, min_size=2, max_size=6), st.booleans())
def test_what_is_trained_is_the_answers_and_their_stops(full, words, with_system):
    words = words[: len(words) // 2 * 2]
    messages = [Message(("user", "assistant")[n % 2], text) for n, text in enumerate(words)]
    messages = [Message("system", "rules"), *messages] if with_system else messages
    rendered = render(Conversation("c", tuple(messages)), full, bos_token="<s>")
    answers = [message.content for message in messages if message.role == "assistant"]
    assert "".join(text for _, text in trained(rendered)) == "".join(
        answer + "<|im_end|>" for answer in answers
    )
    roles = {span.message: span.trained for span in rendered.spans if span.kind == "content"}
    assert all(is_trained == (messages[at].role == "assistant") for at, is_trained in roles.items())


def test_a_system_prompt_that_goes_into_the_last_question():
    kept = keep_template(LAST_USER, "last", where="last")
    assert kept.format.system == "last-user" and "last question" in " ".join(kept.findings)
    turns = (
        Message("system", "S"),
        *(Message(("user", "assistant")[n % 2], text) for n, text in enumerate("abcd")),
    )
    conversation = adapt_to_format(Conversation("c", turns), kept.format)
    text = render(conversation, kept.format, eos_token="</s>").text
    assert text == "[INST]a[/INST]b</s>[INST]S\n\nc[/INST]d</s>"
    asked = adapt_to_format(Conversation("c", turns[:4]), kept.format)
    prompt = render(asked, kept.format, eos_token="</s>", add_generation_prompt=True).text
    assert text.startswith(prompt), "the prompt that was trained is the prompt that is sent"


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PLANTED = {
    "drops an answer": ("m.content", "('' if m.content == 'first answer' else m.content)"),
    "writes an answer twice": ("m.content", "m.content + m.content"),
    "changes words": ("m.content", "m.content | upper"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_template_that_does_not_keep_words_is_refused(fault):
    assert keep_template(CHATML, "control", where="x").proof.proved
    with pytest.raises(HarnessError, match=r"cannot be imported: .* leaves out words"):
        keep_template(CHATML.replace(*PLANTED[fault]), "planted", where="x")


def test_a_byte_order_mark_is_no_part_of_the_template():
    kept = keep_template("\ufeff" + CHATML, "marked", where="x")
    question = Conversation("c", (Message("user", "q"),))
    assert render(question, kept.format).text == "<|im_start|>user\nq<|im_end|>\n"
    assert "\ufeff" not in kept.source


def test_a_mask_that_trains_a_header_is_not_proved(monkeypatch):
    """The proof is a check of its own: a tracer that is wrong by one mark does not pass it."""
    prober = Prober(CHATML, "x", {})
    facts = find_facts(prober)
    assert not prove(prober, facts).wrong
    right = prober.render

    def wrong(*messages, **options):
        done = right(*messages, **options)
        if done is None or not done.answers:
            return done
        answers = tuple(one._replace(start=one.start - len("assistant\n")) for one in done.answers)
        return replace(done, answers=answers)

    monkeypatch.setattr(prober, "render", wrong)
    assert any("does not begin where the prompt ends" in one for one in prove(prober, facts).wrong)


def test_a_header_that_the_prompt_leaves_out_is_not_trained():
    template = CHATML.replace("{{ '<|im_start|>assistant\n' }}", "")
    kept = keep_template(template, "no-prompt", where="x")
    assert any("leaves out the header" in finding for finding in kept.findings)
    rendered = render(
        Conversation("c", (Message("user", "q"), Message("assistant", "a"))), kept.format
    )
    assert [text for _, text in trained(rendered)] == ["a", "<|im_end|>"]
    empty = render(Conversation("c", (Message("user", "q"), Message("assistant", ""))), kept.format)
    assert not trained(empty), "the header of an empty answer is a header too"


def test_an_empty_answer_trains_a_stop_that_ends_a_question_too():
    """As in Llama 3: its mark comes behind each message, so it is also the first behind a question."""
    turn = "{{- '<|start|>' + m.role + '<|end|>' + m.content + '<|eot|>' }}"
    prompt = "{%- if add_generation_prompt %}{{- '<|start|>assistant<|end|>' }}{%- endif %}"
    template = "{%- for m in messages %}" + turn + "{%- endfor %}" + prompt
    kept = keep_template(template, "eot", where="eot").format
    for answer, words in (("a", ["a"]), ("", [])):
        turns = (Message("user", "q"), Message("assistant", answer))
        whole = render(Conversation("c", turns), kept)
        assert [text for _, text in trained(whole)] == [*words, "<|eot|>"]


#: Marks before a role and behind a turn, and both again when nothing follows.
ALWAYS_ASKS = (
    "{{- bos_token }}{%- for m in messages %}{{- '<|head|>' + m.role + '\n' + m.content + "
    "'<|stop|>' }}{%- endfor %}{{- '<|head|>assistant\n' }}"
)
ASKS_AS_USER = ALWAYS_ASKS.replace("'<|head|>assistant", "'<|head|>user")
NAMED = (
    "{%- for m in messages %}{{- {'user': '### Question:', 'assistant': '### Answer:'}[m.role] + "
    "'\n' + m.content + '\n' }}{%- if m.role == 'assistant' %}{{- '<|stop|>\n' }}{%- endif %}"
    "{%- endfor %}{{- '### Answer:\n' }}"
)
#: One mark opens every turn, and none closes one.
ONE_MARK = (
    "{{- '<top>rules\n\n' }}{%- for m in messages %}{{- '<turn>' + m.role + '\n' + m.content }}"
    "{%- if not loop.last %}{{- '\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '\n<turn>assistant\n' }}{%- endif %}"
)
#: No prompt is written, and the header of an answer is text.
NO_PROMPT = (
    "{%- for m in messages %}{%- if m.role == 'user' %}{{- 'Ask: ' + m.content + '</s>\n' }}"
    "{%- else %}{{- 'Reply: ' + m.content + '</s>\n' }}{%- endif %}{%- endfor %}"
)
#: The prompt opens a thought, which a thought alone closes; earlier thoughts are dropped.
ASKED_TWICE = (
    "{%- for m in messages %}{{- '<|' + m.role + '|>\n' }}{%- if m.role == 'assistant' %}"
    "{{- '<think>\n' + (m.reasoning_content or '' if loop.last else '') + '\n</think>\n' }}"
    "{%- endif %}{{- m.content + '<|stop|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\n<think>\n' }}{%- endif %}"
)
#: The header of a question has two marks, and an answer writes the second of them itself.
CHANNELS = (
    "{%- for m in messages %}{{- '<|start|>' + m.role }}{%- if m.role == 'assistant' %}"
    "{{- '<|channel|>final' }}{%- endif %}{{- '<|message|>' + m.content + '<|end|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}"
)
#: BOS opens every turn, and EOS ends it.
BOS_EACH = (
    "{{- bos_token + 'system\nrules' + eos_token }}{%- for m in messages %}"
    "{{- bos_token + m.role + '\n' + m.content + eos_token }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- bos_token + 'assistant\n' }}{%- endif %}"
)
#: A question ends with EOS too, and the header of an answer comes with it.
EOS_TWICE = (
    "{%- for m in messages %}{%- if m.role == 'user' %}{{- 'Ask: ' + m.content + '\n\nReply: ' + "
    "eos_token }}{%- else %}{{- m.content + eos_token }}{%- endif %}{%- endfor %}"
)
#: A mark between turns, which the last turn has not.
BETWEEN = (
    "{%- for m in messages %}{{- m.role + ': ' + m.content }}{%- if not loop.last %}{{- ' <sep> ' }}"
    "{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- ' <sep> assistant: ' }}{%- endif %}"
)


@pytest.mark.parametrize(
    ("template", "texts", "expected"),
    [
        (ALWAYS_ASKS, "q-r-", ["<|stop|>", "<|stop|>"]),
        (ALWAYS_ASKS, "qaab", ["a<|stop|>", "a<|stop|>", "b<|stop|>"]),
        (ASKS_AS_USER, ".qa", ["a<|stop|>"]),
        (NAMED, "qaab", ["a\n<|stop|>", "a\n<|stop|>", "b\n<|stop|>"]),
        (ONE_MARK, "qarb", ["a", "b"]),
        (NO_PROMPT, "q-rb", ["b</s>"]),
        (ASKED_TWICE, "q-rb", ["\n</think>\n<|stop|>", "\n</think>\nb<|stop|>"]),
        (
            CHANNELS,
            "q-rb",
            ["<|channel|>final<|message|><|end|>", "<|channel|>final<|message|>b<|end|>"],
        ),
        (EOS_TWICE, "q-rb", ["</s>", "b</s>"]),
        (BOS_EACH, "q-rb", ["</s>", "b</s>"]),
        (BETWEEN, "qarb", ["a <sep>", "b"]),
    ],
)
def test_the_header_of_the_next_turn_is_never_trained(template, texts, expected):
    """``texts`` are the turns: ``a`` and ``b`` answer, ``-`` without words; ``.`` is a system."""
    kept = keep_template(template, "kept", where="kept").format
    roles = {"a": "assistant", "b": "assistant", "-": "assistant", ".": "system"}
    turns = tuple(
        Message(roles.get(text, "user"), text.strip("-."), reasoning="hm" if text == "-" else None)
        for text in texts
    )
    rendered = render(Conversation("c", turns), kept, bos_token="<s>", eos_token="</s>")
    spans: dict[int, str] = {}
    for span in rendered.spans:
        if span.trained:
            text = rendered.text[span.start : span.end]
            spans[span.message] = spans.get(span.message, "") + text
    assert [text.rstrip() for text in spans.values()] == expected


def test_a_call_that_the_template_leaves_out_is_refused():
    """As gpt-oss does, which writes the first of several calls."""
    whole, first = (
        keep_template(template, "kept", where="kept").format
        for template in (FULL, FULL.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"))
    )
    assert whole.calls and first.calls
    calls = (ToolCall("look", '{"word": "a"}'), ToolCall("look", '{"word": "b"}'))
    one, two = (
        Conversation(
            "c", (Message("user", "q"), Message("assistant", "", tool_calls=calls[:count]))
        )
        for count in (1, 2)
    )
    assert render(one, first).text == render(one, whole).text
    assert render(two, whole).text.count("<call>") == 2
    twice = Message("assistant", "", tool_calls=(calls[0], calls[0]))
    same = Conversation("c", (Message("user", "q"), twice))
    bare = FULL.replace(
        "call.function | tojson",
        "(call.function | tojson if loop.first else call.function.name)",
    )
    with pytest.raises(HarnessError, match=r"it drops the call of look in message 1"):
        render(two, keep_template(bare, "bare", where="bare").format)
    for dropped in (two, same):
        with pytest.raises(HarnessError, match=r"it drops the call of look in message 1"):
            render(dropped, first)
