"""harness preview: parts in colours and words, JSON, and other trainers' set-ups."""

from __future__ import annotations

import json

import pytest

from harness.cli.main import main

pytestmark = pytest.mark.local
CALL = {"type": "function", "function": {"name": "weigh", "arguments": {"parcel": 7}}}
CHAT = {
    "messages": [
        {"role": "user", "content": "Weigh 7."},
        {"role": "assistant", "content": "", "reasoning_content": "Scales.", "tool_calls": [CALL]},
        {"role": "tool", "content": "2 kg"},
        {"role": "assistant", "content": "It is 2 kg."},
    ],
    "tools": [{"type": "function", "function": {"name": "weigh", "parameters": {}}}],
}
ROWS = [
    {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
    for q, a in (("A gem?", "Opal."), ("A bee?", "Mason bee."))
]


@pytest.fixture
def chat(tmp_path):
    file = tmp_path / "chat.json"
    file.write_text(json.dumps(CHAT))
    return file


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


def test_parts_are_marked_without_colour_too(chat, tiny_model, capsys, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["preview", str(chat), "--format", "qwen3", "--model", str(tiny_model)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    legend = next(line for line in out.splitlines() if line.startswith("answer ("))
    assert all(part in legend for part in ("thought (", "call (", "stop (", "not trained ("))
    lines = [line[9:] for line in out.splitlines() if line[:7].strip().isdigit()]
    assert any(line.startswith("thought  ‹") for line in lines)
    assert "stop     ‹<|im_end|>›" in lines
    result = out.partition("<tool_response>")[2].partition("</tool_response>")[0]
    assert "2 kg" in result and "‹" not in result


def test_json_has_spans_with_parts(chat, tiny_model, capsys):
    arguments = ["preview", str(chat), "--format", "qwen3", "--model", str(tiny_model), "--json"]
    assert main(arguments) == 0
    shown = json.loads(capsys.readouterr().out)
    texts = {s["part"]: "" for s in shown["spans"]}
    for span in shown["spans"]:
        texts[span["part"]] += shown["text"][span["start"] : span["end"]]
    assert "Scales." in texts["thought"] and '"parcel": 7' in texts["call"]
    assert "It is 2 kg." in texts["answer"] and "2 kg\n" in texts[None]
    assert "".join(t["text"] for t in shown["tokens"]) == shown["text"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--trainer", "trl", "--html", "page.html"], "--html"),
        (["--format", "qwen3", "--model", "m", "--data", "rows.jsonl"], "--data needs --trainer"),
    ],
)
def test_an_option_without_effect_is_refused(chat, capsys, arguments, says):
    assert main(["preview", str(chat), *arguments]) == 2
    assert says in capsys.readouterr().err


def test_format_and_model_are_asked_for(chat, capsys):
    assert main(["preview", str(chat)]) == 2
    assert "give --format and --model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("trainer", "name", "text", "says", "code"),
    [
        ("trl", "a.json", '{"assistant_only_loss": false}', "trains a header: in 2 of 2", 1),
        ("trl", "a.json", '{"assistant_only_loss": true}', "no {% generation %} block", 1),
        ("unsloth", "a.json", '{"last_response_only": false}', "no difference in 2 rows", 0),
        (
            "unsloth",
            "a.json",
            '{"instruction_part": "[INST]", "response_part": "[/INST]"}',
            "misses an answer: in 2 of 2",
            1,
        ),
        (
            "axolotl",
            "a.json",
            '{"datasets": [{"path": "x", "type": "chat_template"}]}',
            "no difference in 2 rows",
            0,
        ),
        (
            "axolotl",
            "a.json",
            '{"special_tokens": {"eos_token": "<|endoftext|>"},'
            ' "datasets": [{"path": "x", "type": "chat_template"}]}',
            "misses the stop: in 2 of 2",
            1,
        ),
    ],
)
def test_a_trainers_set_up_is_compared(
    tmp_path, rows, tiny_model, capsys, trainer, name, text, says, code
):
    config = tmp_path / name
    config.write_text(text)
    arguments = ["preview", str(config), "--trainer", trainer, "--data", str(rows)]
    assert main([*arguments, "--model", str(tiny_model)]) == code
    assert says in capsys.readouterr().out
    assert main([*arguments, "--model", str(tiny_model), "--json"]) == code
    shown = json.loads(capsys.readouterr().out)
    assert shown["rows_compared"] == 2 and bool(shown["differences"]) == bool(code)


def test_missing_data_and_model_are_one_line(tmp_path, rows, tiny_model, capsys):
    config = tmp_path / "a.json"
    config.write_text('{"dataset_name": "nowhere/rows"}')
    assert main(["preview", str(config), "--trainer", "trl", "--model", str(tiny_model)]) == 2
    assert "nowhere/rows is not here" in capsys.readouterr().err
    assert main(["preview", str(config), "--trainer", "trl", "--data", str(rows)]) == 2
    assert "names no model" in capsys.readouterr().err
