"""Instruction templates of text-generation-webui."""

from __future__ import annotations

import pytest

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.exchange.detecting import rank_formats
from harness.formats.exchange.exporting import export_format
from harness.formats.exchange.importing import import_format
from harness.formats.exchange.programs.webui import read_yaml_texts
from harness.formats.exchange.sources import read_source
from harness.formats.render import render

S, Q, A, R = (
    Message("system", "S"),
    Message("user", "Q"),
    Message("assistant", "A"),
    Message("user", "R"),
)


def written(tmp_path, text, messages=(Q, A, R)):
    (tmp_path / "x.yaml").write_text(text)
    chat_format = import_format(read_source(tmp_path / "x.yaml"), "mine").format
    return render(
        Conversation("c", messages), chat_format, add_generation_prompt=True, eos_token="</s>"
    ).text


def test_a_jinja_template_in_a_block(tmp_path):
    (tmp_path / "x.yml").write_text(export_format(load_formats()["zephyr"], "webui").text)
    source = read_source(tmp_path / "x.yml")
    rows = rank_formats(source, [load_formats()["zephyr"]])
    assert source.kind == "text-generation-webui template" and rows[0][1] == rows[0][2]


def test_an_older_file(tmp_path):
    text = (
        'user: "USER:"\nbot: "ASSISTANT:"\n'
        'turn_template: "<|user|> <|user-message|>\\n<|bot|> <|bot-message|></s>\\n"\n'
        'context: "<|system-message|>\\n\\n"\nsystem_message: "A talk."\n'
    )
    assert written(tmp_path, text) == ("A talk.\n\nUSER: Q\nASSISTANT: A</s>\nUSER: R\nASSISTANT:")
    assert written(tmp_path, text, (S, Q)) == "S\n\nUSER: Q\nASSISTANT:"


def test_an_empty_system_prompt_keeps_its_place(tmp_path):
    text = (
        'user: user\nbot: bot\nturn_template: "<|user|>:<|user-message|>\\n<|bot|>:<|bot-message|>\\n"\n'
        'context: "[<|system-message|>]\\n"\n'
    )
    assert written(tmp_path, text, (Q,)) == "[]\nuser:Q\nbot:"


def test_numbered_turns_are_refused(tmp_path):
    text = 'turn_template: "[<|round|>]<|user-message|>\\n<|bot-message|>\\n"\n'
    with pytest.raises(HarnessError, match="cannot be imported"):
        written(tmp_path, text)


def test_an_older_file_with_a_fixed_context(tmp_path):
    text = (
        "user: 'It''s me:'\nbot: Bot\n"
        "turn_template: <|user|><|user-message|>|<|bot|>:<|bot-message|>|\n"
        "context: |\n  A talk.\n"
    )
    assert written(tmp_path, text) == "A talk.\nIt's me:Q|Bot:A|It's me:R|Bot:"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: |-\n  one\n    two\n\n  three\n", {"a": "one\n  two\n\nthree"}),
        ("a: |\n  one\nb: x # note\n", {"a": "one\n", "b": "x"}),
        ('a: "one\n  two\\n\\\n  three"\n', {"a": "one two\nthree"}),
        ("# note\n---\na: 'it''s'\nb:\n", {"a": "it's", "b": ""}),
        ("a: >-\n  one\n  two\n", {"a": "one two"}),
    ],
)
def test_yaml_texts(text, found):
    yaml = pytest.importorskip("yaml")
    assert read_yaml_texts(text, "x") == found
    assert {key: value or "" for key, value in yaml.safe_load(text).items()} == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: Tom\ngreeting: Hello\n", "no instruction template of text-generation-webui"),
        ("- a\n- b\n", r"x\.yaml:1: not read as YAML"),
        ('a: "never ends\n', "a quoted text does not end"),
    ],
)
def test_another_yaml_is_told_apart(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(HarnessError, match=message):
        read_source(tmp_path / "x.yaml")
