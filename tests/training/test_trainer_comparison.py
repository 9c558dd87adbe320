"""Rows are compared with another trainer's mask, up to a limit, and a row that we refuse is named."""

from __future__ import annotations

import json

from harness.formats.trainers.trainer_config import TrainerConfig
from harness.formats.trainers.trl import TrlSettings
from harness.training.data.trainer_comparison import compare_trainer
from tests.tiny import build_tokenizer

TALK = {"messages": [{"role": "user", "content": "A gem?"}, {"role": "assistant", "content": "?"}]}
NO_CONTENT = {"messages": [{"role": "user", "content": 7}]}


def compare(tmp_path, rows, **limits):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = TrainerConfig("trl", TrlSettings())
    return compare_trainer(config, [str(file)], build_tokenizer(), **limits)


def test_only_the_first_rows_are_read(tmp_path, monkeypatch):
    from harness.data import conversations

    read = []
    parse = conversations.parse_conversation
    monkeypatch.setattr(
        conversations, "parse_conversation", lambda *row: read.append(row[1]) or parse(*row)
    )
    found = compare(tmp_path, [TALK] * 5, most=2)
    assert (
        [row.place for row in found.rows] == read == [f"{tmp_path}/rows.jsonl:{n}" for n in (1, 2)]
    )
    counts = [("trains a header", 2), ("trains a question", 2)]
    assert list(found.counts().items()) == counts, "in the order of the first row's text"


def test_a_row_that_we_refuse_is_not_compared(tmp_path):
    found = compare(tmp_path, [TALK, NO_CONTENT])
    refused = found.rows[1]
    assert refused.ours is None and "content" in refused.why
    assert found.counts()["trains a header"] == 1
