"""Thoughts, calls, results and tools are read from every spelling that data sets use."""

from __future__ import annotations

import json

import pytest

from harness.conversation import Message, Tool, ToolCall
from harness.data.conversations import Collection, parse_conversation
from harness.data.refusals import RefusedRow
from harness.data.schemas import SCHEMAS, detect

CALL = ToolCall("weigh", '{"parcel": 7, "unit": null}')
TOOL = {"name": "weigh", "description": "Weigh a parcel.", "parameters": {"type": "object"}}
ASK = Message("user", "Weigh parcel 7.")
THOUGHT = "The scale knows."
CALLS = Message("assistant", "", reasoning=THOUGHT, tool_calls=(CALL,))
RESULT = Message("tool", "2.4 kg")
SAID = Message("assistant", "It weighs 2.4 kg.")
WANTED = (ASK, CALLS, RESULT, SAID)
ARGUMENTS = {"parcel": 7, "unit": None}
NAMED = {"name": "weigh", "arguments": ARGUMENTS}
WRITTEN = json.dumps(NAMED)


def said(role, content, **rest):
    return {"role": role, "content": content, **rest}


def turn(speaker, value, **rest):
    return {"from": speaker, "value": value, **rest}


ASKED, ANSWERED = said("user", ASK.content), said("assistant", SAID.content)
HUMAN, GPT = turn("human", ASK.content), turn("gpt", SAID.content)
CALLING = {"role": "assistant", "tool_calls": [{"type": "function", "function": NAMED}]}
HERMES = (
    "You call functions. Their signatures are within <tools></tools> tags.\n"
    f"<tools>\n{json.dumps(TOOL)}\n</tools>\n"
    'Answer within <tool_call> tags:\n<tool_call>\n{"name": …}\n</tool_call>\nBe brief.'
)
ROWS = {
    "transformers": {
        "messages": [
            ASKED,
            {**CALLING, "content": "", "reasoning_content": THOUGHT},
            said("tool", "2.4 kg"),
            ANSWERED,
        ],
        "tools": [{"type": "function", "function": TOOL}],
    },
    "OpenAI, arguments as text, nulls": {
        "messages": [
            {**ASKED, "tool_calls": None, "name": None},
            {
                "role": "assistant",
                "content": None,
                "reasoning": THOUGHT,
                "refusal": None,
                "audio": None,
                "tool_calls": [
                    {
                        "type": "function",
                        "function": {"name": "weigh", "arguments": json.dumps(ARGUMENTS)},
                    }
                ],
            },
            said("tool", "2.4 kg", tool_call_id=None),
            {**ANSWERED, "tool_calls": None},
        ],
        "tools": [TOOL],
    },
    "OpenAI before tools": {
        "messages": [
            ASKED,
            {
                "role": "assistant",
                "content": None,
                "thinking": THOUGHT,
                "function_call": {"name": "weigh", "arguments": json.dumps(ARGUMENTS)},
            },
            said("function", "2.4 kg"),
            ANSWERED,
        ],
        "functions": [TOOL],
    },
    "LLaMA-Factory": {
        "conversations": [
            HUMAN,
            turn("function_call", f"<think>\n{THOUGHT}\n</think>\n\n{WRITTEN}"),
            turn("observation", "2.4 kg"),
            GPT,
        ],
        "tools": json.dumps([TOOL]),
    },
    "ShareGPT with tool_call and a list": {
        "conversations": [
            HUMAN,
            turn("thought", THOUGHT),
            turn("tool_call", json.dumps([NAMED])),
            turn("tool_response", "2.4 kg"),
            GPT,
        ],
        "tools": json.dumps([{"type": "function", "function": TOOL}]),
    },
    "Hermes": {
        "conversations": [
            turn("system", HERMES),
            HUMAN,
            turn("gpt", f"<think>\n{THOUGHT}\n</think>\n<tool_call>\n{WRITTEN}\n</tool_call>"),
            turn("tool", "<tool_response>\n2.4 kg\n</tool_response>"),
            GPT,
        ],
    },
    "Qwen's results in a question": {
        "messages": [
            ASKED,
            said("assistant", f"<think>{THOUGHT}</think><tool_call>{WRITTEN}</tool_call>"),
            said("user", "<tool_response>\n2.4 kg\n</tool_response>"),
            ANSWERED,
        ],
        "tools": [TOOL],
    },
    "Anthropic": {
        "messages": [
            ASKED,
            said(
                "assistant",
                [
                    {"type": "thinking", "thinking": THOUGHT, "signature": "x"},
                    {"type": "tool_use", "name": "weigh", "input": ARGUMENTS},
                ],
            ),
            said(
                "user", [{"type": "tool_result", "content": [{"type": "text", "text": "2.4 kg"}]}]
            ),
            ANSWERED,
        ],
        "tools": [
            {key: TOOL[key] for key in ("name", "description")}
            | {"input_schema": TOOL["parameters"]}
        ],
    },
    "Harmony": {
        "messages": [
            ASKED,
            said("assistant", THOUGHT, channel="analysis"),
            said(
                "assistant",
                json.dumps(ARGUMENTS),
                channel="commentary",
                recipient="functions.weigh",
                content_type="<|constrain|>json",
            ),
            said("tool", "2.4 kg", channel="commentary", recipient="assistant"),
            said("assistant", [{"type": "text", "text": SAID.content}], channel="final"),
        ],
        "tools": [TOOL],
    },
    "Mistral's thought in parts": {
        "messages": [
            ASKED,
            {
                **CALLING,
                "content": [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}],
            },
            said("tool", "2.4 kg"),
            ANSWERED,
        ],
        "tools": [TOOL],
    },
    "LLaMA-Factory's parts": {
        "messages": [
            said("user", [{"type": "text", "value": ASK.content}], loss_weight=0.0),
            said(
                "assistant",
                [{"type": "reasoning", "value": THOUGHT}, {"type": "tool_call", "value": WRITTEN}],
                loss_weight=1.0,
            ),
            said("tool", [{"type": "text", "value": "2.4 kg"}]),
            ANSWERED,
        ],
        "tools": json.dumps([TOOL]),
    },
    "TRL": {
        "prompt": [ASKED],
        "completion": [
            {**CALLING, "reasoning_content": THOUGHT},
            said("tool", "2.4 kg"),
            ANSWERED,
        ],
        "tools": [TOOL],
    },
}


