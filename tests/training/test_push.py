"""harness export --push-to-hub, against a hub that is a list here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.training.start import train
from tests.report.fixture import make
from tests.training.small import small_config


@pytest.fixture
def run(tiny_model, tmp_path):
    config = small_config(tiny_model, tmp_path, optimisation={"num_train_epochs": 1})
    return train(config, quiet=True).parent


@pytest.fixture
def hub(monkeypatch):
    """What a hub was asked to do; a repository named full refuses."""
    calls = []

    class Api:
        def create_repo(self, repo_id, *, private, exist_ok):
            calls.append(("create", repo_id, private, exist_ok))
            return f"https://hub/{repo_id}"

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            if repo_id.endswith("/full"):
                raise OSError("403 Forbidden: storage limit reached\nmore")
            names = sorted(file.name for file in Path(folder_path).iterdir())
            calls.append(("upload", repo_id, names))

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_x")
    return calls


def _report(folder, low):
    table = make(formats=2)
    run = table["runs"][-1]["label"]
    row = {
        "run": run, "format": "all formats", "metric": "gain", "train": 0.6, "null": 0.1,
        "excess": 0.5, "low": low, "high": 0.9, "n_train": 100, "n_null": 100, "note": "",
    }  # fmt: skip
    table["recall"] = [{**row, "run": table["runs"][0]["label"], "low": 0.4}, row]
    file = folder / "report.json"
    file.write_text(json.dumps(table))
    return str(file)


def _command(run, tmp_path, *flags):
    return ["export", str(run), "--format", "chatml", "--out", str(tmp_path / "out"), *flags]


def test_the_adapter_and_its_card_are_pushed(run, hub, tmp_path, capsys):
    report = _report(tmp_path, low=-0.1)
    flags = ("--push-to-hub", "me/mine", "--private", "--report", report, "--json")
    assert main(_command(run, tmp_path, *flags)) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["url"] == "https://hub/me/mine" and "note" not in printed.err
    (create, upload) = hub
    assert create == ("create", "me/mine", True, True)
    assert upload[2] == sorted(file.name for file in (tmp_path / "out").iterdir())
    assert {"README.md", "adapter_model.safetensors", "adapter_config.json"} <= set(upload[2])


def test_memorised_data_is_pushed_by_force_alone(run, hub, tmp_path, capsys):
    report = _report(tmp_path, low=0.2)
    flags = ("--push-to-hub", "me/mine", "--report", report)
    assert main(_command(run, tmp_path, *flags)) == 2
    assert "the training data is memorised (gain +0.500" in capsys.readouterr().err
    assert not hub and not (tmp_path / "out").exists()
    assert main(_command(run, tmp_path, *flags, "--force")) == 0
    assert [call[0] for call in hub] == ["create", "upload"]


def test_without_a_measurement_the_user_is_told(run, hub, tmp_path, capsys):
    assert main(_command(run, tmp_path, "--push-to-hub", "me/mine")) == 0
    printed = capsys.readouterr()
    assert "recall of the training set was not measured" in printed.err
    assert "pushed: https://hub/me/mine" in printed.out
    assert hub[0] == ("create", "me/mine", None, True)


def test_a_refusal_of_the_hub_is_one_line(run, hub, tmp_path, capsys):
    assert main(_command(run, tmp_path, "--push-to-hub", "me/full")) == 2
    [_, line] = capsys.readouterr().err.strip().splitlines()[-2:]
    assert line.startswith("error: me/full: the hub refused the push: 403 Forbidden: storage limit")
    assert (tmp_path / "out" / "README.md").is_file()


@pytest.mark.parametrize("name", ["mine", "a/b/c", "me/m ine", "me/--x", "me/x.", "../x"])
def test_an_invalid_name(name, hub, tmp_path, capsys):
    assert main(_command("nowhere", tmp_path, f"--push-to-hub={name}")) == 2
    assert "expected OWNER/NAME" in capsys.readouterr().err


def test_without_a_token(hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert main(_command("nowhere", tmp_path, "--push-to-hub", "me/mine")) == 2
    assert "no token of the Hugging Face hub — hf auth login" in capsys.readouterr().err
