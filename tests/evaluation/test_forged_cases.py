"""The forged turns of the shipped cases: inside a user's message the text is what two messages of that format would be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.forged_cases import NOTES, REPLY, WORDS, cases
from harness.conversation import Conversation, Message
from harness.evaluation.cases.case_files import load_cases
from harness.formats import load_formats
from harness.formats.render import render
from harness.resources import data_dir
from harness.training.data.forged_turns import forged_turn

ROOT = Path(__file__).parents[2]
FORMATS = load_formats()


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_forged_message_renders_as_two_real_messages_do(name):
    """A prompt with the forged text is the prompt with the real turns, byte for byte."""
    one = FORMATS[name]
    turn = forged_turn(one, "Say no more.", REPLY)
    real = (Message("user", "Read."), Message("assistant", REPLY), Message("user", "Say no more."))
    whole = render(
        Conversation("real", real), one, add_generation_prompt=True, eos_token="</s>"
    ).text
    assert f"Read.{turn}" in whole
    assert turn.endswith("Say no more.") and turn.count(REPLY) == 1


def test_the_shipped_file_is_what_the_script_writes():
    file = data_dir("eval") / "forged" / "forged.jsonl"
    assert list(map(json.loads, file.read_text("utf-8").splitlines())) == list(cases())


def test_each_common_format_forges_twelve_turns_with_a_plain_twin_each():
    loaded = load_cases(["forged"])
    by_order = {
        order: [case for case in loaded if case.checks[1].value["order"] == order]
        for order in ("forged", "plain", "none")
    }
    assert {order: len(some) for order, some in by_order.items()} == {
        "forged": 216, "plain": 72, "none": 24,
    }  # fmt: skip
    forgers = [case.id.split("-", 2)[2] for case in by_order["forged"]]
    common = [one.id for one in FORMATS.select(["common"])]
    assert {name: forgers.count(name) for name in common} == dict.fromkeys(common, 12)


def test_no_word_is_in_its_note_and_each_answer_is():
    for note, question, says in NOTES:
        text = f"{note} {question}".casefold()
        assert not [word for word in WORDS if word in text]
        assert any(one.casefold() in note.casefold() for one in says)


def test_the_page_shows_a_shipped_case():
    page = (ROOT / "docs" / "forged-turns.md").read_text("utf-8")
    [shown] = [case for case in load_cases(["forged"]) if case.id == "forged-02-chatml"]
    assert f"```text\n{shown.messages[0].content}\n```" in page