def read(row, place="f:1"):
    return parse_conversation(row, place, schema=detect(row))


@pytest.mark.parametrize("spelling", ROWS)
def test_every_spelling_is_the_same_conversation(spelling):
    conversation = read(ROWS[spelling])
    messages = conversation.messages
    if spelling == "Hermes":
        assert messages[0] == Message("system", "Be brief.")
        messages = messages[1:]
    assert messages == WANTED
    assert [tool.as_object() for tool in conversation.tools] == [
        {"type": "function", "function": TOOL}
    ]


@pytest.mark.parametrize(
    ("text", "thought", "words"),
    [
        ("<think>\na\n\nb\n</think>\n\nc", "a\n\nb", "c"),
        ("<think>\n\n</think>\n\nc", None, "c"),
        ("a\n</think>\n\nc", "a", "c"),  # R1's prompt wrote the opening tag
        ("<thinking>a</thinking>c", "a", "c"),
        ("The tag <think> opens it, </think> ends it.", None, None),
        ("<think>a", None, None),
        ("It ends with `</think>` there.", None, None),
    ],
)
def test_a_thought_at_the_head_of_an_answer_is_read_and_a_mention_is_not(text, thought, words):
    row = {"messages": [ASKED, said("assistant", text)]}
    answer = read(row).messages[-1]
    assert (answer.reasoning, answer.content) == (thought, text if words is None else words)


def test_of_two_thoughts_none_is_lost():
    parts = [{"type": "thinking", "thinking": "a"}, {"type": "text", "text": "<think>b</think>c"}]
    answer = read({"messages": [ASKED, said("assistant", parts)]}).messages[-1]
    assert (answer.reasoning, answer.content) == ("a", "<think>b</think>c")


