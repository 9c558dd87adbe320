"""Tokenizers that people have: right, or a clear no."""

from __future__ import annotations

import json
import shutil

import pytest

from harness.errors import HarnessError
from harness.formats.exchange.sources import read_source
from harness.models import load, load_tokenizer, locate
from tests.device import chosen_device
from tests.tiny import CHATML


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def change(folder, **settings):
    file = folder / "tokenizer_config.json"
    facts = json.loads(file.read_text()) | settings
    file.write_text(json.dumps({key: value for key, value in facts.items() if value is not None}))


def read(folder):
    return load_tokenizer(locate(str(folder)))


def test_the_template_of_a_processor_is_seen(folder):
    """Multimodal models keep it beside the processor, where AutoTokenizer does not look."""
    (folder / "chat_template.jinja").unlink()
    assert read(folder).chat_template is None
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": CHATML}))
    assert read(folder).chat_template == CHATML
    assert (
        load(str(folder), dtype="float32", device=chosen_device()).tokenizer.chat_template == CHATML
    )
    assert read_source(folder).template == CHATML


def test_a_template_of_its_own_comes_first(folder):
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "other"}))
    assert read(folder).chat_template == CHATML


def test_a_processor_without_a_template_has_none(folder):
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text("{}")
    assert read(folder).chat_template is None


def test_named_templates_without_a_default_are_no_native_format(folder):
    from harness.evaluation.format_groups import native_format_id
    from harness.formats import load_formats

    (folder / "chat_template.jinja").unlink()
    named = [{"name": "tools", "template": CHATML}, {"name": "rag", "template": CHATML}]
    change(folder, chat_template=named)
    tokenizer = read(folder)
    assert set(tokenizer.chat_template) == {"tools", "rag"}
    assert native_format_id(tokenizer, load_formats().values()) is None
    change(folder, chat_template=[*named, {"name": "default", "template": CHATML}])
    assert native_format_id(read(folder), load_formats().values()) == "chatml"


def test_a_tokenizer_without_eos_is_refused(folder):
    """Nothing could end an answer: a report would be a table of dashes."""
    change(folder, eos_token=None)
    with pytest.raises(HarnessError, match=r"has no EOS token .* set eos_token in"):
        read(folder)


def test_a_byte_level_vocabulary_without_tokenizer_json_is_read(folder):
    """vocab.json and merges.txt, as GPT-2 was published."""
    tokenizer = read(folder)
    tokenizer.backend_tokenizer.model.save(str(folder))
    (folder / "tokenizer.json").unlink()
    change(folder, tokenizer_class="GPT2Tokenizer")
    again = read(folder)
    text = "What is the capital of Norway? Oslo."
    assert again(text).input_ids == tokenizer(text).input_ids
    assert again(text, return_offsets_mapping=True).offset_mapping[0] == (0, 4)


def test_a_sentencepiece_model_alone_names_the_package(folder, monkeypatch):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    change(folder, tokenizer_class="LlamaTokenizer")
    monkeypatch.setattr("harness.models.loading.is_installed", lambda name: name != "sentencepiece")
    with pytest.raises(HarnessError, match=r"tokenizer\.model, which needs sentencepiece"):
        read(folder)


def test_a_tokenizer_without_offsets_is_refused(folder):
    """One in Python alone: characters, as for DNA."""
    for name in ("tokenizer.json", "chat_template.jinja"):
        (folder / name).unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[EOS]\na\nb\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "EsmTokenizer", "eos_token": "[EOS]"})
    )
    with pytest.raises(HarnessError, match="no character offsets"):
        read(folder)
