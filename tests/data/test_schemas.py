"""Rows of every schema and file type give the same conversation, and refused rows say why."""

from __future__ import annotations

import json

import pytest

from harness.conversation import Conversation, Message, ToolCall
from harness.data.conversations import Collection, load_conversations
from harness.data.refusals import summarise_refusals, unlearnable
from harness.errors import HarnessError

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Capital?"},
    {"role": "assistant", "content": "Oslo."},
]
SAME = {
    "messages": {"messages": MESSAGES},
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "Capital?"},
            {"from": "gpt", "value": "Oslo."},
        ],
        "system": "Be brief.",
    },
    "alpaca": {"instruction": "Capital?", "input": "", "output": "Oslo.", "system": "Be brief."},
    "prompt-completion": {"prompt": "Capital?", "completion": " Oslo.", "system": "Be brief."},
}


def write(path, rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    )
    return str(path)


def texts(conversation):
    return [(m.role, m.content) for m in conversation.messages]


@pytest.mark.parametrize("schema", SAME)
def test_every_schema_gives_the_same_conversation(tmp_path, schema):
    file = write(tmp_path / "set.jsonl", [SAME[schema]])
    wanted = [(m["role"], m["content"]) for m in MESSAGES]
    detected, forced = Collection(), Collection()
    assert (
        [texts(c) for c in detected.read(file)]
        == [texts(c) for c in forced.read(file, schema)]
        == [wanted]
    )
    assert detected.schemas == {schema: 1} and not detected.refusals and not detected.ignored


def test_prompt_and_completion_may_be_lists_of_messages(tmp_path):
    row = {"prompt": MESSAGES[:2], "completion": MESSAGES[2:]}
    assert texts(load_conversations([write(tmp_path / "s.jsonl", [row])])[0]) == [
        (m["role"], m["content"]) for m in MESSAGES
    ]


def test_an_input_follows_its_instruction_and_history_comes_first(tmp_path):
    row = {"instruction": "Add.", "input": "1 2", "output": "3", "history": [["Hi", "Hello"]]}
    messages = texts(load_conversations([write(tmp_path / "s.jsonl", [row])])[0])
    assert messages == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Add.\n\n1 2"),
        ("assistant", "3"),
    ]


def test_a_text_is_plain(tmp_path):
    [text] = load_conversations([write(tmp_path / "s.jsonl", [{"text": "Once upon a time."}])])
    assert text.plain and texts(text) == [("assistant", "Once upon a time.")]


@pytest.mark.extras
def test_json_and_parquet_hold_the_same_rows(tmp_path):
    import pyarrow
    from pyarrow.parquet import write_table

    rows = [
        {"id": "a", **SAME["messages"]},
        {
            "id": "b",
            "messages": [
                {"role": "user", "content": "x", "name": "Ann"},
                {"role": "assistant", "content": "y", "train": False},
            ],
        },
    ]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    (tmp_path / "data.json").write_text(json.dumps({"data": rows}, indent=1))
    write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    write(tmp_path / "rows.jsonl", rows)
    read = [
        [(c.id, c.messages) for c in load_conversations([str(tmp_path / name)])]
        for name in ("rows.jsonl", "list.json", "data.json", "rows.parquet")
    ]
    assert read[0] == read[1] == read[2] == read[3]
    assert read[0][1][1][1] == Message("assistant", "y", None, 0.0)


def test_a_folder_of_several_kinds_is_read_whole(tmp_path):
    write(tmp_path / "a.jsonl", [SAME["messages"]])
    (tmp_path / "b.json").write_text(json.dumps([SAME["alpaca"]]))
    (tmp_path / "README.md").write_text("not data")
    assert [c.id for c in load_conversations([str(tmp_path)])] == ["a-1", "b-1"]


@pytest.mark.parametrize(
    ("row", "reason", "said"),
    [
        ("{", "not JSON", "column 2"),
        ("[1]", "not JSON", "one JSON object"),
        ({"foo": 1}, "unknown schema", "'foo'"),
        ({"massages": MESSAGES}, "unknown schema", "did you mean messages?"),
        ({"messages": []}, "bad value", "non-empty list"),
        ({"messages": MESSAGES, "tag": []}, "unknown key", "did you mean tags"),
        (
            {"messages": [{"role": "bot", "content": "x"}]},
            "unknown role",
            "messages[0]: unknown role 'bot'",
        ),
        ({"messages": [{"role": "user", "content": 3}]}, "bad value", "content: expected a text"),
        (
            {"messages": [{"role": "user", "content": "x", "contents": "y"}]},
            "unknown key",
            "contents",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "train": True}]},
            "cannot be trained",
            "the user's",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "train": "yes"}]},
            "bad value",
            "train: expected true or false",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "weight": -1}]},
            "bad value",
            "weight: expected a number from 0",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "weight": float("nan")}]},
            "bad value",
            "weight",
        ),
        ({"id": True, "messages": MESSAGES}, "bad value", "id: expected"),
        ({"id": "first", "messages": MESSAGES}, "duplicate id", "is already at"),
    ],
)
def test_a_bad_row_is_refused_with_its_line_and_reason(tmp_path, row, reason, said):
    collection = Collection()
    others = collection.read(
        write(
            tmp_path / "set.jsonl",
            [{"id": "first", "messages": MESSAGES}, row, {"messages": MESSAGES}],
        )
    )
    if (
        reason == "unknown schema"
    ):  # rows are read in the schema of the file's first, so this is another mistake behind one
        alone = Collection()
        assert alone.read(write(tmp_path / "alone.jsonl", [row])) == []
        [refusal] = alone.refusals
    else:
        [refusal] = collection.refusals
        assert refusal.place.endswith("set.jsonl:2")
    assert len(others) == 2, "the rows around it are read"
    assert refusal.reason == reason and said in refusal.message


