"""Each planted fault of texts, ids, stops and settings is found by its name, and nothing else is."""

from __future__ import annotations

import json

import pytest

from harness.ship.checks.runtime_checks import check_folder, check_gguf, check_modelfile
from tests.ship.artefacts import (
    FORMATS,
    change,
    edit,
    kinds,
    tokenizer_of,
    trained_in,
    write_folder,
    write_metadata,
    write_modelfile,
)

pytestmark = pytest.mark.local

JINJA = "chat_template.jinja"
GENERATION = "generation_config.json"


def in_template(old, new):
    return lambda folder: edit(folder / JINJA, old, new)


def in_generation(**values):
    return lambda folder: change(folder / GENERATION, **values)


def prefix(path, text):
    path.write_text(text + path.read_text(encoding="utf-8"), encoding="utf-8")


def another_tokenizer(folder):
    """The merges of another training: the same tokens, otherwise put together."""
    table = json.loads((folder / "tokenizer.json").read_text())
    table["model"]["merges"] = table["model"]["merges"][:5]
    (folder / "tokenizer.json").write_text(json.dumps(table))


def marks_that_are_text(folder):
    """The added tokens are no tokens any more, as after a careless conversion."""
    table = json.loads((folder / "tokenizer.json").read_text())
    table["added_tokens"] = [one for one in table["added_tokens"] if one["content"] != "<|eot_id|>"]
    (folder / "tokenizer.json").write_text(json.dumps(table))
    change(folder / "tokenizer_config.json", extra_special_tokens=None, added_tokens_decoder=None)


