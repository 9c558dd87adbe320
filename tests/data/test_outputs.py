"""Outputs and training answers are read from any schema, thoughts included."""

from __future__ import annotations

import json

from harness.data.outputs import Output, read_answers, read_outputs
from harness.metrics.copies.recall_index import RecallHit

THINKING = {
    "id": "t",
    "messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "<think>a thought</think>first"},
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {}}]},
        {"role": "tool", "content": "r"},
        {"role": "assistant", "content": "last", "reasoning_content": "another"},
    ],
}
ROWS = [
    THINKING,
    {"id": "s", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    {"id": "p", "prompt": "q", "completion": "a"},
    {"id": "o", "prompt": "q", "text": "a"},
    {"text": "<think>x</think>y"},
]


def test_answers_and_outputs_of_every_schema(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    assert read_answers(str(file)) == [
        ("t", "first"),
        ("t#1#thought", "a thought"),
        ("t#5", "last"),
        ("t#5#thought", "another"),
        ("s", "a"),
        ("p", "a"),
        ("o", "a"),
        ("rows-5", "<think>x</think>y"),
    ]
    assert read_outputs(str(file)) == [
        Output("t", "another\n\nlast", "q\nand?\nr"),
        Output("s", "a", "q"),
        Output("p", "a", "q"),
        Output("o", "a", "q"),
        Output("rows-5", "<think>x</think>y"),
    ]


def test_a_thought_of_its_own_row_is_not_another_example():
    hits = {
        source: RecallHit(source, ("span",)) for source in ("a", "a#2", "a#2#thought", "ab", "b")
    }
    assert [source for source, hit in hits.items() if hit.misplaced("a")] == ["ab", "b"]
