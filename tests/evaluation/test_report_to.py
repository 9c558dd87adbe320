"""harness eval --report-to: the numbers of the report go to trackers."""

from __future__ import annotations

import json

import pytest

from harness import extras
from harness.cli.main import main
from tests.fake_tracker import keep_trackio

CASE = {
    "id": "capital",
    "messages": [{"role": "user", "content": "Capital of Norway?"}],
    "choices": ["Oslo", "Rome"],
    "answer": 0,
}


@pytest.fixture
def command(tiny_model, tmp_path):
    (tmp_path / "cases.jsonl").write_text(json.dumps(CASE) + "\n")
    formats = ["--formats", "chatml", "alpaca-newline"]
    cases = ["--cases", str(tmp_path / "cases.jsonl"), "--max-new-tokens", "2"]
    return ["eval", str(tiny_model), *formats, *cases, "--out", str(tmp_path / "out")]


def test_the_numbers_of_an_evaluation(command, tmp_path, monkeypatch, capsys):
    told = keep_trackio(monkeypatch)
    assert main([*command, "--report-to", "trackio", "--project", "mine", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    opened, (_, settings), (step, numbers), closed = told
    assert opened == ("open", "mine", {"name": "out"})
    assert settings["adapter"] == "" and settings["backend"].startswith("transformers-")
    assert step == 0 and closed == "closed"
    cells = {(cell["format"], cell["metric"]): cell["mean"] for cell in printed["cells"]}
    for chat_format in ("chatml", "alpaca-newline"):
        assert numbers[f"{chat_format}/choice"] == cells[chat_format, "choice"]
    assert sum(value for key, value in numbers.items() if key.startswith("formats_")) == 2
    assert all(isinstance(value, float | int) for value in numbers.values())


def test_nothing_is_opened_unless_asked(command, monkeypatch, capsys):
    told = keep_trackio(monkeypatch)
    assert main(command) == 0 and told == []


def test_a_missing_package_ends_it_before_anything_is_measured(
    command, tmp_path, monkeypatch, capsys
):
    there = extras.is_installed
    monkeypatch.setattr(extras, "is_installed", lambda name: name != "wandb" and there(name))
    assert main([*command, "--report-to", "wandb"]) == 2
    assert "needs wandb" in capsys.readouterr().err and not (tmp_path / "out").exists()