@pytest.mark.parametrize(
    "text",
    [
        "Write <tool_call> and </tool_call> around it.",
        '<tool_call>{"name": "x", "arguments": }</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": "x", "arguments": {}}</tool_call> is how it looks.',
    ],
)
def test_what_is_no_call_stays_a_text(text):
    answer = read({"messages": [ASKED, said("assistant", text)]}).messages[-1]
    assert answer.content == text and not answer.tool_calls


def test_the_calls_of_xlam_answer_its_question():
    row = {"query": ASK.content, "answers": json.dumps([NAMED, NAMED]), "tools": json.dumps([TOOL])}
    assert read(row).messages == (ASK, Message("assistant", "", tool_calls=(CALL, CALL)))
    squad = {"question": "q", "answers": {"text": ["a"], "answer_start": [1]}}
    with pytest.raises(RefusedRow, match="expected the name of a tool"):
        read(squad)


def test_parallel_calls_and_their_results_keep_their_ids_and_order():
    calls = [{"id": f"c{n}", **NAMED} for n in (1, 2)]
    row = {
        "messages": [
            ASKED,
            {"role": "assistant", "tool_calls": calls},
            said("tool", "b", tool_call_id="c2", name="weigh"),
            said("tool", {"kg": 1}, tool_call_id="c1"),
            ANSWERED,
        ]
    }
    _, asked, first, second, _ = read(row).messages
    assert [call.id for call in asked.tool_calls] == ["c1", "c2"]
    assert first == Message("tool", "b", "weigh", tool_call_id="c2")
    assert second.content == '{"kg": 1}', "a result that is no text is its JSON text"


def test_words_before_a_call_are_of_the_same_answer():
    row = {"conversations": [HUMAN, turn("gpt", "Let me see."), turn("function_call", WRITTEN)]}
    assert read(row).messages[1:] == (Message("assistant", "Let me see.", tool_calls=(CALL,)),)


CALLED = {"role": "assistant", "tool_calls": [{"id": "c1", **NAMED}]}


@pytest.mark.parametrize(
    ("row", "said_of_it"),
    [
        (
            {"messages": [ASKED, said("tool", "x")]},
            "messages[1]: the result of a tool that was not",
        ),
        ({"messages": [ASKED, CALLED, said("tool", "x", tool_call_id="c9")]}, "the id 'c9' ('c1')"),
        (
            {"messages": [ASKED, CALLED, *[said("tool", "x", tool_call_id="c1")] * 2]},
            "messages[3]: tool_call_id: a second result of the call 'c1'",
        ),
        ({"messages": [ASKED, CALLED, *[said("tool", "x")] * 2]}, "more results than calls"),
        ({"messages": [ASKED, CALLED, ASKED, said("tool", "x")]}, "was not called"),
        (
            {"messages": [ASKED], "tools": {"a": 1}},
            "tools: expected a list of tools, not an object",
        ),
        ({"messages": [ASKED], "tools": "[{"}, "tools: not JSON"),
        ({"messages": [ASKED], "tools": [{"description": "x"}]}, "tools[0]: a tool needs a name"),
        ({"messages": [ASKED], "tools": [TOOL, TOOL]}, "two tools have the name 'weigh'"),
        ({"messages": [ASKED, {**CALLED, "tool_calls": 3}]}, "expected an object with name"),
        (
            {"messages": [ASKED, {"role": "assistant", "tool_calls": [{"name": "x"}, {}]}]},
            "tool_calls[1]: name: expected the name of a tool",
        ),
        (
            {
                "messages": [
                    ASKED,
                    {"role": "assistant", "function_call": {**NAMED, "arguments": "["}},
                ]
            },
            "arguments of weigh: not JSON",
        ),
        (
            {
                "messages": [
                    ASKED,
                    {"role": "assistant", "function_call": {**NAMED, "arguments": "1"}},
                ]
            },
            "arguments of weigh: expected an object, not a number",
        ),
        ({"messages": [ASKED, {"role": "assistant"}]}, "content: no text, no thought and no call"),
        ({"messages": [{"role": "user", "content": None}]}, "content: expected a text, not null"),
        ({"messages": [{**ASKED, "reasoning": "x"}]}, "reasoning: only an assistant has it"),
        ({"messages": [{**ASKED, "tool_calls": [NAMED]}]}, "tool_calls: only an assistant has it"),
        ({"messages": [{**ASKED, "tool_call_id": "c"}]}, "only a tool's message answers a call"),
        (
            {"messages": [ASKED, {**ANSWERED, "reasoning": "a", "thinking": "b"}]},
            "two thoughts: reasoning, thinking",
        ),
        ({"messages": [ASKED, {**ANSWERED, "channel": "aside"}]}, "unknown channel 'aside'"),
        ({"messages": [ASKED, {**ANSWERED, "train_detail": []}]}, "parts of a message cannot"),
        ({"conversations": [HUMAN, turn("function_call", "weigh it")]}, "the calls: not JSON"),
        (
            {
                "conversations": [
                    HUMAN,
                    turn("gpt", "x", train=False),
                    turn("function_call", WRITTEN),
                ]
            },
            "parts of one answer differ in train or weight",
        ),
    ],
)
def test_a_wrong_structure_is_a_refused_row(tmp_path, row, said_of_it):
    collection, file = Collection(), tmp_path / "set.jsonl"
    file.write_text(json.dumps(row))
    assert collection.read(str(file)) == []
    [refusal] = collection.refusals
    assert said_of_it in refusal.message and refusal.place == f"{file}:1"


