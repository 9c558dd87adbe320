"""Sound artefacts of tiny tokenizers, for the checks of texts, ids, stops and settings."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from harness.conversation import Conversation, Message
from harness.formats import load_formats
from harness.formats.exchange.exporting import export_format
from harness.ship.checks.trained_texts import trained_texts
from harness.tokens.encode import bos_text
from harness.training.share.export import chat_template, write_generation, write_tokenizer
from tests.tiny import build_tokenizer

FORMATS = load_formats()
ROWS = (
    Conversation(
        "rows.jsonl:1",
        (
            Message("user", "What is the capital of Norway?"),
            Message("assistant", "Oslo."),
            Message("user", 'And "of" {Sweden}?\nIn one word, please: é 漢'),
            Message("assistant", "Stockholm it is."),
        ),
    ),
    Conversation(
        "rows.jsonl:2",
        (
            Message("user", "Set x to {{1}} in f({y}), or say \\n."),
            Message("assistant", 'f({"y": {"z": 1}})'),
            Message("user", "Why?"),
            Message("assistant", "Because."),
        ),
    ),
)


MARKS = [
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>"),
    *("[INST]", "[/INST]", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|start|>"),
    *("<|message|>", "<|channel|>", "<|return|>", "<|call|>", "<|START_OF_TURN_TOKEN|>"),
    *("<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"),
]


@cache
def tokenizer_of(kind):
    """``bytes``: ChatML, no BOS. ``marks``: the marks of many formats. ``bos``: the same, and a BOS
    before each text. ``spaces``: like Llama 2's.
    """
    if kind == "spaces":
        from tests.tokens.test_encode import metaspace_tokenizer

        return with_bos(metaspace_tokenizer("first"), "<s>")
    tokenizer = build_tokenizer()
    if kind in ("marks", "bos"):
        tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    return with_bos(tokenizer, "<|endoftext|>") if kind == "bos" else tokenizer


def with_bos(tokenizer, bos):
    from tokenizers.processors import TemplateProcessing

    pair = (bos, tokenizer.convert_tokens_to_ids(bos))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[pair]
    )
    return tokenizer


@cache
def trained_in(format_id, kind="bytes", *, rows=True):
    return trained_texts(FORMATS[format_id], tokenizer_of(kind), ROWS if rows else ())


def write_folder(folder, format_id, kind="bytes"):
    """What ``harness ship --to hf`` writes beside the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(tokenizer_of(kind), FORMATS[format_id], folder)
    write_generation(tokenizer_of(kind), FORMATS[format_id], folder)
    change(folder / "config.json", max_position_embeddings=2048)
    return folder


def change(path, **values):
    """Set keys of a JSON file, or take them out (None)."""
    table = json.loads(path.read_text()) if path.exists() else {}
    table |= values
    kept = {key: value for key, value in table.items() if value is not None}
    path.write_text(json.dumps(kept, indent=1))


def edit(path, old, new):
    """Replace a text that is there."""
    text = path.read_text(encoding="utf-8")
    assert old in text, text
    path.write_text(text.replace(old, new), encoding="utf-8")


def write_metadata(path, format_id, kind="bytes", **changes):
    """A GGUF file without weights: template, tokens, ends. ``changes`` by their last word."""
    import gguf

    tokenizer = tokenizer_of(kind)
    controls = set(tokenizer.all_special_tokens)
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    facts = {
        "template": chat_template(FORMATS[format_id], tokenizer),
        "eos": tokenizer.eos_token_id,
        "adds_bos": tokenizer("").input_ids[:1] == [tokenizer.bos_token_id],
        "context": 2048,
        "controls": controls,
        **changes,
    }
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(facts["context"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in facts["controls"] else 1 for token in tokens])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    if facts["eos"] is not None:
        writer.add_eos_token_id(facts["eos"])
    writer.add_add_bos_token(facts["adds_bos"])
    if facts.get("adds_eos"):
        writer.add_add_eos_token(True)
    if "sampling" in facts:
        for name, value in facts["sampling"].items():
            writer.add_float32(f"general.sampling.{name}", value)
    if facts["template"]:
        writer.add_chat_template(facts["template"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def write_modelfile(path: Path, format_id: str, kind: str = "bytes") -> Path:
    """What ``harness ship --to ollama`` writes."""
    tokenizer = tokenizer_of(kind)
    text = export_format(FORMATS[format_id], "ollama").text
    text = text.replace("</s>", tokenizer.eos_token).replace("<s>", bos_text(tokenizer))
    settings = "PARAMETER temperature 0\nPARAMETER repeat_penalty 1\nPARAMETER num_ctx 2048\n"
    path.write_text(f"FROM ./model.gguf\n{text}{settings}", encoding="utf-8")
    return path


def kinds(checks):
    """The kinds of all findings."""
    return {finding.kind for check in checks for finding in check.findings}
