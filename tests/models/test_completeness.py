"""A configuration is compared with the files before anything of its size is built."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.errors import HarnessError
from harness.models import ModelSource, load
from harness.models import completeness as module
from harness.models.completeness import refuse_too_many_modules, refuse_too_many_weights
from tests.device import chosen_device
from tests.tiny_gguf import write_gguf

ELEMENTS, TENSORS = 6 * 7 + 5, 2
GGUF_SIZE = 300


@pytest.fixture
def folder(tmp_path) -> ModelSource:
    """A folder with two tensors in two files."""
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(6, 7)}, tmp_path / "model-1.safetensors")
    save_file({"b": torch.zeros(5)}, tmp_path / "model-2.safetensors")
    return ModelSource("toy", str(tmp_path), None, "")


@pytest.fixture
def file(tmp_path) -> ModelSource:
    """A GGUF file of 300 bytes that says it has two tensors."""
    start = b"GGUF" + (3).to_bytes(4, "little") + TENSORS.to_bytes(8, "little")
    (tmp_path / "toy.gguf").write_bytes(start.ljust(GGUF_SIZE, b"\0"))
    return ModelSource("toy", str(tmp_path), "toy.gguf", "")


def model(weights: int):
    import torch

    return torch.nn.ParameterList([torch.empty(weights, device="meta")])


@pytest.mark.parametrize("few", [0, 1 << 26])
@pytest.mark.parametrize(
    ("kind", "most"), [("folder", 4 * ELEMENTS), ("file", 8 * GGUF_SIZE)], ids=["folder", "GGUF"]
)
def test_weights_up_to_what_the_files_can_hold(request, monkeypatch, kind, most, few):
    source = request.getfixturevalue(kind)
    if not few:
        monkeypatch.setattr(module, "_FEW_WEIGHTS", 0)
    refuse_too_many_weights(model(most + few), source)
    expected = f"describes {most + few + 1:,} weights, and the files hold at most {most:,}"
    with pytest.raises(HarnessError, match=expected):
        refuse_too_many_weights(model(most + few + 1), source)


def config(**settings):
    return SimpleNamespace(to_dict=lambda: settings)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_modules_up_to_a_thousand_or_the_number_of_tensors(request, monkeypatch, kind):
    source = request.getfixturevalue(kind)
    refuse_too_many_modules(config(num_hidden_layers=1000), source)
    with pytest.raises(HarnessError, match="num_hidden_layers is 1,001, and the files hold 2 t"):
        refuse_too_many_modules(config(num_hidden_layers=1001), source)
    monkeypatch.setattr(module, "_MANY", 1)
    refuse_too_many_modules(config(n_layer=TENSORS), source)
    with pytest.raises(HarnessError, match="n_layer is 3"):
        refuse_too_many_modules(config(n_layer=TENSORS + 1), source)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_layers": 2000},
        {"num_local_experts": 2000},
        {"depth": 2000},
        {"num_blocks": 2000},
        {"text_config": {"num_hidden_layers": 2000}},
    ],
    ids=str,
)
def test_every_number_of_modules_is_compared(folder, settings):
    with pytest.raises(HarnessError, match="is 2,000, and the files hold 2 tensors"):
        refuse_too_many_modules(config(**settings), folder)


def test_other_numbers_are_not_compared(folder):
    sizes = {"vocab_size": 262_144, "max_position_embeddings": 131_072, "hidden_size": 8192}
    sizes["layer_types"] = ["full"] * 3000
    refuse_too_many_modules(config(**sizes), folder)
    with pytest.raises(HarnessError, match=r"num_hidden_layers is 3,000"):
        refuse_too_many_modules(config(**sizes, num_hidden_layers=3000), folder)


def test_a_model_of_the_hub_that_is_not_here_is_not_compared(folder):
    absent = ModelSource("toy", "owner/toy", None, "hub:owner/toy")
    refuse_too_many_modules(config(num_hidden_layers=10**6), absent)
    refuse_too_many_weights(model(1 << 40), absent)
    with pytest.raises(HarnessError, match="num_hidden_layers is 1,000,000"):
        refuse_too_many_modules(config(num_hidden_layers=10**6), folder)
    with pytest.raises(HarnessError, match="the configuration describes 1,099,511,627,776"):
        refuse_too_many_weights(model(1 << 40), folder)


@pytest.mark.parametrize("quantisation", ["Q4_0", "Q8_0", "F16"])
def test_no_quantised_file_holds_too_little(tiny_model, tmp_path, monkeypatch, quantisation):
    pytest.importorskip("gguf")
    monkeypatch.setattr(module, "_FEW_WEIGHTS", 0)
    path = write_gguf(tiny_model, tmp_path / "m.gguf", quantisation)
    assert load(str(path), dtype="float32", device=chosen_device()).stored_as == "GGUF"
