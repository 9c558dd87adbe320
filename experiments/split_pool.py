"""Split the shipped pool into training rows and controls: ``python -m experiments.split_pool``.

The pool is what ``trainset/*.jsonl`` and ``eval/controls.jsonl`` hold together. Which half a row is
in says nothing about it: CONTROLS rows are drawn within kind and length by a seed that was never
tried against another. Split again, the pool gives the same files. Put a new row into either of them
and split the pool again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.conversation import Conversation
from harness.data.controls import CONTROLS_FILE, kind_of, set_aside, without
from harness.data.conversations import as_row, load_conversations
from harness.files import write_text
from harness.resources import data_dir

CONTROLS = 200
SEED = 0


def pool() -> list[Conversation]:
    """All rows, by kind and number."""
    names = [str(data_dir("trainset")), str(data_dir("eval") / CONTROLS_FILE)]
    return sorted(load_conversations(names), key=lambda row: (kind_of(row), row.id))


def split(rows: Sequence[Conversation]) -> dict[Path, str]:
    """The file of each kind's training rows and that of the controls, with their texts."""
    controls = set_aside(rows, CONTROLS, SEED)
    files: dict[Path, list[Conversation]] = {data_dir("eval") / CONTROLS_FILE: controls}
    for row in without(rows, controls):
        files.setdefault(data_dir("trainset") / f"{kind_of(row)}.jsonl", []).append(row)
    return {file: "".join(map(_line, kept)) for file, kept in files.items()}


def _line(row: Conversation) -> str:
    return json.dumps(as_row(row), ensure_ascii=False) + "\n"


def write(files: Mapping[Path, str]) -> None:
    """Replace the files."""
    for file, text in files.items():
        write_text(file, text)
        print(f"{file}: {text.count(chr(10))} rows")


if __name__ == "__main__":
    write(split(pool()))
