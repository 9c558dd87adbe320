"""The pieces that are read of a template, against the slots that LLaMA-Factory reads of it.

Facts from hiyouga/LLaMA-Factory tests/data/test_template.py at ff6d4d12ee (Apache-2.0): the two
templates whose slots its test spells out, and the Modelfile that it writes for Llama 3.
"""

from __future__ import annotations

import re

import pytest

from harness.formats import load_formats
from harness.formats.exchange.comparing import renderer_of
from harness.formats.exchange.exporting import export_format
from harness.formats.turns import BOS, read_turns

FORMATS = load_formats()
SLOTS = {
    "qwen2.5": {
        "user": "<|im_start|>user\n{{content}}<|im_end|>\n<|im_start|>assistant\n",
        "assistant": "{{content}}<|im_end|>\n",
        "system": "<|im_start|>system\n{{content}}<|im_end|>\n",
        "prefix": "",
        "default": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    },
    "llama3": {
        "user": "<|start_header_id|>user<|end_header_id|>\n\n{{content}}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "assistant": "{{content}}<|eot_id|>",
        "system": "<|start_header_id|>system<|end_header_id|>\n\n{{content}}<|eot_id|>",
        "prefix": "<|begin_of_text|>",
        "default": "",
    },
}
MODELFILE_STOPS = {"<|eot_id|>", "<|eom_id|>"}


@pytest.mark.parametrize("format_id", SLOTS)
def test_the_slots_of_a_template(format_id):
    turns, slots = read_turns(renderer_of(FORMATS[format_id])), SLOTS[format_id]
    prefix = slots["prefix"].replace("<|begin_of_text|>", BOS)
    assert (
        turns.user_open + "{{content}}" + turns.user_close + turns.assistant_open == slots["user"]
    )
    assert turns.answer_glue + "{{content}}" + turns.stop + turns.answer_close == slots["assistant"]
    assert (
        turns.system_open + "{{content}}" + turns.system_close.removesuffix(turns.user_open)
        == prefix + slots["system"]
    )
    default = slots["system"].replace("{{content}}", slots["default"]) if slots["default"] else ""
    assert turns.opening == prefix + default


def test_an_ollama_file_has_its_words_and_stops():
    """Theirs writes <|begin_of_text|>; ours does not, since Ollama adds the model's BOS itself."""
    text = export_format(FORMATS["llama3"], "ollama").text
    assert set(re.findall(r'PARAMETER stop "(.*)"', text)) & MODELFILE_STOPS
    assert "<|begin_of_text|>" not in text
    for piece in (
        "<|start_header_id|>user<|end_header_id|>",
        "<|start_header_id|>assistant<|end_header_id|>",
        "<|start_header_id|>system<|end_header_id|>",
    ):
        assert piece in text
