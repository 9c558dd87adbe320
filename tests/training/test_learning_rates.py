"""Alpha acts on the learning rate: the identity in float64 to the last bit, and in the trainer."""

from __future__ import annotations

import pytest
import torch

from harness.models import load
from harness.training.config import AdapterConfig, OptimisationConfig
from harness.training.step.lora import add_adapter
from harness.training.step.optimisers import Rates, clip
from tests.device import chosen_device

K = 4.0  # a power of two: scaling by it rounds nothing


def walk(alpha, rate_a, rate_b, *, k=1.0, steps=30, norm=0.0):
    """Fit B·A·alpha/r to a matrix with AdamW in float64.

    Returns A, B and the products on the way.
    """
    torch.manual_seed(0)
    target = torch.randn(6, 5, dtype=torch.float64)
    a = torch.nn.Parameter(torch.randn(3, 5, dtype=torch.float64))
    b = torch.nn.Parameter(torch.zeros(6, 3, dtype=torch.float64))
    groups = [
        {"params": [a], "lr": rate_a, "eps": 1e-8, "weight_decay": 0.01, "k": 1.0},
        {"params": [b], "lr": rate_b, "eps": 1e-8 * k, "weight_decay": 0.01 * k, "k": k},
    ]
    optimizer = torch.optim.AdamW(groups, foreach=False)
    products = []
    for _ in range(steps):
        optimizer.zero_grad()
        ((alpha / 3) * (b @ a) - target).square().sum().backward()
        clip(optimizer.param_groups, norm)
        optimizer.step()
        products.append(((alpha / 3) * (b @ a)).detach().clone())
    return a.detach(), b.detach(), products


@pytest.mark.parametrize("norm", [0.0, 0.5])
def test_the_alpha_identity_is_exact(norm):
    """(alpha, lr_A, lr_B) and (k·alpha, lr_A, lr_B/k) give the same A, B/k and the same product at
    every step, bit for bit."""
    a, b, products = walk(3.0, 1e-2, 1e-2, norm=norm)
    a_k, b_k, products_k = walk(3.0 * K, 1e-2, 1e-2 / K, k=K, norm=norm)
    assert torch.equal(a, a_k) and torch.equal(b, b_k * K)
    assert all(torch.equal(one, other) for one, other in zip(products, products_k, strict=True))


def test_without_compensation_alpha_is_a_rate():
    """k·alpha equals k·lr_B with an unchanged lr_A, bit for bit, so a sweep over alpha alone is one
    over rates."""
    _, _, plain = walk(3.0, 1e-2, 1e-2)
    _, _, more = walk(3.0 * K, 1e-2, 1e-2, k=K)
    _, _, faster = walk(3.0, 1e-2, 1e-2 * K)
    assert all(torch.equal(one, other) for one, other in zip(more, faster, strict=True))
    assert torch.allclose(more[0], K * plain[0]) and not torch.allclose(
        more[-1], K * plain[-1], rtol=0.1
    )


@pytest.fixture
def adapter_of(tiny_model):
    def make(optimisation, **adapter):
        model = add_adapter(
            load(str(tiny_model), dtype="float32", device=chosen_device()),
            AdapterConfig(lora_r=4, **adapter),
            0,
        )
        return model, Rates.of(model, optimisation)

    return make


def test_groups_hold_every_trained_weight_once(adapter_of):
    config = OptimisationConfig(loraplus_lr_ratio=16.0, compensate_alpha=8.0, weight_decay=0.1)
    model, rates = adapter_of(config, lora_alpha=32.0)
    a, b = rates.groups(model, config)
    assert (a["factor"], b["factor"], b["k"]) == (1.0, 16.0 * 8 / 32, 4.0)
    assert (b["eps"], b["weight_decay"]) == (4 * a["eps"], 4 * a["weight_decay"])
    held = [id(p) for group in (a, b) for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    names = {id(p): name for name, p in model.named_parameters()}
    assert all("lora_B" in names[id(p)] for p in b["params"]) and not any(
        "lora_B" in names[id(p)] for p in a["params"]
    )


def test_scaling_is_that_of_peft(adapter_of):
    for rslora in (False, True):
        model, rates = adapter_of(OptimisationConfig(), lora_alpha=32.0)
        if rslora:
            model.peft_config["default"].use_rslora = True
            rates = Rates.of(model, OptimisationConfig())
        assert rates.scaling == (16.0 if rslora else 8.0)


def test_rates_without_settings_are_one(adapter_of):
    _, rates = adapter_of(OptimisationConfig())
    assert (rates.b_over_a, rates.k) == (1.0, 1.0)


def test_clip_is_torchs_own_without_compensation():
    torch.manual_seed(0)
    ours, theirs = (
        [torch.nn.Parameter(torch.zeros(3, 2)), torch.nn.Parameter(torch.zeros(5))]
        for _ in range(2)
    )
    for one, other in zip(ours, theirs, strict=True):
        one.grad = torch.randn(one.shape)
        other.grad = one.grad.clone()
    norm = clip([{"params": ours[:1], "k": 1.0}, {"params": ours[1:], "k": 1.0}], 0.3)
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, 0.3)))
    assert all(
        torch.allclose(one.grad, other.grad) for one, other in zip(ours, theirs, strict=True)
    )
