"""Weights that read the same input are one matrix in memory, and the model stays what it was."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.backends.local import forward
from harness.backends.local.backend import TransformersBackend
from harness.backends.local.forward import DEVICES, ModuleForward, forward_of
from harness.backends.local.llama_forward import LlamaForward
from harness.backends.local.packing import pack, tensors
from harness.backends.local.slots import Slots
from harness.models import load, switch_adapter
from harness.models.llama.recognise import inputs_in_common, take_apart
from harness.models.llama.stacked_weights import adjacent, stack_in_place
from tests.backends.test_llama_forward import ROWS, inferring, packs_of
from tests.backends.test_out_of_memory import scored
from tests.device import chosen_device
from tests.training.handwritten.test_handwritten_decoder import make


def storages(model):
    return {
        parameter.untyped_storage().data_ptr(): parameter.untyped_storage().nbytes()
        for parameter in model.parameters()
    }


@pytest.mark.parametrize("lora", [{}, {"target_modules": ["k_proj", "up_proj"]}], ids=str)
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_stacking_takes_no_memory_and_changes_no_number(kind, lora):
    loaded = inferring(kind, lora=lora)
    wanted = [0, 4, 5, 40, 2]
    modules = packs_of(loaded, ModuleForward(loaded), ROWS, wanted)
    by_hand = packs_of(loaded, LlamaForward(take_apart(loaded, 40), torch.float32), ROWS, wanted)
    state = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    before = sum(storages(loaded.model).values())
    passes = forward_of(loaded, 40)
    assert isinstance(passes, LlamaForward)
    assert sum(storages(loaded.model).values()) == before
    for layer, (q, k, v), (gate, up) in zip(
        passes.layers,
        inputs_in_common(loaded)[::2],
        inputs_in_common(loaded)[1::2],
        strict=True,
    ):
        assert layer.qkv.weight.data_ptr() == q.weight.data_ptr()
        assert layer.gate_up.weight.data_ptr() == gate.weight.data_ptr()
        assert torch.equal(layer.qkv.weight, torch.cat([q.weight, k.weight, v.weight]))
        assert torch.equal(layer.gate_up.weight, torch.cat([gate.weight, up.weight]))
    assert torch.equal(packs_of(loaded, passes, ROWS, wanted), by_hand)
    assert torch.equal(packs_of(loaded, ModuleForward(loaded), ROWS, wanted), modules)
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, state[name])


def test_a_second_run_stacks_nothing_and_changed_weights_are_seen():
    loaded = inferring()
    forward_of(loaded, 40)
    first = storages(loaded.model)
    assert storages(forward_of(loaded, 40) and loaded.model) == first
    group = inputs_in_common(loaded)[0]
    group[1].weight.data = group[1].weight.data.clone() * 2  # as a merge or a load would
    assert adjacent([layer.weight.data for layer in group]) is None
    wanted = [0, 4, 5, 40, 2]
    torch.testing.assert_close(
        packs_of(loaded, forward_of(loaded, 40), ROWS, wanted),
        packs_of(loaded, ModuleForward(loaded), ROWS, wanted),
        rtol=2e-5,
        atol=2e-5,
    )


def test_only_matrices_that_follow_each_other_are_one():
    whole = torch.arange(24.0).reshape(6, 4)
    a, b, c = whole[:1], whole[1:3], whole[3:]
    assert torch.equal(adjacent([a, b, c]), whole)
    assert torch.equal(adjacent([b, c]), whole[1:])
    for others in ([a, c], [b, a], [a, b.clone()], [a.t(), b], [a, b.to(torch.int32)]):
        assert adjacent(others) is None


def test_a_copy_in_another_arithmetic_leaves_the_weights_alone(monkeypatch):
    half = inferring(dtype="bfloat16")
    monkeypatch.setattr(forward, "matmul_dtype", lambda loaded: torch.float32)
    before = storages(half.model)
    assert isinstance(forward_of(half, 40), LlamaForward)
    assert storages(half.model) == before


def test_a_stacked_model_is_saved_copied_and_merged_as_before(tiny_model, tiny, tmp_path):
    from peft import LoraConfig, get_peft_model

    plain = load(str(tiny_model), dtype="float32", device=chosen_device())
    stack_in_place(inputs_in_common(tiny))
    tiny.model.save_pretrained(tmp_path / "saved")
    tiny.tokenizer.save_pretrained(tmp_path / "saved")
    again = load(str(tmp_path / "saved"), dtype="float32", device=chosen_device())
    weights = plain.model.state_dict()
    copied = copy.deepcopy(tiny.model).state_dict()
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, weights[name]) and torch.equal(copied[name], weights[name])
    merged = []
    for one in (plain, tiny):
        torch.manual_seed(3)
        config = LoraConfig(r=2, target_modules=["k_proj", "gate_proj"], init_lora_weights=False)
        adapted = get_peft_model(one.model, config).eval()
        merged.append(adapted.merge_and_unload().state_dict())
    assert merged[0].keys() == merged[1].keys()
    for name, value in merged[0].items():
        assert torch.equal(value, merged[1][name])


def test_adapters_are_switched_on_stacked_weights(tiny_model, tiny, tmp_path):
    from peft import LoraConfig, get_peft_model

    for seed in (1, 2):
        torch.manual_seed(seed)
        base = load(str(tiny_model), dtype="float32", device=chosen_device()).model
        config = LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
        get_peft_model(base, config).save_pretrained(tmp_path / str(seed))
    found = []
    for adapter in (None, "1", "2", None):
        switch_adapter(tiny, adapter and str(tmp_path / adapter))
        found.append(scored(TransformersBackend(tiny)))
        fresh = load(
            str(tiny_model),
            adapter=adapter and str(tmp_path / adapter),
            dtype="float32",
            device=chosen_device(),
        )
        assert found[-1] == scored(TransformersBackend(fresh))
    assert found[0] == found[3] != found[1] != found[2]


def test_training_by_hand_stays_on_the_cpu(tiny):
    for device, here in (("cpu", True), ("cuda", False), ("cuda:1", False)):
        there = replace(tiny, device=device)
        assert (take_apart(there, 20) is not None) is here
        assert take_apart(there, 20, devices=DEVICES) is not None
    assert take_apart(replace(tiny, device="mps"), 20, devices=DEVICES) is None


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [
        ("cuda", "float16", True),
        ("cuda", "bfloat16", True),
        ("cuda", "float32", True),
        ("cpu", "bfloat16", True),
        ("cpu", "float16", False),
    ],
)
def test_half_precision_is_run_by_hand_on_a_card(device, dtype, expected):
    loaded = make()
    loaded.model.to(getattr(torch, dtype))
    loaded.dtype, loaded.device = dtype, device
    assert (take_apart(loaded, 20, devices=DEVICES) is not None) is expected


class OneDevice(TorchDispatchMode):
    """Refuses an operation over tensors of two devices, except copies from one to the other."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        places = {x.device.type for x in given}
        assert len(places) < 2 or func.overloadpacket is torch.ops.aten.copy_, func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("by_hand", [True, False], ids=["by hand", "modules"])