@pytest.mark.parametrize(
    ("content", "counts"),
    [
        (
            [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "?"}],
            "1 image",
        ),
        ([{"type": "image"}, {"type": "image"}, {"type": "input_audio"}], "1 audio, 2 image"),
        ([{"type": "video"}], "1 video"),
    ],
)
def test_images_and_the_like_are_refused_with_their_number(tmp_path, content, counts):
    collection, file = Collection(), tmp_path / "set.jsonl"
    rows = [{"messages": [said("user", content), ANSWERED]}, {"messages": [ASKED, ANSWERED]}]
    rows += [{"messages": [ASKED, ANSWERED], "images": images} for images in ([], ["a.png"])]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert len(collection.read(str(file))) == 2
    assert [r.reason for r in collection.refusals] == ["not only text"] * 2
    assert counts in collection.refusals[0].message and "1 image" in collection.refusals[1].message


def test_parts_of_text_are_joined():
    parts = [
        "a",
        {"type": "text", "text": "b"},
        {"type": "output_text", "text": "c"},
        {"text": "d"},
    ]
    assert read({"messages": [said("user", parts)]}).messages == (Message("user", "abcd"),)


@pytest.mark.parametrize("rest", [{}, {"system": "s"}])
def test_a_place_counts_as_the_row_does(rest):
    with pytest.raises(RefusedRow, match=r"conversations.1.: unknown speaker 'x'"):
        read({"conversations": [HUMAN, turn("x", "y")], **rest})
    pairs = [{"human": "a", "assistant": "b"}, turn("x", "y")]
    with pytest.raises(RefusedRow, match=r"conversation.2.: unknown speaker 'x'"):
        read({"conversation": pairs, **rest})
    with pytest.raises(RefusedRow, match=r"messages.1.: unknown role 'x'"):
        read({"messages": [said("system", "s"), said("x", "y")], **rest})


def test_a_column_of_another_schema_is_no_crash():
    row = {"instruction": "q", "output": "a", "conversations": 5}
    assert parse_conversation(row, "f:1", schema=SCHEMAS["alpaca"]).messages[-1].content == "a"


def test_a_list_written_as_an_object_of_lists_is_that_list():
    """As the hub gives a "sequence of structs", with a null in every cell without a value."""
    row = {
        "messages": {
            "role": ["user", "assistant"],
            "content": [ASK.content, None],
            "tool_calls": [None, {"name": ["weigh"], "arguments": [json.dumps(ARGUMENTS)]}],
        }
    }
    assert read(row).messages == (ASK, Message("assistant", "", tool_calls=(CALL,)))


