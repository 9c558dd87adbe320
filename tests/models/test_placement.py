"""Where a model is loaded to: devices that are there, several of them, and too little memory."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch

from harness.backends.local import engine
from harness.backends.local.backend import TransformersBackend
from harness.backends.protocol import ModelSpec
from harness.cli.main import main
from harness.errors import HarnessError
from harness.models import attach_adapter, load, loading
from harness.models.device import check_device
from harness.models.llama.recognise import take_apart
from harness.models.quantisation import Quantisation, Storage
from harness.models.source import ModelSource
from tests.backends.test_decoding import answers_of, requests_of
from tests.backends.test_out_of_memory import near, scored

pytestmark = pytest.mark.cpu_only("lays a model over the CPU and a disk, as over two cards")

NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.fixture
def cards(monkeypatch):
    """Two cards, as torch would report them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_a_device_that_is_there_is_taken(cards):
    names = ["cpu", "cuda", "cuda:0", "cuda:1", "auto"]
    assert [check_device(name) for name in names] == ["cpu", "cuda", "cuda:0", "cuda:1", "cuda"]


@pytest.mark.parametrize("name", ["cuda:2", "cuda:-1", "cuda:x", "cpu:0", "gpu", "mps", ""])
def test_a_device_that_is_not_there_is_refused(cards, name, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(HarnessError, match=r"no device|unknown device") as refused:
        check_device(name)
    assert "cuda:1" in refused.value.hint


def test_without_a_card_cuda_is_refused_in_one_line(tiny_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    args = ["eval", str(tiny_model), "--out", str(tmp_path), "--device"]
    assert main([*args, "cuda:1"]) == 2
    assert capsys.readouterr().err == "error: no device cuda:1 here — there is cpu\n"
    assert main([*args, "cpu", "--device-map", "auto"]) == 2
    assert "exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize("setting", [{"device": "cpu"}, {"batch_size": 2}, {"device_map": "auto"}])
@pytest.mark.parametrize("name", ["openai", "ollama", "llamacpp"])
def test_what_reaches_only_this_process_is_refused_elsewhere(setting, name):
    from harness.backends.by_name import open_backend

    with pytest.raises(HarnessError, match=f"has no effect with engine {name}"):
        open_backend(name, ModelSpec("m", **setting), {"url": "http://localhost:1"})


@pytest.mark.parametrize(
    ("device", "storage", "gguf", "expected"),
    [
        ("cuda:1", Storage(Quantisation(), {}), None, True),
        ("cuda", Storage(Quantisation(), {}), None, True),
        ("cpu", Storage(Quantisation(), {}), None, False),
        ("mps", Storage(Quantisation(), {}), None, False),
        ("cuda", Storage(Quantisation(load_in_4bit=True), {}), None, False),
        ("cuda", Storage(Quantisation(), {}, "fp8"), None, False),
        ("cuda", Storage(Quantisation(), {}), "m.gguf", False),
    ],
    ids=str,
)
def test_plain_weights_go_straight_to_a_card(device, storage, gguf, expected):
    source = ModelSource("m", "folder", gguf, "sha256:x")
    assert loading._may_load_in_place(device, storage, source) is expected


def test_a_map_to_one_device_changes_nothing(tiny_model):
    """What a card gets: each weight from its file to the device. Here the device is the CPU."""
    plain = load(str(tiny_model), dtype="float32", device="cpu")
    placed = load(str(tiny_model), dtype="float32", device_map={"": "cpu"})
    assert placed.device == "cpu"
    weights = plain.model.state_dict()
    for name, tensor in placed.model.state_dict().items():
        assert torch.equal(tensor, weights[name])
    buffers = dict(plain.model.named_buffers())
    for name, tensor in placed.model.named_buffers():
        assert torch.equal(tensor, buffers[name]), "the angles of the rotation too"
    assert TransformersBackend(placed).fingerprint == TransformersBackend(plain).fingerprint
    assert take_apart(placed, 20) is not None


LAYERS = ("model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb", "lm_head")


@pytest.fixture
def spread(tiny_model, tmp_path):
    """A model that accelerate laid over two places: each part gets hooks that move its inputs."""
    places = dict.fromkeys(LAYERS, "cpu") | {"model.layers.1": "disk"}
    return load(str(tiny_model), dtype="float32", device_map=places)


def test_a_model_on_several_devices_gives_the_same(tiny, spread):
    assert spread.device == "cpu" and len(set(spread.model.hf_device_map.values())) == 2
    assert take_apart(spread, 20) is None, "weights that are elsewhere are not read by hand"
    here, there = TransformersBackend(tiny), TransformersBackend(spread)
    assert "modules" in engine.describe(spread)
    assert scored(there) == near(scored(here))
    requests = requests_of(here)[:4]
    assert answers_of(there, requests) == answers_of(here, requests)


@pytest.fixture
def adapter(tiny_model, tmp_path):
    from peft import LoraConfig, get_peft_model

    base = load(str(tiny_model), dtype="float32", device="cpu").model
    config = LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    return str(tmp_path / "adapter")


def test_an_adapter_on_several_devices_gives_the_same(tiny_model, adapter, tiny):
    """As on two cards: hooks move what layers are given, and no weight is elsewhere."""
    from accelerate import dispatch_model

    spread = load(str(tiny_model), dtype="float32", device="cpu")
    places = dict.fromkeys((*LAYERS, "model.layers.1"), "cpu")
    dispatch_model(spread.model, places, force_hooks=True)
    for loaded in (tiny, spread):
        attach_adapter(loaded, adapter)
    assert take_apart(tiny, 20) is not None and take_apart(spread, 20) is None
    here, there = map(TransformersBackend, (tiny, spread))
    assert scored(there) == near(scored(here))
    plain = TransformersBackend(load(str(tiny_model), dtype="float32", device="cpu"))
    assert scored(here) != near(scored(plain)), "the adapter does something"


def test_an_adapter_on_weights_that_are_elsewhere_is_refused(spread, adapter):
    with pytest.raises(HarnessError, match="partly in main memory or on disk"):
        attach_adapter(spread, adapter)


@pytest.mark.parametrize("at", ["_read_weights", "to"])
def test_memory_that_ends_while_loading_is_one_line(tiny_model, monkeypatch, at):
    held = []

    def ends(*args, **kwargs):
        of_the_model = torch.zeros(3)
        held.append(weakref.ref(of_the_model))
        raise torch.OutOfMemoryError(*NO_MEMORY.args)

    def asked_when(device):
        assert held and held[-1]() is None, "what was loaded is given back before"
        return f"{device}: 0.5 GiB of 8.0 GiB free"

    monkeypatch.setattr(loading, "describe_memory", asked_when)
    if at == "to":
        monkeypatch.setattr(torch.nn.Module, "to", ends)
    else:
        monkeypatch.setattr(loading, at, ends)
    with pytest.raises(HarnessError) as refused:
        load(str(tiny_model), dtype="float32", device="cpu")
    size = sum(file.stat().st_size for file in Path(tiny_model).glob("*.safetensors")) / 2**30
    assert refused.value.message == (
        f"out of memory while loading: its weights are {size:.1f} GiB in the files "
        "(cpu: 0.5 GiB of 8.0 GiB free)"
    )
    assert refused.value.hint == "try --load-in-4bit"
    gc.collect()


def test_a_library_that_runs_out_of_memory_is_not_a_damaged_file(tiny_model, monkeypatch):
    from transformers import AutoModelForCausalLM

    def ends(*args, **kwargs):
        raise torch.OutOfMemoryError(*NO_MEMORY.args)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", ends)
    with pytest.raises(HarnessError, match="out of memory while loading"):
        load(str(tiny_model), dtype="float32", device="cpu")


def test_another_error_while_loading_is_what_it_was(tiny_model, monkeypatch):
    """Control."""

    def breaks(*args, **kwargs):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.nn.Module, "to", breaks)
    with pytest.raises(RuntimeError, match="device-side"):
        load(str(tiny_model), dtype="float32", device="cpu")


def test_the_batch_is_no_part_of_a_results_address(tiny_model, tmp_path, capsys):
    """A second run with other limits computes nothing."""
    args = ["eval", str(tiny_model), "--formats", "chatml", "--limit", "1", "--max-new-tokens", "2"]
    args += ["--out", str(tmp_path), "--dtype", "float32", "-v"]
    assert main([*args, "--batch-size", "2", "--max-tokens-per-batch", "300"]) == 0
    capsys.readouterr()
    assert main([*args, "--batch-size", "auto", "--device", "cpu"]) == 0
    assert "3 of 3 cells come from the store" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5"])
def test_a_batch_of_nothing_is_refused(tiny_model, capsys, value):
    assert main(["eval", str(tiny_model), f"--batch-size={value}"]) == 2
    assert "expected auto or a whole number from 1" in capsys.readouterr().err
