"""The lean LoRA forward against peft's own."""

from __future__ import annotations

import torch

from harness.models import load
from harness.models.lora_forward import install_lean_lora
from harness.training.config import AdapterConfig
from harness.training.step.lora import add_adapter


def adapted(tiny_model, dtype="float32"):
    loaded = load(str(tiny_model), dtype=dtype, device="cpu")
    model = add_adapter(loaded, AdapterConfig(lora_r=4, lora_alpha=9), seed=1)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    return model.eval()


def test_it_equals_pefts_forward(tiny_model):
    ids = torch.arange(3, 40).reshape(1, -1)
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
    ids = torch.arange(3, 40).reshape(1, -1)
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
    ids = torch.arange(3, 40).reshape(1, -1)
    half = adapted(tiny_model, "bfloat16")
    install_lean_lora(half)
    with torch.inference_mode():
        assert half(ids).logits.dtype == torch.bfloat16
        assert torch.allclose(half(ids).logits.float(), adapted(tiny_model)(ids).logits, atol=0.05)


def test_training_still_goes_through_peft(tiny_model):
    model = adapted(tiny_model)
    install_lean_lora(model)
    model.train()
    model(torch.arange(3, 40).reshape(1, -1)).logits.sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "lora_A" in n)