def test_other_speakers_and_values_of_sharegpt_are_refused(tmp_path):
    collection = Collection()
    rows = [
        {"conversations": [{"from": "narrator", "value": "x"}]},
        {"conversations": "x"},
        {"conversations": [{"from": "gpt"}]},
    ]
    assert collection.read(write(tmp_path / "s.jsonl", rows)) == []
    assert [r.reason for r in collection.refusals] == ["unknown role", "bad value", "bad value"]
    assert "conversations[0]: unknown speaker 'narrator'" in collection.refusals[0].message


def test_a_data_sets_own_columns_are_counted(tmp_path):
    collection = Collection()
    collection.read(
        write(
            tmp_path / "s.jsonl",
            [{**SAME["alpaca"], "source": "x"}, {**SAME["alpaca"], "source": "y", "score": 1}],
        )
    )
    assert collection.ignored == {"source": 2, "score": 1}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([("user", "x", 1.0)], "no assistant turn"),
        ([("user", " ", 1.0), ("assistant", "y", 1.0)], "empty message"),
        ([("user", "x", 1.0), ("assistant", "y", 0.0)], "nothing trained"),
    ],
)
def test_what_cannot_be_learnt_from_has_a_reason(messages, reason):
    conversation = Conversation(
        "a",
        tuple(Message(role, text, None, weight) for role, text, weight in messages),
        source="f:1",
    )
    refusal = unlearnable(conversation)
    assert refusal.reason == reason and refusal.place == "f:1"
    assert summarise_refusals([refusal, refusal]) == f"2 rows refused: 2 {reason}"


def test_a_call_a_thought_and_the_result_of_a_tool_need_no_words():
    call = Message("assistant", "", tool_calls=(ToolCall("f"),))
    done = (Message("user", "q"), call, Message("tool", ""))
    assert unlearnable(Conversation("a", done)) is None
    thought = Message("assistant", " ", reasoning="t")
    assert unlearnable(Conversation("a", (done[0], thought))) is None
    empty = (done[0], Message("assistant", " "))
    assert unlearnable(Conversation("a", empty)).reason == "empty message"


@pytest.mark.parametrize(
    ("name", "said"),
    [("no/such", "hub"), ("nothing.jsonl", "no such file"), ("set.csv", "cannot read .csv")],
)
def test_what_cannot_be_read_at_all_is_an_error(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set.csv").write_text("a,b")
    with pytest.raises(HarnessError, match=said) as caught:
        load_conversations([name])
    assert caught.value.where == name


def test_without_datasets_a_hub_id_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(HarnessError) as caught:
        load_conversations(["owner/name"])
    assert "formatproof[hub]" in caught.value.hint


def test_a_hub_data_set_is_read_like_a_file(monkeypatch):
    import sys
    import types

    asked = []
    fake = types.SimpleNamespace(
        __spec__="it is installed",
        load_dataset=lambda name, split: (
            asked.append((name, split)) or [{**SAME["sharegpt"], "id": None}]
        ),
    )
    monkeypatch.setitem(sys.modules, "datasets", fake)
    collection = Collection()
    [conversation] = collection.read("owner/set", split="test")
    assert (
        asked == [("owner/set", "test")]
        and conversation.id == "set-1"
        and conversation.source == "owner/set:row 1"
    )


def test_converted_rows_are_read_as_the_same(tmp_path, capsys):
    from harness.cli.main import main

    rows = [
        *SAME.values(),
        {"text": "Once."},
        {
            "conversations": [
                {"from": "gpt", "value": "x", "weight": 0},
                {"from": "gpt", "value": "y", "weight": 0.5},
            ]
        },
    ]
    for number, row in enumerate(rows):
        name = write(tmp_path / f"{number}.jsonl", [{**row, "id": f"r{number}", "tags": ["t"]}])
        assert main(["data", "convert", name, "--out", str(tmp_path / f"{number}.out.jsonl")]) == 0
        [before], [after] = (
            load_conversations([name]),
            load_conversations([str(tmp_path / f"{number}.out.jsonl")]),
        )
        assert (before.id, before.messages, before.tags, before.plain) == (
            after.id,
            after.messages,
            after.tags,
            after.plain,
        )
    assert main(["data", "convert", name, "--out", str(tmp_path / "0.out.jsonl")]) == 2
    assert (
        main(
            [
                "data",
                "convert",
                write(tmp_path / "bad.jsonl", [SAME["alpaca"], {"instruction": 1, "output": "x"}]),
            ]
        )
        == 1
    )
    shown = capsys.readouterr()
    assert (
        json.loads(shown.out)["messages"][0]["content"] == "Be brief."
        and "bad.jsonl:2: bad value" in shown.err
    )
