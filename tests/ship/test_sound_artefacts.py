"""Artefacts as we write them raise nothing, over formats and tokenizers in each runtime."""

from __future__ import annotations

import pytest

from harness.ship.checks.llamacpp.llama_engines import NO_LLAMACPP
from harness.ship.checks.runtime_checks import check_folder, check_gguf, check_modelfile
from tests.ship.artefacts import (
    kinds,
    trained_in,
    write_folder,
    write_metadata,
    write_modelfile,
)

pytestmark = pytest.mark.local

FOLDERS = [
    *(
        f"{name} bytes"
        for name in ["chatml", "qwen2.5", "qwen3", "hermes", "smollm3", "phi4", "vicuna-v1.1"]
    ),
    *(f"{name} marks" for name in ["gemma3", "phi3", "command-r", "harmony", "chatml"]),
    *(f"{name} bos" for name in ["llama3", "llama3.2", "llama2-chat", "mistral-v7"]),
    *(f"{name} spaces" for name in ["llama2-chat", "mistral-v3", "zephyr", "vicuna-v1.1"]),
]
FILES = [
    *(f"{name} bytes" for name in ["chatml", "qwen3", "vicuna-v1.1"]),
    *(f"{name} marks" for name in ["gemma3", "phi3", "zephyr"]),
    *(f"{name} bos" for name in ["llama3", "llama3.1", "mistral-v7", "llama2-chat"]),
]
MODELFILES = [
    *(f"{name} bytes" for name in ["chatml", "qwen2.5", "vicuna-v1.1", "plain-qa"]),
    *(f"{name} marks" for name in ["gemma3", "phi3", "zephyr"]),
    *(f"{name} bos" for name in ["llama3", "llama2-chat", "mistral-v1"]),
]


def check_all(checks, texts):
    assert kinds(checks) == set(), [str(one) for check in checks for one in check.findings]
    assert not any("not known" in check.reason for check in checks)
    states = {check.check: check.state for check in checks}
    assert states.pop("texts") == "equal"
    assert states.pop("ids") == texts and set(states.values()) == {"equal"}, states


@pytest.mark.parametrize("artefact", FOLDERS)
def test_a_folder(tmp_path, artefact):
    format_id, kind = artefact.split()
    checks = check_folder(write_folder(tmp_path, format_id, kind), trained_in(format_id, kind))
    check_all(checks, "equal")


@pytest.mark.parametrize("artefact", FILES)
def test_a_gguf_file_by_its_metadata(tmp_path, artefact):
    format_id, kind = artefact.split()
    file = write_metadata(tmp_path / "model.gguf", format_id, kind)
    checks = check_gguf(file, trained_in(format_id, kind), engine="")
    check_all(checks, "not checked")
    assert "not by llama.cpp" in checks[0].reason and checks[1].reason == NO_LLAMACPP


@pytest.mark.parametrize("artefact", MODELFILES)
def test_a_modelfile_by_our_rules(tmp_path, artefact):
    format_id, kind = artefact.split()
    file = write_modelfile(tmp_path / "Modelfile", format_id, kind)
    gguf = write_metadata(tmp_path / "model.gguf", format_id, kind)
    checks = check_modelfile(file, trained_in(format_id, kind), gguf=gguf, engine="")
    check_all(checks, "not checked")
    assert "not by Ollama" in checks[0].reason
