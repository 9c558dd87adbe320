"""The checks of what ``harness ship`` wrote, over all its runtimes."""

from __future__ import annotations

import json

import pytest

from harness.ship import ShipJob, ship
from harness.ship.made import Made
from harness.ship.model_folder import write_model_folder
from harness.ship.runtime_files import write_llamacpp, write_ollama
from harness.ship.text_checks import text_checks, texts_of
from harness.ship.trained_model import find_trained
from tests.ship.artefacts import edit
from tests.tiny_gguf import write_gguf

ROW = {
    "messages": [
        {"role": "user", "content": "What is the capital of Norway?"},
        {"role": "assistant", "content": "Oslo."},
    ]
}


@pytest.fixture
def made(tiny_model, tmp_path):
    """Everything but the conversion by llama.cpp's own converter, which knows no tiny tokenizer."""
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    job = ShipJob(
        str(tiny_model),
        tmp_path,
        "chatml",
        ("hf", "vllm", "llamacpp", "ollama"),
        data=(str(tmp_path / "rows.jsonl"),),
    )
    trained = find_trained(job)
    model = write_model_folder(trained, tmp_path / "hf", "float32", "cpu")
    for name in ("llamacpp", "ollama"):
        (tmp_path / name).mkdir()
    gguf = {"F32": write_gguf(model.path, tmp_path / "llamacpp" / "tiny-F32.gguf")}
    write_llamacpp(tmp_path / "llamacpp", model, list(gguf.values()))
    write_ollama(tmp_path / "ollama", trained.format, model, gguf["F32"], "tiny")
    return Made(job, trained, tmp_path, model, gguf, {}, {}, ())


@pytest.fixture
def no_llamacpp(monkeypatch):
    """What is checked where llama.cpp is not installed; tests/peers has it."""
    monkeypatch.setattr(
        "harness.ship.checks.llamacpp.llama_engines.is_installed", lambda package: False
    )


def test_all_four_runtimes_raise_nothing(made, no_llamacpp):
    checks = list(text_checks(made, texts_of(made.trained, made.job.data)))
    assert {one.runtime for one in checks} == {"hf", "vllm", "llamacpp F32", "ollama"}
    assert {one.check for one in checks} == {"texts", "ids", "stops", "settings"}
    states = {(one.runtime, one.check): one.state for one in checks}
    for runtime in ("llamacpp F32", "ollama"):
        assert states.pop((runtime, "ids")) == "not checked"
    assert set(states.values()) == {"equal"}, checks
    assert "1 prompt of 1 row and" in checks[0].reason
    assert all("no vLLM was run" in one.reason for one in checks if one.runtime == "vllm")


def test_a_fault_is_found_in_both_readers_of_a_folder(made, no_llamacpp):
    edit(made.model.path / "chat_template.jinja", "<|im_start|>assistant", "<|im_start|>bot")
    found = {
        (one.runtime, finding.kind, finding.where.partition(":")[0])
        for one in text_checks(made, texts_of(made.trained, made.job.data))
        for finding in one.findings
    }
    assert {(runtime, kind) for runtime, kind, _ in found} == {
        ("hf", "role-renamed"),
        ("vllm", "role-renamed"),
    }


def test_a_place_is_named_inside_the_folder(made, no_llamacpp):
    (made.model.path / "generation_config.json").write_text('{"eos_token_id": 0}')
    places = {
        finding.where
        for one in text_checks(made, texts_of(made.trained, made.job.data))
        for finding in one.findings
    }
    assert places == {"hf/generation_config.json: eos_token_id"}


def test_the_command_checks_what_it_wrote(tiny_model, tmp_path):
    done = ship(ShipJob(str(tiny_model), tmp_path / "out", "chatml", behaviour="none"), quiet=True)
    states = {one.check: one.state for one in done.checks if one.runtime == "hf"}
    assert [states[name] for name in ("texts", "ids", "stops", "settings")] == ["equal"] * 4
