"""The hand-written passes as they run on a GPU, without one: kernels replaced, or tensors without
data that check devices and count kernels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.models import load
from harness.models.architecture import pick_class
from harness.models.llama import parts as parts_module
from harness.models.llama import recognise
from harness.models.llama.parts import Norm
from harness.models.llama.recognise import inputs_in_common
from harness.models.llama.stacked_weights import adjacent, stack_in_place
from harness.models.lora_forward import cast_factors, install_lean_lora, trains_lean
from harness.models.quantisation import Quantisation
from harness.training.config import AdapterConfig
from harness.training.step import row_attention
from harness.training.step.handwritten.decoder import find_decoder
from harness.training.step.handwritten.packed_rows import lay_out
from harness.training.step.lora import add_adapter
from harness.training.step.loss import plain_losses, token_losses
from harness.training.step.row_packing import RowPacking, packing_rows
from tests.factors import stir_factors
from tests.models.test_lora_forward import Kernels
from tests.training.architectures import make_config
from tests.training.fake_kernels import kernels  # noqa: F401  # a fixture
from tests.training.handwritten.test_handwritten_decoder import (
    SHAPES,
    assert_equal,
    batch,
    gradients,
    make,
)
from tests.training.small import make_trainer, small_config

pytestmark = pytest.mark.cpu_only("plays a card on the CPU")

pytestmark = pytest.mark.cpu_only("plays a card on the CPU")

LENGTHS = [5, 33, 12, 34, 2]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("changes", [{}, *SHAPES], ids=str)
def test_losses_and_gradients_are_those_of_transformers_and_peft(changes):
    loaded = make(**changes)
    assert find_decoder(loaded, 40) is not None
    assert_equal(loaded, batch(1, LENGTHS))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    "targets", [["q_proj", "v_proj"], ["k_proj", "down_proj"], ["gate_proj"], ["o_proj", "up_proj"]]
)
def test_layers_without_factors(targets):
    assert_equal(make(lora={"target_modules": targets}), batch(2, LENGTHS))


@pytest.mark.usefixtures("kernels")
def test_factors_that_are_scaled_differently_go_another_way():
    pattern = {"q_proj": 32}
    loaded = make(lora={"alpha_pattern": pattern})
    assert find_decoder(loaded, 40) is None
    assert find_decoder(make(), 40) is not None


@pytest.mark.usefixtures("kernels")
def test_weights_that_lie_together_are_multiplied_as_one():
    loaded = make()
    rows = batch(3, LENGTHS)
    before = gradients(loaded, token_losses, rows)
    with Kernels() as apart:
        gradients(loaded, token_losses, rows)
    stack_in_place(inputs_in_common(loaded))
    after = gradients(loaded, token_losses, rows)
    with Kernels() as together:
        gradients(loaded, token_losses, rows)
    torch.testing.assert_close(after[0], before[0], rtol=1e-5, atol=1e-5)
    for name, gradient in before[2].items():
        torch.testing.assert_close(after[2][name], gradient, rtol=1e-4, atol=1e-5)
    assert together.count < apart.count


@pytest.mark.parametrize("by_kernel", [False, True])
def test_recomputed_layers_have_the_same_gradients_and_keep_less(request, by_kernel):
    if by_kernel:
        request.getfixturevalue("kernels")
    rows = batch(4, LENGTHS)
    kept, found = [], []
    for recompute in (False, True):
        loaded = make(num_hidden_layers=6)
        loaded.model.model.model.layers[0].gradient_checkpointing = recompute
        sizes = []

        def note(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            token_losses(loaded, rows)
        kept.append(sum(sizes))
        found.append(gradients(loaded, token_losses, rows))
    assert kept[1] < kept[0] / 4
    assert torch.equal(found[0][0], found[1][0])
    for name, gradient in found[0][2].items():
        assert torch.equal(gradient, found[1][2][name]), name


@pytest.mark.extras
@pytest.mark.parametrize("by_kernel", [False, True])
def test_weights_of_four_bits(request, tiny_model, by_kernel):
    if by_kernel:
        request.getfixturevalue("kernels")
    loaded = load(
        str(tiny_model),
        dtype="bfloat16",
        device="cpu",
        quantisation=Quantisation(load_in_4bit=True),
    )
    loaded.model = add_adapter(loaded, AdapterConfig(lora_r=4, lora_alpha=8), seed=0).train()
    stir_factors(loaded.model, 0.05)
    assert find_decoder(loaded, 40) is not None
    loaded.matmul_dtype = "bfloat16"
    rows = batch(5, LENGTHS)
    ours, _, ours_grad = gradients(loaded, token_losses, rows)
    theirs, _, theirs_grad = gradients(loaded, plain_losses, rows)
    assert (ours - theirs).abs().mean() < 0.05
    off = sum((ours_grad[n] - g).norm() ** 2 for n, g in theirs_grad.items()) ** 0.5
    assert off < 0.05 * sum(g.norm() ** 2 for g in theirs_grad.values()) ** 0.5


def test_a_norm_by_kernels_is_called_with_what_it_gave():
    """PyTorch's kernels are not on a CPU; their shapes and dtypes are known without data."""
    with FakeTensorMode():
        x = torch.empty(7, 16, dtype=torch.bfloat16, device="meta")
        norm = Norm(torch.empty(16, dtype=torch.bfloat16, device="meta"), 1e-6)
        parts_module.has_kernels, before = (lambda x: True), parts_module.has_kernels
        try:
            out, inverse = norm.apply(x)
            assert (out.shape, out.dtype) == (x.shape, x.dtype)
            assert (inverse.shape, inverse.dtype) == ((7, 1), torch.float32)
            assert norm.backward(out, x, inverse).shape == x.shape
        finally:
            parts_module.has_kernels = before