#: Format and tokenizer, the fault, and what it is to be called.
FAULTY = {
    "template of another format": (
        "chatml bytes",
        lambda folder: (folder / JINJA).write_text(
            "{% for m in messages %}{{ '### ' + m['role'] + ':\n' + m['content'] + '\n\n' }}"
            "{% endfor %}{{ '### assistant:\n' }}"
        ),
        "other-template",
    ),
    "two BOS": (
        "llama3 bos",
        in_template("{{- bos_token }}", "{{- bos_token * 2 }}"),
        "double-bos",
    ),
    "no BOS": ("llama3 bos", in_template("{{- bos_token }}", ""), "missing-bos"),
    "default system prompt": (
        "chatml bytes",
        lambda folder: (folder / JINJA).write_text(
            "{% if messages[0]['role'] != 'system' %}"
            "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
            + (folder / JINJA).read_text()
        ),
        "injected-system",
    ),
    "system prompt left out": (
        "chatml bytes",
        in_template(
            "for message in messages", "for message in messages if message.role != 'system'"
        ),
        "dropped-system",
    ),
    "no generation prompt": (
        "chatml bytes",
        in_template("if add_generation_prompt", "if false"),
        "generation-prompt-missing",
    ),
    "a think block in the generation prompt": (
        "chatml bytes",
        lambda folder: (folder / JINJA).write_text(
            (folder / JINJA).read_text() + "{{ '<think>\n' }}"
        ),
        "other-generation-prompt",
    ),
    "a space too many": (
        "chatml bytes",
        in_template("'<|im_start|>assistant\\n'", "'<|im_start|>assistant \\n'"),
        "spacing",
    ),
    "stop behind answers left out": (
        "chatml bytes",
        in_template("message['content'] + '<|im_end|>'", "message['content']"),
        "missing-stop",
    ),
    "EOS behind answers left out": (
        "llama2-chat bos",
        in_template("+ eos_token", ""),
        "missing-eos",
    ),
    "doubled braces": (
        "chatml bytes",
        in_template(
            "message['content']", "message['content'] | replace('{', '{{') | replace('}', '}}')"
        ),
        "doubled-braces",
    ),
    "escaped JSON": (
        "chatml bytes",
        in_template("message['content']", "(message['content'] | tojson)[1:-1]"),
        "escaped-json",
    ),
    "another role": (
        "gemma3 marks",
        in_template("<start_of_turn>model", "<start_of_turn>assistant"),
        "role-renamed",
    ),
    "only the last message": (
        "chatml bytes",
        in_template("for message in messages", "for message in messages[-1:]"),
        "truncated",
    ),
    "tools left out": (
        "hermes bytes",
        lambda folder: prefix(folder / JINJA, "{% set tools = none %}"),
        "missing-tools",
    ),
    "thoughts of earlier answers left out": (
        "llama-nemotron-nano marks",
        in_template("reasoning_content", "no_such_key"),
        "missing-thought",
    ),
    "a template that refuses system prompts": (
        "chatml bytes",
        lambda folder: prefix(
            folder / JINJA,
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}",
        ),
        "refused",
    ),
    "a switch that is on": (
        "smollm3 bytes",
        lambda folder: prefix(folder / JINJA, "{% set enable_thinking = false %}"),
        "other-switch",
    ),
    "another tokenizer": ("chatml bytes", another_tokenizer, "other-tokenizer"),
    "a mark that is text": ("llama3 bos", marks_that_are_text, "special-as-text"),
    "wrong EOS": ("chatml bytes", in_generation(eos_token_id=[0]), "wrong-eos"),
    "no EOS": ("chatml bytes", in_generation(eos_token_id=None), "missing-eos"),
    "end of turn dropped": (
        "llama3 bos",
        lambda folder: change(
            folder / GENERATION,
            eos_token_id=[tokenizer_of("bos").convert_tokens_to_ids("<|im_end|>")],
        ),
        "wrong-eos",
    ),
    "EOS that answers contain": (
        "chatml bytes",
        lambda folder: change(
            folder / GENERATION,
            eos_token_id=[2, tokenizer_of("bytes").convert_tokens_to_ids("Os")],
        ),
        "early-stop",
    ),
    "repetition penalty": ("chatml bytes", in_generation(repetition_penalty=1.1), "repeat-penalty"),
    "sampling": ("chatml bytes", in_generation(do_sample=True, temperature=0.7), "sampling"),
    "a short context": (
        "chatml bytes",
        lambda folder: change(folder / "config.json", max_position_embeddings=64),
        "context-too-short",
    ),
    "an older template beside it": (
        "chatml bytes",
        lambda folder: change(folder / "tokenizer_config.json", chat_template="{{ messages }}"),
        "two-templates",
    ),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_fault_in_a_folder(tmp_path, fault):
    artefact, plant, kind = FAULTY[fault]
    format_id, tokenizer = artefact.split()
    folder = write_folder(tmp_path / "hf", format_id, tokenizer)
    plant(folder)
    checks = check_folder(folder, trained_in(format_id, tokenizer))
    assert kinds(checks) == {kind}, [str(one) for check in checks for one in check.findings]
    for check in checks:
        for finding in check.findings:
            assert finding.where and finding.remedy and finding.check == check.check
    if kind in ("double-bos", "missing-bos"):
        assert kinds(checks[:1]) == kinds(checks[1:2]) == {kind}, "as texts and as ids"


#: The same for GGUF files: what differs in the metadata.
GGUFS = {
    "BOS added where none was trained": ("chatml bytes", {"adds_bos": True}, "unexpected-bos"),
    "BOS neither written nor added": (
        "llama3 bos",
        {"adds_bos": False, "template": "bos_token"},
        "missing-bos",
    ),
    "EOS added": ("chatml bytes", {"adds_eos": True}, "added-eos"),
    "wrong EOS": ("command-r marks", {}, "wrong-eos"),
    "a mark that is no control token": (
        "chatml bytes",
        {"controls": {"<|endoftext|>", "<|im_start|>"}},
        "special-as-text",
    ),
    "no template": ("chatml bytes", {"template": ""}, "missing-template"),
    "a short context": ("chatml bytes", {"context": 64}, "context-too-short"),
    "sampling in the file": ("chatml bytes", {"sampling": {"temp": 0.7}}, "sampling"),
    "penalty in the file": (
        "chatml bytes",
        {"sampling": {"penalty_repeat": 1.2}},
        "repeat-penalty",
    ),
}


