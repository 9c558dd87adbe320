"""What tests of several backends share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """A file of two cases: an answer that is checked, and a choice."""
    path = tmp_path / "cases.jsonl"
    message = [{"role": "user", "content": "Say hello."}]
    rows = [
        {"id": "a", "messages": message, "checks": [{"contains": "Hello"}]},
        {"id": "c", "messages": message, "choices": ["Oslo", "Rome"], "answer": 0},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