def test_every_tensor_is_made_on_the_models_device(monkeypatch, dtype, by_hand):
    """With weights that are only described, as a stand-in for a card."""
    monkeypatch.setattr(forward, "DEVICES", ("meta",))
    loaded = inferring()
    loaded.model.to("meta", getattr(torch, dtype))
    loaded.dtype, loaded.device = dtype, "meta"
    passes = forward_of(loaded, 40) if by_hand else ModuleForward(loaded)
    assert isinstance(passes, LlamaForward) is by_hand
    kind = getattr(torch, dtype)
    with OneDevice(), loaded.inference():
        ids, positions, bias = tensors(pack([[row] for row in ROWS], 24), kind, "meta")
        logits = passes.packs(ids, positions, bias, torch.tensor([0, 3], device="meta"))
        slots = Slots(loaded, passes, 4, 24, 64)
        found = [logits, slots.enter([row for row in ROWS if len(row) < 20][:3])]
        found.append(slots.step([3, 4, 5]))
        slots.keep([2, 1])
        found.append(slots.step([6, 7]))
    assert [each.device.type for each in found] == ["meta"] * 4
    assert [len(each) for each in found] == [2, 3, 3, 2]


def test_a_tensor_on_another_device_is_found(monkeypatch):
    """Control."""
    monkeypatch.setattr(forward, "DEVICES", ("meta",))
    loaded = inferring()
    loaded.model.to("meta")
    loaded.device = "meta"
    passes = forward_of(loaded, 40)
    ids, positions, bias = tensors(pack([[row] for row in ROWS], 24), torch.float32, "meta")
    with OneDevice(), loaded.inference(), pytest.raises(AssertionError):
        passes.packs(ids, positions, bias, torch.tensor([0, 3]))
