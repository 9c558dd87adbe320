"""Logs of lm-eval, Inspect, promptfoo and OpenAI batches, and ShareGPT files, are read as outputs.

The rows are written by hand from each project's documentation.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.main import main
from harness.data.eval_logs import logged_answers
from harness.data.outputs import Output, read_answers, read_outputs
from harness.errors import HarnessError

LM_EVAL = {
    "doc_id": 3,
    "doc": {"question": "Why?"},
    "target": "Because.",
    "arguments": {"gen_args_0": {"arg_0": "Q: Why?\nA:", "arg_1": {"until": ["\n"]}}},
    "resps": [["Because it rains."]],
    "filtered_resps": ["because it rains"],
    "filter": "none",
    "metrics": ["exact_match"],
    "exact_match": 0.0,
}
REPEATED = {**LM_EVAL, "arguments": [["Q: Why?\nA:", {"until": ["\n"]}]], "resps": [["One", "Two"]]}
CHOICES = {
    **LM_EVAL,
    "arguments": {"gen_args_0": {"arg_0": "Q", "arg_1": " A"}},
    "resps": [[["-1.5", "False"]], [["-2.5", "True"]]],
}
INSPECT = {
    "version": 2,
    "status": "success",
    "eval": {"task": "trivia", "model": "hf/x"},
    "samples": [
        {
            "id": "s1",
            "epoch": 1,
            "input": "Capital of Norway?",
            "target": "Oslo",
            "messages": [],
            "output": {
                "model": "x",
                "choices": [
                    {
                        "message": {
                            "role": "assistant",
                            "content": [
                                {"type": "reasoning", "reasoning": "Norway, so"},
                                {"type": "text", "text": "Oslo"},
                            ],
                        },
                        "stop_reason": "stop",
                    }
                ],
            },
            "scores": {"match": {"value": "C"}},
        },
        {
            "id": 2,
            "epoch": 2,
            "input": [{"role": "user", "content": "And Sweden?"}],
            "target": "Stockholm",
            "output": {"model": "x", "choices": []},
        },
    ],
}
PROMPTFOO_ROW = {
    "promptIdx": 0,
    "testIdx": 4,
    "prompt": {"raw": "Say hello", "label": "Say {{x}}"},
    "provider": {"id": "openai:m", "label": "m"},
    "vars": {"x": "hello"},
    "response": {"output": "Hello!", "tokenUsage": {"total": 3}},
    "success": True,
    "score": 1,
}
PROMPTFOO = {
    "evalId": "eval-1",
    "results": {"version": 3, "prompts": [], "results": [PROMPTFOO_ROW], "stats": {}},
    "config": {},
}
BATCH = {
    "id": "batch_req_1",
    "custom_id": "request-7",
    "response": {
        "status_code": 200,
        "body": {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}}],
        },
    },
    "error": None,
}
FAILED = {"id": "b", "custom_id": "request-8", "response": None, "error": {"code": "expired"}}
RESPONSES = {
    "id": "b",
    "custom_id": "r9",
    "response": {
        "body": {
            "output": [
                {"type": "reasoning", "summary": []},
                {"type": "message", "content": [{"type": "output_text", "text": "Nine."}]},
            ]
        }
    },
    "error": None,
}
COMPLETION = {
    "id": "b",
    "custom_id": "r10",
    "response": {"body": {"choices": [{"text": "Ten"}]}},
    "error": None,
}


def _lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "samples_task.jsonl",
            _lines(LM_EVAL, REPEATED),
            [
                Output("samples_task-1 (3)", "Because it rains.", "Q: Why?\nA:"),
                Output("samples_task-2 (3.0)", "One", "Q: Why?\nA:"),
                Output("samples_task-2 (3.1)", "Two", "Q: Why?\nA:"),
            ],
        ),
        (
            "log.json",
            json.dumps(INSPECT, indent=2),
            [
                Output("log-1 (s1)", "Norway, so\n\nOslo", "Capital of Norway?"),
                Output("log-2 (2.2)", "", "And Sweden?"),
            ],
        ),
        (
            "results.json",
            json.dumps(PROMPTFOO, indent=2),
            [Output("results-1 (4.0 m)", "Hello!", "Say hello")],
        ),
        (
            "results.jsonl",
            _lines(PROMPTFOO_ROW),
            [Output("results-1 (4.0 m)", "Hello!", "Say hello")],
        ),
        (
            "batch.jsonl",
            _lines(BATCH, FAILED, RESPONSES, COMPLETION),
            [
                Output("batch-1 (request-7)", "Hi."),
                Output("batch-2 (request-8)", ""),
                Output("batch-3 (r9)", "Nine."),
                Output("batch-4 (r10)", "Ten"),
            ],
        ),
        (
            "sharegpt.json",
            json.dumps(
                [
                    {
                        "id": "s",
                        "conversations": [
                            {"from": "human", "value": "q"},
                            {"from": "gpt", "value": "a"},
                        ],
                    }
                ]
            ),
            [Output("s", "a", "q")],
        ),
    ],
)
def test_outputs(name, text, expected, tmp_path):
    (tmp_path / name).write_text(text)
    assert read_outputs(str(tmp_path / name)) == expected
    # the same file as what outputs are compared with
    texts = [text for _, text in read_answers(str(tmp_path / name))]
    assert texts == [output.text for output in expected]


def test_a_log_of_choices_has_no_answers(tmp_path):
    (tmp_path / "samples.jsonl").write_text(_lines(CHOICES))
    with pytest.raises(HarnessError, match="log-probabilities, not answers"):
        read_outputs(str(tmp_path / "samples.jsonl"))


@pytest.mark.parametrize(
    "row",
    [
        {"text": "a", "id": "1"},
        {"prompt": "q", "completion": "a"},
        {"instruction": "q", "input": "x", "output": "a"},
        {"messages": [], "doc_id": 1},
    ],
)
def test_other_rows_are_no_logs(row):
    assert logged_answers(row, "f:1") is None


def test_the_commands_read_them(tmp_path, capsys):
    lamps = (
        "The lamps along the quay were lit one by one as the evening came down over the harbour."
    )
    batch = {**BATCH, "response": {"body": {"choices": [{"message": {"content": lamps}}]}}}
    russian = {**PROMPTFOO_ROW, "response": {"output": "Я не знаю, что это такое, правда."}}
    (tmp_path / "batch.jsonl").write_text(_lines(batch))
    (tmp_path / "pf.json").write_text(json.dumps({"results": {"results": [russian]}}))
    (tmp_path / "log.json").write_text(json.dumps(INSPECT))
    assert (
        main(["recall", str(tmp_path / "batch.jsonl"), "--against", str(tmp_path / "batch.jsonl")])
        == 0
    )
    assert "batch-1 (request-7): copies batch-1 (request-7)" in capsys.readouterr().out
    assert main(["drift", str(tmp_path / "pf.json")]) == 0
    assert "pf-1 (4.0 m): drift at character 0" in capsys.readouterr().out
    assert (
        main(["phrases", str(tmp_path / "log.json"), "--against", str(tmp_path / "batch.jsonl")])
        == 0
    )


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.data())
def test_a_damaged_row_is_never_our_bug(data):
    row = dict(
        data.draw(
            st.sampled_from([LM_EVAL, INSPECT["samples"][0], PROMPTFOO_ROW, BATCH, RESPONSES])
        )
    )
    for _ in range(data.draw(st.integers(1, 3))):
        place = row
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
                place[key] = place = type(place[key])(place[key])
                continue
            place[key] = data.draw(_JSON)
            break
    try:
        answers = logged_answers(row, "f:1")
    except HarnessError:
        return
    assert answers is None or all(isinstance(each.text, str) for each in answers)