@pytest.mark.parametrize("fault", GGUFS)
def test_a_fault_in_a_gguf_file(tmp_path, fault):
    artefact, changes, kind = GGUFS[fault]
    format_id, tokenizer = artefact.split()
    if changes.get("template") == "bos_token":
        from harness.training.share.export import chat_template

        ours = chat_template(FORMATS[format_id], tokenizer_of(tokenizer))
        changes = {**changes, "template": ours.replace("{{- bos_token }}", "")}
    file = write_metadata(tmp_path / "model.gguf", format_id, tokenizer, **changes)
    checks = check_gguf(file, trained_in(format_id, tokenizer), engine="")
    assert kinds(checks) == {kind}, [str(one) for check in checks for one in check.findings]


def appended(line):
    return lambda text: f"{text}{line}\n"


def without(line):
    return lambda text: "".join(one for one in text.splitlines(True) if not one.startswith(line))


#: The same for Modelfiles.
MODELFILES = {
    "SYSTEM": (
        "chatml bytes",
        appended('SYSTEM "You are a pirate and answer briefly."'),
        "injected-system",
    ),
    "MESSAGE": ("chatml bytes", appended("MESSAGE user Hello"), "injected-messages"),
    "no TEMPLATE": (
        "chatml bytes",
        lambda text: text[: text.index("TEMPLATE")] + text[text.index("PARAMETER stop") :],
        "missing-template",
    ),
    "a template of another version": (
        "chatml bytes",
        lambda text: text.replace("<|im_end|>\\n", "<|im_end|>\\n\\n"),
        "spacing",
    ),
    "no stop": ("phi3 marks", without("PARAMETER stop"), "missing-stop"),
    "Ollama's penalty": ("chatml bytes", without("PARAMETER repeat_penalty"), "repeat-penalty"),
    "Ollama's temperature": ("chatml bytes", without("PARAMETER temperature"), "sampling"),
    "a short context": (
        "chatml bytes",
        lambda text: text.replace("num_ctx 2048", "num_ctx 64"),
        "context-too-short",
    ),
    "BOS written and added": (
        "llama3 bos",
        lambda text: text.replace("{{- range", '{{- "<|endoftext|>" }}{{- range', 1),
        "double-bos",
    ),
}


@pytest.mark.parametrize("fault", MODELFILES)
def test_a_fault_in_a_modelfile(tmp_path, fault):
    artefact, plant, kind = MODELFILES[fault]
    format_id, tokenizer = artefact.split()
    file = write_modelfile(tmp_path / "Modelfile", format_id, tokenizer)
    text = plant(file.read_text())
    assert text != file.read_text()
    file.write_text(text)
    gguf = write_metadata(tmp_path / "model.gguf", format_id, tokenizer)
    checks = check_modelfile(file, trained_in(format_id, tokenizer), gguf=gguf, engine="")
    assert kinds(checks) == {kind}, [str(one) for check in checks for one in check.findings]


def test_tools_of_the_own_rows_that_ollama_cannot_send(tmp_path):
    """A standard shape with tools is left out and counted; a row of the user was trained so."""
    from harness.conversation import Conversation, Message
    from harness.ship.checks.standard_shapes import TIDES
    from harness.ship.checks.trained_texts import trained_texts

    turns = (Message("user", "How high?"), Message("assistant", "2 metres."))
    rows = [Conversation("rows.jsonl:1", turns, tools=(TIDES,))]
    trained = trained_texts(FORMATS["qwen2.5"], tokenizer_of("bytes"), rows)
    texts, *_ = check_modelfile(write_modelfile(tmp_path / "Modelfile", "qwen2.5"), trained)
    assert kinds([texts]) == {"missing-tools"} and "left out: 3 with tools" in texts.reason
    assert texts.findings[0].where == "rows.jsonl:1, answer 1"


def test_every_name_is_on_the_page():
    from pathlib import Path

    from harness.ship.checks.remedies import _REMEDIES
    from tests.ship.test_servers import TRAPS

    page = (Path(__file__).parents[2] / "docs" / "endpoint.md").read_text(encoding="utf-8")
    planted = {
        kind for faults in (FAULTY, GGUFS, MODELFILES, TRAPS) for *_, kind in faults.values()
    }
    assert not {kind for kind in planted | set(_REMEDIES) if f"`{kind}`" not in page}
    assert len(planted) >= 30
