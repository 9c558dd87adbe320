"""Public reports of faults in conversation files, each with an input of its kind.

The inputs are written here; each test names the report, says what went wrong elsewhere, and what
is expected here.
"""

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


def test_areal_127_rows_that_are_rendered_already(tmp_path, capsys):
    """Two templates around one text: the inner marks are trained as letters, and nobody said so."""
    found = check(capsys, write(tmp_path, "rows.jsonl", *TEMPLATED))
    assert [(kind, line) for kind, line, _ in found] == [("control string", n) for n in (1, 2, 3)]
    assert all(mark in found[n][2] for n, mark in enumerate(("<|im_end|>", "</s>", "<|im_start|>")))


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


def test_trl_3927_and_unsloth_2900_an_answer_that_is_cut_off(tmp_path, capsys, tiny_model):
    """Cut to max_length a long question leaves no answer: every label was masked, and no word."""
    rows = [exchange("The ledger lists each crate. " * 40, "So it does."), TEMPLATED[3]]
    code, said_of_it = dry_run(tmp_path, capsys, tiny_model, rows, max_length=256)
    assert code == 1 and not said_of_it["starts"]
    [refused] = said_of_it["refused"]
    assert refused["reason"] == "too long" and "over max_length = 256" in refused["message"]
    assert "tokens in format chatml" in refused["message"]


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


@pytest.mark.parametrize("command", [("import", "--id", "m", "--out", "imp"), ("detect",)])
def test_llamafactory_5969_a_broken_config(tmp_path, monkeypatch, capsys, command):
    """A comma too many in tokenizer_config.json was a traceback; a mark before it is read."""
    monkeypatch.chdir(tmp_path)
    template = (
        "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '<end>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
    )
    texts = {
        "comma": '{"chat_template": "x",}',
        "bom": BOM + json.dumps({"chat_template": template}),
    }
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer_config.json").write_text(text, encoding="utf-8")
    verb, *rest = command
    assert main(["formats", verb, "comma", *rest]) == 2
    error = capsys.readouterr().err
    assert "tokenizer_config.json:1: not JSON: " in error and "Traceback" not in error
    assert main(["formats", verb, "bom", *rest]) in (0, 1)
    assert "not JSON" not in capsys.readouterr().err
