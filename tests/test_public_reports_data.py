"""Public reports of faults in conversation files, beyond the small files of public_reports/."""

from __future__ import annotations

import json

import pytest

from harness.cli.main import main

BOM = "\ufeff"


def said(role, content, **rest):
    return {"role": role, "content": content, **rest}


def exchange(question, answer):
    return {"messages": [said("user", question), said("assistant", answer)]}


def write(folder, name, *rows, before=""):
    file = folder / name
    file.write_text(before + "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def check(capsys, file):
    """The findings of ``data check`` as (kind, line)."""
    main(["data", "check", file, "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    return [
        (each["kind"], int(each["place"].rsplit(":", 1)[1]), each["message"]) for each in findings
    ]


TEMPLATED = [
    exchange("Which stone is blue and green?", "That would be an opal.<|im_end|>"),
    exchange("Which bee builds with clay?", "The mason bee does so.</s>"),
    exchange("<|im_start|>user\nWhich fish has teeth like a wolf?<|im_end|>", "A pike, surely."),
    exchange("Which bird sings at night in May?", "A nightingale, in the hedge."),
]


def dry_run(folder, capsys, model, rows, **settings):
    """The exit code of a dry run in ChatML, and what it says as JSON."""
    data = {"train": [write(folder, "train.jsonl", *rows)], **settings}
    lines = [f"{key} = {json.dumps(value)}" for key, value in data.items()]
    (folder / "run.toml").write_text(
        f'model = "{model}"\noutput_dir = "{folder / "run"}"\n[formats]\ntrain = ["chatml"]\n'
        + "\n".join(["[data]", *lines])
    )
    code = main(["train", str(folder / "run.toml"), "--dry-run", "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_areal_127_a_dry_run_counts_the_rows(tmp_path, capsys, tiny_model):
    code, said_of_it = dry_run(tmp_path, capsys, tiny_model, TEMPLATED)
    assert code == 0
    [line] = said_of_it["marks"]
    assert line.startswith("control string in 3 rows; the first: ") and "train.jsonl:1: " in line
    assert dry_run(tmp_path, capsys, tiny_model, TEMPLATED[3:])[1]["marks"] == []


@pytest.mark.parametrize(
    "row",
    [
        {
            "conversations": [
                {"from": "human", "value": "Which stone is blue and green?", "weight": None},
                {"from": "gpt", "value": "That would be an opal.", "weight": None},
            ],
            "system": None,
        },
        {
            "messages": [
                said("user", "Which bee builds with clay?", tool_calls=None, name=None),
                said("assistant", "The mason bee does so.", tool_calls=None, refusal=None),
            ],
            "tools": None,
        },
        {"id": None, **exchange("Which fish has teeth like a wolf?", "A pike, surely.")},
    ],
)
def test_axolotl_1649_null_columns(tmp_path, capsys, row):
    """An export writes every column into every row; in JSON a null was a value of the wrong type."""
    assert check(capsys, write(tmp_path, "nulls.jsonl", row)) == []


def test_medqa_2_a_byte_order_mark(tmp_path, capsys):
    """Windows editors put a mark before the text. The first row was lost."""
    rows = [
        {"instruction": "Which tree lives longest?", "output": "An oak may."},
        {"instruction": "Which fish has teeth like a wolf?", "output": "A pike, surely."},
    ]
    assert check(capsys, write(tmp_path, "bom.jsonl", *rows, before=BOM)) == []
    (tmp_path / "bom.json").write_text(BOM + json.dumps(rows), encoding="utf-8")
    out = tmp_path / "out.jsonl"
    assert main(["data", "convert", str(tmp_path / "bom.json"), "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 2
    joined = tmp_path / "joined.jsonl"
    joined.write_text("".join(f"{BOM}{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    assert check(capsys, str(joined)) == []


def test_a_file_in_utf_16_is_named_so(tmp_path, capsys):
    file = tmp_path / "shell.jsonl"
    file.write_text(json.dumps(TEMPLATED[3]), encoding="utf-16")
    assert main(["data", "check", str(file)]) == 2
    assert "UTF-16" in capsys.readouterr().err


CALL = {"id": "c1", "type": "function", "function": {"name": "weigh", "arguments": "{}"}}
WEIGH = {"name": "weigh", "parameters": {"type": "object", "properties": {}}}


def test_llamafactory_5866_and_mlx_vlm_1864_rows_with_tools(tmp_path, capsys):
    """function_call and observation, calls with null content, a column of tools as JSON text."""
    openai = {
        "messages": [
            said("user", "Weigh parcel number seven."),
            said("assistant", None, tool_calls=[CALL]),
            said("tool", "2.4 kg", tool_call_id="c1"),
            said("assistant", "The parcel weighs 2.4 kg."),
        ],
        "tools": [{"type": "function", "function": WEIGH}],
    }
    sharegpt = {
        "conversations": [
            {"from": "human", "value": "Weigh parcel number seven."},
            {"from": "function_call", "value": '{"name": "weigh"}'},
            {"from": "observation", "value": "2.4 kg"},
            {"from": "gpt", "value": "The parcel weighs 2.4 kg."},
        ],
        "tools": json.dumps([WEIGH]),
    }
    written = []
    for name, row in (("openai", openai), ("sharegpt", sharegpt)):
        file = write(tmp_path, f"{name}.jsonl", row, exchange("Many thanks for that.", "Any time!"))
        if name == "sharegpt":
            file = write(tmp_path, f"{name}.jsonl", row)
        assert check(capsys, file) == []
        main(["data", "convert", file])
        written.append(json.loads(capsys.readouterr().out.splitlines()[0]))
    first, second = written
    assert first["tools"] == second["tools"] == openai["tools"]
    del first["messages"][1]["tool_calls"][0]["id"], first["messages"][2]["tool_call_id"]
    assert first["messages"] == second["messages"], "one conversation, in two spellings"
    undeclared = {**sharegpt, "tools": "[]"}
    [(kind, _, message)] = check(capsys, write(tmp_path, "none.jsonl", undeclared))
    assert kind == "unknown tool" and "lists no tools" in message
