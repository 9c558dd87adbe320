"""Configurations of TRL, axolotl and unsloth are read as those trainers read them."""

from __future__ import annotations

import json

import pytest

from harness.errors import HarnessError
from harness.formats.trainers.axolotl import AxolotlSettings
from harness.formats.trainers.trainer_config import read_trainer_config
from harness.formats.trainers.trl import TrlSettings
from harness.formats.trainers.unsloth import UnslothSettings

SCRIPT = """
import torch
from unsloth import FastLanguageModel
from trl import SFTConfig, SFTTrainer

MODEL, LENGTH = "me/model", 512
ANSWER = "<|im_start|>assistant\\n"
model, tokenizer = FastLanguageModel.from_pretrained(model_name="me/model", max_seq_length=256)
trainer = SFTTrainer(model, args=SFTConfig(packing=True, max_length=max(1, 2)))
trainer = train_on_responses_only(trainer, "<|im_start|>user\\n", response_part=ANSWER)
"""


def read(trainer, folder, name, text):
    path = folder / name
    path.write_text(text)
    return read_trainer_config(trainer, path)


def test_trl_as_json_and_within_other_keys(tmp_path):
    values = {"assistant_only_loss": True, "max_length": None, "learning_rate": 1e-4}
    plain = read("trl", tmp_path, "a.json", json.dumps(values))
    assert plain.settings == TrlSettings(assistant_only_loss=True, max_length=None)
    nested = {"model_name_or_path": "m", "sft": {"max_seq_length": 64, "packing": True}}
    config = read("trl", tmp_path, "b.json", json.dumps(nested))
    assert config.settings == TrlSettings(max_length=64, packing=True) and config.model == "m"


def test_trl_takes_a_template_file(tmp_path):
    (tmp_path / "t.jinja").write_text("{{ messages }}")
    config = read("trl", tmp_path, "a.json", json.dumps({"chat_template_path": "t.jinja"}))
    assert config.template == "{{ messages }}"
    other = read("trl", tmp_path, "b.json", json.dumps({"chat_template_path": "me/model"}))
    assert not other.template and "--model" in other.notes[0]


def test_a_script_is_read_and_not_run(tmp_path):
    config = read("unsloth", tmp_path, "t.py", "raise SystemExit(3)\n" + SCRIPT)
    markers = ("<|im_start|>user\n", "<|im_start|>assistant\n")
    assert config.settings == UnslothSettings(*markers, max_length=256)
    assert config.model == "me/model"
    assert config.notes == ("max_length is computed in the script, so its default is taken",)
    cell = {"cell_type": "code", "source": ["!pip install unsloth\n", SCRIPT]}
    book = json.dumps({"cells": [{"cell_type": "markdown", "source": ["# x"]}, cell]})
    assert read("unsloth", tmp_path, "t.ipynb", book).settings == config.settings
    trl = read("trl", tmp_path, "u.py", SCRIPT)
    assert trl.settings == TrlSettings(packing=True, max_length=256)


def test_a_script_without_the_call_masks_nothing(tmp_path):
    config = read("unsloth", tmp_path, "t.py", "SFTTrainer(model)")
    assert config.settings == UnslothSettings(train_on_responses_only=False)
    assert "never calls" in config.notes[0]


AXOLOTL = """
base_model: me/model
chat_template: chatml
sequence_len: 100
train_on_inputs: false
eot_tokens: ["<|im_end|>"]
special_tokens: {eos_token: "</s>"}
datasets:
  - path: other.jsonl
    type: completion
  - path: rows.jsonl
    type: chat_template
    field_messages: conversations
    message_field_role: from
    message_property_mappings: {content: value}
    roles: {user: [human], assistant: [gpt]}
    roles_to_train: [gpt]
    train_on_eos: last
    split_thinking: true
"""


def test_axolotl(tmp_path):
    pytest.importorskip("yaml")
    (tmp_path / "rows.jsonl").write_text("")
    config = read("axolotl", tmp_path, "a.yml", AXOLOTL)
    assert config.settings == AxolotlSettings(
        roles_to_train=("gpt",),
        train_on_eos="last",
        eot_tokens=("<|im_end|>",),
        sequence_len=100,
        field_messages="conversations",
        message_property_mappings={"role": "from", "content": "value"},
        roles={"user": ["human"], "assistant": ["gpt"]},
        split_thinking=True,
    )
    assert (config.model, config.format_id, config.eos_token) == ("me/model", "chatml", "</s>")
    assert config.data == (str(tmp_path / "rows.jsonl"),) and len(config.notes) == 2


@pytest.mark.parametrize(
    ("trainer", "name", "text", "says"),
    [
        ("axolotl", "a.yml", "base_model: x", "no list of datasets"),
        ("axolotl", "a.yml", "datasets: [{path: x, type: alpaca}]", "chat_template"),
        (
            "axolotl",
            "a.yml",
            "chat_template: cohere\ndatasets: [{path: x, type: chat_template}]",
            "not here",
        ),
        ("trl", "a.yml", "a: [", "cannot be read"),
        ("trl", "a.json", "[1]", "keys with values"),
        ("trl", "a.json", '{"packing": "yes"}', "expected bool"),
        ("trl", "a.py", "def (", "not Python"),
    ],
)
def test_mistakes_are_one_line(tmp_path, trainer, name, text, says):
    pytest.importorskip("yaml")
    with pytest.raises(HarnessError, match=says):
        read(trainer, tmp_path, name, text)
