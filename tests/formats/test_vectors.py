"""Conformance: the renderings of other projects' test suites, to the byte, or a reason why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.render import render

FORMATS = load_formats()
VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))[
    "vectors"
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['format']}-{v['case'][:40]}")
def test_vector(vector):
    try:
        text = rendered(vector).text
    except (HarnessError, ValueError) as error:
        assert vector["differs"], error
        return
    if vector["differs"]:
        assert text != vector["expected"], (
            f"this vector is green now: remove its reason ({vector['differs']})"
        )
    else:
        assert text == vector["expected"]


def rendered(vector):
    return render(
        Conversation("v", tuple(Message(m["role"], m["content"]) for m in vector["messages"])),
        FORMATS[vector["format"]],
        add_generation_prompt=vector["add_generation_prompt"],
        continue_final_message=vector["continue_final_message"],
        bos_token=vector["bos"],
        eos_token=vector["eos"],
    )


def test_the_command_prints_exactly_the_text(tmp_path, capfdbinary):
    vector = next(
        v
        for v in VECTORS
        if v["format"] == "llama3" and not v["differs"] and v["add_generation_prompt"]
    )
    file = tmp_path / "m.json"
    file.write_text(json.dumps({"messages": vector["messages"]}))
    assert (
        main(
            [
                "formats",
                "render",
                "llama3",
                str(file),
                "--generation-prompt",
                "--bos",
                vector["bos"],
                "--eos",
                vector["eos"],
            ]
        )
        == 0
    )
    assert capfdbinary.readouterr().out == vector["expected"].encode()
