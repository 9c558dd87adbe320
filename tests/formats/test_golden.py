"""Golden renderings of each format for eight shapes of conversation: a change shows in the diff.

UPDATE_GOLDEN=1 pytest tests/formats/test_golden.py writes them again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.render import render

FORMATS = load_formats()
GOLDEN = Path(__file__).parents[1] / "golden" / "formats"
S, U1, A1, U2, A2 = (
    Message("system", "SYS"),
    Message("user", "U1"),
    Message("assistant", "A1"),
    Message("user", "U2"),
    Message("assistant", "A2"),
)
SHAPES = {
    "no system": ((U1, A1), {}),
    "system": ((S, U1, A1), {}),
    "multi-turn, prompt": ((S, U1, A1, U2), {"add_generation_prompt": True}),
    "empty system": ((Message("system", ""), U1), {"add_generation_prompt": True}),
    "consecutive roles": ((U1, U2, A1, A2, U1), {"add_generation_prompt": True}),
    "outer white space": (
        (Message("user", " U1\n"), Message("assistant", "\n A1 "), U2),
        {"add_generation_prompt": True},
    ),
    "names": (
        (
            S,
            Message("user", "U1", "Dov"),
            Message("assistant", "A1", "Mira"),
            Message("user", "U2", "Narrator"),
            Message("assistant", "A2", "Ilse"),
        ),
        {},
    ),
    "continue final": ((U1, A1, U2, A2), {"continue_final_message": True}),
}


def shapes(chat_format):
    renderings = {}
    for name, (messages, how) in SHAPES.items():
        try:
            renderings[name] = render(
                Conversation(name, messages),
                chat_format,
                bos_token="<BOS>",
                eos_token="<EOS>",
                **how,
            ).text
        except HarnessError as error:
            renderings[name] = {"refused": error.message}
    return renderings


@pytest.mark.parametrize("format_id", list(FORMATS))
def test_the_renderings_are_the_golden_ones(format_id):
    file = GOLDEN / f"{format_id}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(parents=True, exist_ok=True)
        file.write_text(
            json.dumps(shapes(FORMATS[format_id]), indent=1, ensure_ascii=False) + "\n",
            encoding="utf-8",
        )
    assert shapes(FORMATS[format_id]) == json.loads(file.read_text(encoding="utf-8"))


def test_no_golden_file_is_left_over():
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(FORMATS)