def without_data(monkeypatch, name="llama"):
    """A model on a device of its own whose tensors have shapes only, with an adapter."""
    from harness.models import LoadedModel, ModelSource

    for module, function in (
        (recognise, "_runs_kernels"),
        (row_attention, "has_kernel"),
        (parts_module, "has_kernels"),
    ):
        monkeypatch.setattr(module, function, lambda *_: True)
    monkeypatch.setattr("harness.training.step.handwritten.head.has_kernels", lambda x: True)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # not asked of "meta"
    config = make_config(name)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            model = pick_class(config, name).from_config(config)
    finally:
        torch.set_default_dtype(torch.float32)
    loaded = LoadedModel(ModelSource("x", "", None, ""), model, None, "bfloat16", "meta")
    loaded.tokenizer = type("Padder", (), {"pad_token_id": 0})()
    with torch.device("meta"):
        loaded.model = add_adapter(loaded, AdapterConfig(lora_r=4, lora_alpha=8), seed=0).train()
    loaded.lean_lora = install_lean_lora(loaded.model)
    loaded.lean_training = trains_lean(loaded.model)
    return loaded


def check_backward(loaded, losses, correct):
    """Run the backward pass, and check that each factor gets its gradient on its device."""
    losses.sum().backward()
    assert losses.device.type == correct.device.type == "meta"
    trained = [weight for weight in loaded.model.parameters() if weight.requires_grad]
    assert trained
    for weight in trained:
        assert weight.grad.shape == weight.shape and weight.grad.dtype == weight.dtype
        assert weight.grad.device.type == "meta"


@pytest.mark.parametrize("name", ["llama", "phi", "qwen3_moe", "gemma3", "deepseek_v3"])
@pytest.mark.parametrize("way", ["bounds", "mask", "padding"])
def test_every_tensor_of_a_pass_of_transformers_is_on_the_models_device(monkeypatch, name, way):
    with FakeTensorMode(allow_non_fake_inputs=True):
        loaded = without_data(monkeypatch, name)
        with packing_rows(loaded, RowPacking(way)), cast_factors(loaded.model, torch.bfloat16):
            losses, correct = plain_losses(loaded, batch(6, LENGTHS))
            check_backward(loaded, losses, correct)


def test_every_tensor_of_a_step_is_on_the_models_device(monkeypatch):
    with FakeTensorMode(allow_non_fake_inputs=True):
        loaded = without_data(monkeypatch)
        assert find_decoder(loaded, 40) is not None
        losses, correct = token_losses(loaded, batch(6, LENGTHS))
        check_backward(loaded, losses, correct)


def test_the_check_of_devices_finds_a_tensor_on_another(monkeypatch):
    with FakeTensorMode(allow_non_fake_inputs=True):
        loaded = without_data(monkeypatch)
        rows = lay_out(batch(6, LENGTHS), 0, "meta")
        astray = replace(rows, targets=torch.zeros_like(rows.targets, device="cpu"))
        with pytest.raises(RuntimeError, match="device"):
            find_decoder(loaded, 40).losses(astray)


@pytest.mark.parametrize("by_kernel", [False, True])
def test_a_run_stacks_weights_where_kernels_run(request, tiny_model, tmp_path, by_kernel):
    if by_kernel:
        request.getfixturevalue("kernels")
    trainer = make_trainer(small_config(tiny_model, tmp_path))
    for group in inputs_in_common(trainer.loaded):
        weights = [layer.weight.data for layer in group]
        assert (adjacent(weights) is not None) is by_kernel
    trainer.step(0, 0.0)