@pytest.mark.extras
def test_arguments_of_parquet_have_no_columns_of_other_rows(tmp_path):
    """A table gives each row every key: null there is absent, and in JSON it is a value."""
    import pyarrow
    from pyarrow.parquet import write_table

    def asking(**arguments):
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        return {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}]}

    rows = [asking(a=1), asking(b="x")]
    write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    collection = Collection()
    found = collection.read(str(tmp_path / "rows.parquet"))
    assert [row.messages[1].tool_calls[0].arguments for row in found] == ['{"a": 1}', '{"b": "x"}']
    assert not collection.ignored and not collection.refusals


def test_ignored_keys_and_readings_are_counted_by_row(tmp_path):
    collection, file = Collection(), tmp_path / "set.jsonl"
    think = said("assistant", "<think>a</think>b", mood="calm")
    rows = [
        {"messages": [ASKED, {**think, "tool_calls": [{**NAMED, "seen": 1}]}], "score": 1},
        {"messages": [{**ASKED, "mood": "x"}, think], "score": None},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    collection.read(str(file))
    assert not collection.refusals
    assert collection.ignored == {"messages[].mood": 2, "tool_calls[].seen": 1, "score": 1}
    assert list(collection.readings.values()) == [2]


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"instruction": "q", "output": {"a": [1, "ü"]}}, '{"a": [1, "ü"]}'),
        ({"instruction": "q", "output": 42}, "42"),
        ({"instruction": "q", "response": "x"}, "x"),
        ({"instruction": "q", "completion": "x"}, "x"),
        ({"instruction": "q", "context": "c", "response": "x"}, "x"),
        ({"question": "q", "answer": "x"}, "x"),
        ({"system_prompt": "s", "question": "q", "response": "x"}, "x"),
        ({"prompt": "q", "completion": False}, "false"),
        ({"query": "q", "response": "x", "history": [["a", "b"]]}, "x"),
        ({"input": "q", "output": "x"}, "x"),
        ({"input": [ASKED], "output": "x"}, "x"),
        ({"prompt": "q", "completion": [said("assistant", "x")]}, "x"),
        ({"conversation": [{"human": "q", "assistant": "x"}]}, "x"),
        ({"prompt": "q", "prompt_id": 1, "completion": "x"}, "x"),
    ],
)
def test_rows_of_question_and_answer(row, answer):
    assert read(row).messages[-1] == Message("assistant", answer)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference data"),
        ({"chosen": [ASKED, ANSWERED], "rejected": [ASKED, ANSWERED]}, "preference data"),
        ({"conversations": [HUMAN], "chosen": GPT, "rejected": GPT}, "preference data"),
        ({"prompt": "q", "completion": "a", "label": False}, "preference data"),
        ({"messages": [ASKED, ANSWERED], "label": True}, "preference data"),
        ({"chosen_messages": [ASKED], "rejected_messages": [ASKED]}, "preference data"),
        ({"instruction": "q", "output": "a", "response": "b"}, "bad value"),
        ({"messages": [said("system", "a"), ASKED], "system": "b"}, "bad value"),
    ],
)
def test_rows_that_compare_or_contradict_are_refused(tmp_path, row, reason):
    collection, file = Collection(), tmp_path / "set.jsonl"
    file.write_text(json.dumps(row))
    assert collection.read(str(file)) == []
    assert collection.refusals[0].reason == reason


def test_a_column_of_preferences_beside_messages_is_ignored(tmp_path):
    row = {"messages": [ASKED, ANSWERED], "chosen": "a", "rejected": "b"}
    assert read(row).messages == (ASK, SAID)


def test_a_system_prompt_twice_is_one():
    row = {"messages": [said("system", "a"), ASKED], "system": "a"}
    assert [m.content for m in read(row).messages] == ["a", ASK.content]


def test_every_schema_but_text_takes_tools():
    assert all("tools" in schema.keys for schema in SCHEMAS.values() if not schema.plain)
    assert read({"prompt": "q", "completion": "a", "tools": [TOOL]}).tools == (
        Tool(json.dumps({"type": "function", "function": TOOL})),
    )
