"""Finding models: mistakes are reported before anything is loaded."""

import shutil

import pytest

from harness.errors import HarnessError
from harness.models import locate, template_path


def copy(tiny_model, tmp_path, drop=()):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns(*drop))
    return folder


def test_a_folder_without_tokenizer_is_reported(tiny_model, tmp_path):
    with pytest.raises(HarnessError, match="holds no tokenizer"):
        locate(str(copy(tiny_model, tmp_path, ["tokenizer*"])))


def test_a_folder_without_safetensors_is_reported(tiny_model, tmp_path):
    with pytest.raises(HarnessError, match=r"no \*\.safetensors"):
        locate(str(copy(tiny_model, tmp_path, ["*.safetensors"])))


def test_an_adapter_given_as_a_model_is_reported(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(HarnessError, match="--adapter"):
        locate(str(tmp_path))


def test_nothing_there_is_reported():
    with pytest.raises(HarnessError, match="no model at"):
        locate("./no/such/folder")


def test_the_hub_is_not_asked_offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HarnessError, match="HF_HUB_OFFLINE"):
        locate("owner/name")


def test_a_named_model_gives_its_template_without_its_weights(tiny_model, tmp_path, monkeypatch):
    """A path is itself; from the hub come the tokenizer's settings alone."""
    asked = []

    def snapshot(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert template_path(str(tiny_model)) == tiny_model
    assert template_path("owner/name") == tmp_path
    assert asked == [("owner/name", ["tokenizer_config.json", "chat_template.jinja"])]
    with pytest.raises(HarnessError, match="no model at"):
        template_path("nowhere")
