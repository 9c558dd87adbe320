"""A GGUF file is read once for its checks, and llama.cpp loads it once."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from harness.formats.tracing import FROZEN_NOW
from harness.ship.checks.llamacpp import llamacpp_runtime
from harness.ship.checks.llamacpp.gguf_metadata import GgufMetadata
from harness.ship.checks.llamacpp.llama_engines import SERVER
from harness.ship.checks.runtime_checks import check_gguf, check_modelfile
from tests.ship.artefacts import kinds, tokenizer_of, trained_in, write_metadata, write_modelfile

pytestmark = pytest.mark.local


def test_a_damaged_file_is_not_checked_at_all(tmp_path):
    file = tmp_path / "bad.gguf"
    file.write_bytes(b"GGUF\x03")
    modelfile = write_modelfile(tmp_path / "Modelfile", "chatml")
    for checks in (
        check_gguf(file, trained_in("chatml")),
        check_modelfile(modelfile, trained_in("chatml"), gguf=file),
    ):
        assert [one.check for one in checks] == ["texts", "ids", "stops", "settings"]
        assert {one.state for one in checks} == {"not checked"}, checks
        assert all("bad.gguf" in one.reason for one in checks)


@pytest.mark.parametrize("ending", [2, 0])
def test_llama_cpp_loads_the_file_once(tmp_path, monkeypatch, ending):
    """All prompts and all forced ends are one list of requests; the answers keep their order."""
    trained = trained_in("chatml")
    jobs = []

    def ask(gguf, requests):
        jobs.append(requests)
        sent = iter(trained.prompts)
        return [
            {"ends": one["force"] == ending} if "force" in one else reply(next(sent))
            for one in requests
        ]

    def reply(prompt):
        return {"prompt": prompt.rendered.text, "tokens": list(prompt.ids)}

    monkeypatch.setattr(llamacpp_runtime, "ask_llama", ask)
    monkeypatch.setattr(llamacpp_runtime, "pick_engine", lambda engine: SERVER)
    file = write_metadata(tmp_path / "model.gguf", "chatml", eos=0)
    checks = check_gguf(file, trained, engine=SERVER)
    assert kinds(checks) == (set() if ending == 2 else {"wrong-eos"})
    assert checks[1].state == "equal" and "forced" in checks[2].reason
    assert len(jobs) == 1
    assert [one["force"] for one in jobs[0] if "force" in one] == [0, 2]


@pytest.mark.parametrize("days", [0, 1])
def test_a_date_leaves_the_ids_unchecked(tmp_path, monkeypatch, days):
    """llama.cpp writes today's date, or yesterday's if the check runs at midnight."""
    trained, form = trained_in("smollm3"), "%d %B %Y"
    date = (datetime.now() - timedelta(days=days)).strftime(form)

    def ask(gguf, requests):
        texts = (
            prompt.rendered.text.replace(FROZEN_NOW.strftime(form), date)
            for prompt in trained.prompts
        )
        return [
            {"ends": True} if "force" in one else {"prompt": next(texts), "tokens": [1]}
            for one in requests
        ]

    monkeypatch.setattr(llamacpp_runtime, "ask_llama", ask)
    monkeypatch.setattr(llamacpp_runtime, "pick_engine", lambda engine: SERVER)
    texts, ids, *_ = check_gguf(write_metadata(tmp_path / "model.gguf", "smollm3"), trained)
    assert texts.state == "equal", texts
    assert (ids.state, ids.reason) == ("not checked", "the template writes the date")


def test_a_template_that_llama_cpp_refuses(tmp_path, monkeypatch):
    def ask(gguf, requests):
        return [{"ends": True} if "force" in one else {"error": ""} for one in requests]

    monkeypatch.setattr(llamacpp_runtime, "ask_llama", ask)
    monkeypatch.setattr(llamacpp_runtime, "pick_engine", lambda engine: SERVER)
    file = write_metadata(tmp_path / "model.gguf", "chatml")
    assert kinds(check_gguf(file, trained_in("chatml"))) == {"refused"}


def test_metadata_that_is_null_is_missing():
    """Ollama's ``/api/show`` gives the long tables as null."""
    null = dict.fromkeys(
        [
            *(f"tokenizer.ggml.{key}" for key in ("tokens", "token_type", "add_bos_token")),
            *("tokenizer.ggml.bos_token_id", "tokenizer.chat_template", "llama.context_length"),
        ]
    )
    assert GgufMetadata.of(null) == GgufMetadata.of({})
    other = {"tokenizer.ggml.tokens": 3, "tokenizer.ggml.token_type": "x"}  # of a broken file
    assert GgufMetadata.of(other) == GgufMetadata.of({})
    known = {"tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.eot_token_id": 5}
    assert GgufMetadata.of({**null, **known}).end_ids == {2, 5}


def test_all_that_the_metadata_says(tmp_path):
    file = write_metadata(
        tmp_path / "model.gguf", "llama3", "bos", adds_eos=True, sampling={"temp": 0.5}
    )
    tokenizer, found = tokenizer_of("bos"), GgufMetadata.read(file)
    assert found.tokens == {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    assert found.control == set(tokenizer.all_special_tokens)
    assert (found.adds_bos, found.adds_eos, found.context) == (True, True, 2048)
    assert found.end_ids == {tokenizer.eos_token_id} and found.sampling == {"temp": 0.5}
