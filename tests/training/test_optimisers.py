"""Optimisers by name, and their state through safetensors."""

from __future__ import annotations

import warnings

import pytest
import torch
from safetensors.torch import load, save

from harness.errors import HarnessError
from harness.training.config import OptimisationConfig
from harness.training.start import train
from harness.training.step.optimisers import (
    check_optimizer,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
)
from tests.training.small import small_config


def weights():
    generator = torch.Generator().manual_seed(1)
    return [
        torch.nn.Parameter(torch.randn(size, generator=generator)) for size in ((80, 80), (5, 3))
    ]


def step(parameters, optimizer, number):
    generator = torch.Generator().manual_seed(number)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize(
    "optim", ["adamw_torch", pytest.param("adamw_8bit", marks=pytest.mark.extras)]
)
def test_saved_state_goes_on_bit_for_bit(optim):
    config = OptimisationConfig(optim=optim, learning_rate=1e-2)
    whole, broken = weights(), weights()
    first, second = make_optimizer(whole, config, "cpu"), make_optimizer(broken, config, "cpu")
    for number in range(3):
        step(whole, first, number)
        step(broken, second, number)
    saved = load(save(optimizer_tensors(second)))
    if optim == "adamw_8bit":
        assert saved["0.state1"].dtype == torch.uint8, (
            "the large tensor's moments are stored in eight bits"
        )
        assert saved["1.state1"].dtype == torch.float32, "a small one's are not"
    again = make_optimizer(broken, config, "cpu")
    load_optimizer_tensors(again, saved)
    for number in range(3, 6):
        step(whole, first, number)
        step(broken, again, number)
    assert all(torch.equal(a, b) for a, b in zip(whole, broken, strict=True))


@pytest.mark.extras
def test_eight_bit_moments_go_nearly_the_same_way():
    found = {}
    for optim in ("adamw_torch", "adamw_8bit"):
        found[optim] = weights()
        start = found[optim][0].detach().clone()
        optimizer = make_optimizer(
            found[optim], OptimisationConfig(optim=optim, learning_rate=1e-3), "cpu"
        )
        for number in range(20):
            step(found[optim], optimizer, number % 4)
        found[optim] = (found[optim][0].detach() - start).flatten()
    assert (
        torch.nn.functional.cosine_similarity(found["adamw_torch"], found["adamw_8bit"], dim=0)
        > 0.98
    )


def test_a_run_is_refused_before_anything_is_loaded_or_written(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.models.pick_device", lambda: "cpu")
    monkeypatch.setattr("harness.models.load", lambda *args, **kwargs: pytest.fail("loaded"))
    with pytest.raises(HarnessError, match="needs CUDA"):
        train(
            small_config(tiny_model, tmp_path, optimisation={"optim": "paged_adamw_8bit"}),
            quiet=True,
        )
    assert not (tmp_path / "run").exists()


def test_the_paged_one_needs_cuda_and_the_error_names_what_works():
    with warnings.catch_warnings(), pytest.raises(HarnessError, match="needs CUDA") as caught:
        make_optimizer(weights(), OptimisationConfig(optim="paged_adamw_8bit"), "cpu")
    assert '"adamw_torch" or "adamw_8bit"' in str(caught.value)
    with pytest.raises(HarnessError, match='take "adamw_torch"'):
        check_optimizer("adamw_8bit", "mps")
