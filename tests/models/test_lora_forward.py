"""The lean LoRA forward against peft's own."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.models import load
from harness.models.lora_forward import cast_factors, install_lean_lora, lean_layers, trains_lean
from harness.models.quantisation import Quantisation
from harness.training.config import AdapterConfig
from harness.training.step.lora import add_adapter
from tests.device import chosen_device
from tests.factors import stir_factors

NF4 = Quantisation(load_in_4bit=True)


def adapted(tiny_model, dtype="float32", quantisation=None):
    loaded = load(str(tiny_model), dtype=dtype, device=chosen_device(), quantisation=quantisation)
    model = add_adapter(loaded, AdapterConfig(lora_r=4, lora_alpha=9), seed=1)
    stir_factors(model, 0.05, seed=2)
    return model.eval()


def test_it_equals_pefts_forward(tiny_model):
    ids = torch.arange(3, 40, device=chosen_device()).reshape(1, -1)
    plain, lean = adapted(tiny_model), adapted(tiny_model)
    assert install_lean_lora(lean)
    with torch.inference_mode():
        expected = plain(ids).logits
        assert torch.allclose(lean(ids).logits, expected, atol=1e-5)
        with lean.disable_adapter():
            assert not torch.allclose(lean(ids).logits, expected, atol=1e-2), (
                "the adapter does something, and can be switched off"
            )


def test_it_sees_weights_that_change(tiny_model):
    ids = torch.arange(3, 40, device=chosen_device()).reshape(1, -1)
    model = adapted(tiny_model)
    install_lean_lora(model)
    with torch.inference_mode():
        before = model(ids).logits
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.mul_(2)
    with torch.inference_mode():
        assert not torch.allclose(model(ids).logits, before, atol=1e-3)


def test_a_16_bit_base_needs_no_autocast_and_stays_near_float32(tiny_model):
    ids = torch.arange(3, 40, device=chosen_device()).reshape(1, -1)
    half = adapted(tiny_model, "bfloat16")
    install_lean_lora(half)
    with torch.inference_mode():
        assert half(ids).logits.dtype == torch.bfloat16
        assert torch.allclose(half(ids).logits.float(), adapted(tiny_model)(ids).logits, atol=0.05)


def gradients(model, ids, dtype=torch.float32, *, autocast=False):
    """The logits of a pass, and the gradient of each factor of a loss over them."""
    model.zero_grad()
    with torch.autocast(chosen_device().split(":")[0], dtype=torch.bfloat16, enabled=autocast):
        logits = model(ids).logits.float()
    (logits * torch.linspace(-1, 1, logits.shape[-1], device=logits.device)).sum().backward()
    return logits.detach(), {
        name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad
    }


def distance(found, expected):
    """The relative distance of two sets of gradients."""
    off = sum((found[name] - expected[name]).norm() ** 2 for name in expected) ** 0.5
    return off / sum(each.norm() ** 2 for each in expected.values()) ** 0.5


@pytest.mark.parametrize("checkpointing", [False, True])
def test_its_gradients_equal_pefts(tiny_model, checkpointing):
    ids = torch.arange(3, 40, device=chosen_device()).reshape(1, -1)
    plain, lean = adapted(tiny_model), adapted(tiny_model)
    assert install_lean_lora(lean) and trains_lean(lean)
    for model in (plain, lean):
        model.train()
        if checkpointing:
            model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    wanted, expected = gradients(plain, ids)
    with cast_factors(lean, torch.float32):
        logits, found = gradients(lean, ids)
    assert torch.allclose(logits, wanted, atol=1e-5)
    assert distance(found, expected) < 1e-5
    assert all(grad.dtype == torch.float32 for grad in found.values())


def test_in_16_bits_it_is_as_near_to_float32_as_autocast(tiny_model):
    ids = torch.arange(3, 40, device=chosen_device()).reshape(1, -1)
    _, exact = gradients(adapted(tiny_model), ids)
    _, cast = gradients(adapted(tiny_model, "bfloat16"), ids, autocast=True)
    lean = adapted(tiny_model, "bfloat16")
    install_lean_lora(lean)
    with cast_factors(lean, torch.bfloat16):
        _, found = gradients(lean, ids)
    assert all(grad.dtype == torch.float32 for grad in found.values())
    assert distance(found, exact) < 1.2 * distance(cast, exact)


@pytest.mark.extras
def test_in_four_bits_it_equals_peft(tiny_model):
    ids = torch.arange(3, 40, device=chosen_device()).reshape(1, -1)
    plain, lean = (adapted(tiny_model, "bfloat16", NF4) for _ in range(2))
    assert install_lean_lora(lean) and trains_lean(lean)
    wanted, expected = gradients(plain.train(), ids, autocast=True)
    with cast_factors(lean.train(), torch.bfloat16):
        logits, found = gradients(lean, ids)
    assert torch.allclose(logits, wanted, atol=0.05)
    assert distance(found, expected) < 0.02
    _, other = gradients(adapted(tiny_model, "bfloat16").train(), ids, autocast=True)
    assert distance(other, expected) > 0.04, "weights that are not quantised are farther"


def test_a_step_has_fewer_kernels_than_pefts(tiny_model):
    ids = torch.arange(3, 40, device=chosen_device()).reshape(1, -1)
    plain, lean = adapted(tiny_model, "bfloat16").train(), adapted(tiny_model, "bfloat16").train()
    install_lean_lora(lean)
    with Kernels() as theirs:
        gradients(plain, ids, autocast=True)
    with Kernels() as ours, cast_factors(lean, torch.bfloat16):
        gradients(lean, ids)
    per_layer = (theirs.count - ours.count) / len(lean_layers(lean))
    assert per_layer > 4, (ours.count, theirs.count)


def test_the_factors_of_a_step_are_cast_once(tiny_model):
    ids = torch.arange(3, 40, device=chosen_device()).reshape(1, -1)
    model = adapted(tiny_model, "bfloat16")
    install_lean_lora(model)

    def double():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data.mul_(2)

    with cast_factors(model, torch.bfloat16):
        before, _ = gradients(model, ids)
        double()
        inside, _ = gradients(model, ids)
    after, _ = gradients(model, ids)
    assert torch.equal(before, inside)
    assert not torch.allclose(before, after, atol=1e-3)


@pytest.mark.parametrize(
    "settings", [{"lora_dropout": 0.1}, {"use_dora": True}], ids=["dropout", "DoRA"]
)
def test_what_is_more_than_factors_trains_through_peft(tiny_model, settings):
    loaded = load(str(tiny_model), dtype="float32", device=chosen_device())
    model = add_adapter(loaded, AdapterConfig(lora_r=4, lora_alpha=9, **settings), seed=1).train()
    install_lean_lora(model)
    assert not trains_lean(model)
    with cast_factors(model, torch.float32):
        _, found = gradients(model, torch.arange(3, 40, device=chosen_device()).reshape(1, -1))
    assert all(grad is not None for grad in found.values())


class Kernels(TorchDispatchMode):
    """Counts the operations that would be a kernel on a GPU: no views, no allocations."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not (func.is_view or "empty" in str(func) or "detach" in str(func))
        return func(*args, **(kwargs or {}))
