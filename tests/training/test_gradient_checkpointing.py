"""Gradient checkpointing changes memory and nothing else."""

from __future__ import annotations

import gc
import weakref
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from harness.errors import HarnessError
from harness.records import Encoded
from harness.training.config import OptimisationConfig
from harness.training.data.examples import Example
from harness.training.data.pass_sizes import PassSize, pass_sizes
from harness.training.step import gradient_checkpointing
from harness.training.step.gradient_checkpointing import (
    Growth,
    fit_growth,
    measure_growth,
    why_needed,
)
from harness.training.step.loss import plain_losses
from harness.training.step.passes import Pass
from harness.training.step.row_packing import RowPacking
from tests.training.architectures import build
from tests.training.small import STORED_NF4, make_trainer, small_config, weights_of


def checkpoints(trainer) -> bool:
    """Whether the trainer's model recomputes activations."""
    return trainer.model.get_base_model().is_gradient_checkpointing


@pytest.mark.parametrize("stored", [None, STORED_NF4], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_result_is_the_same_with_and_without(tiny_model, tmp_path, stored, dtype):
    runs = []
    for setting in (False, True):
        config = small_config(
            tiny_model,
            tmp_path,
            dtype=dtype,
            adapter={"lora_dropout": 0.1},
            optimisation={"gradient_checkpointing": setting},
        )
        trainer = make_trainer(config, stored)
        assert checkpoints(trainer) is setting
        torch.manual_seed(0)
        runs.append(([trainer.step(number, 0.0).loss for number in range(6)], weights_of(trainer)))
    assert runs[0][0] == runs[1][0]
    for name, weight in runs[0][1].items():
        assert torch.equal(weight, runs[1][1][name]), name
    assert all(weight.abs().sum() > 0 for name, weight in runs[1][1].items() if "lora_B" in name), (
        "every factor had a gradient"
    )


def kept_by(trainer, tokens, supervised=None) -> int:
    """What a pass over one row keeps."""
    size = PassSize.one_row(tokens, supervised)
    return gradient_checkpointing.kept_bytes(trainer.loaded, trainer.model, size)


def test_it_keeps_less(tiny_model, tmp_path):
    kept = {}
    for setting in (False, True):
        trainer = make_trainer(
            small_config(tiny_model, tmp_path, optimisation={"gradient_checkpointing": setting})
        )
        kept[setting] = kept_by(trainer, 100)
    assert kept[True] < 0.6 * kept[False]


def test_a_probe_leaves_no_tensor_behind(tiny_model, tmp_path):
    """A pack hook that returns its tensor makes a circle of tensor and graph, unseen by gc."""
    trainer = make_trainer(small_config(tiny_model, tmp_path, adapter={"lora_dropout": 0.1}))
    seen = []
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _m, _i, out: seen.append(weakref.ref(out)) and None)
    random = torch.get_rng_state()
    for training in (True, False):
        trainer.model.train(training)
        why_needed(trainer.loaded, trainer.model, [PassSize.one_row(700)])
        assert trainer.model.training is training
    gc.collect()
    assert len(seen) > 20 and not any(each() is not None for each in seen)
    assert torch.equal(torch.get_rng_state(), random)


def test_a_probe_counts_what_a_pass_that_is_kept_counts(tiny_model, tmp_path):
    """Storages that are freed at once would give their address to others, and be counted once."""
    trainer = make_trainer(small_config(tiny_model, tmp_path))
    row = Example("", "", Encoded(tuple(range(100)), (False,) * 50 + (True,) * 50))
    own = {t.untyped_storage().data_ptr() for t in trainer.model.parameters()}
    own |= {t.untyped_storage().data_ptr() for t in trainer.model.buffers()}
    alive = []
    trainer.model.train()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: alive.append(t) or t, lambda t: t):
        plain_losses(trainer.loaded, [row])[0].sum().backward()
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in alive}
    assert kept_by(trainer, 100, 50) == sum(n for at, n in storages.items() if at not in own)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("kernel", ["default", "math", "eager"])
@pytest.mark.parametrize("tokens", [20, 700])
def test_the_estimate_is_what_a_long_pass_keeps(tiny_model, tmp_path, kernel, dropout, tokens):
    trainer = make_trainer(small_config(tiny_model, tmp_path, adapter={"lora_dropout": dropout}))
    if kernel == "eager":
        trainer.model.get_base_model().set_attn_implementation("eager")
    with sdpa_kernel(SDPBackend.MATH) if kernel == "math" else nullcontext():
        growth = measure_growth(trainer.loaded, trainer.model)
        for supervised in (tokens // 10, tokens // 2, tokens - 1):
            real = kept_by(trainer, tokens, supervised)
            counted = growth.bytes(PassSize.one_row(tokens, supervised))
            assert counted == pytest.approx(real, rel=0.05), supervised
    assert (growth.score > 0) == (kernel != "default")


@pytest.mark.parametrize("kernel", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
def test_the_estimate_of_several_padded_rows(tiny_model, tmp_path, kernel):
    trainer = make_trainer(small_config(tiny_model, tmp_path, dtype="bfloat16"))
    rows = [
        Example("", "", Encoded((5,) * n, (False,) * (n // 2) + (True,) * (n - n // 2)))
        for n in (300, 280, 210)
    ]
    kept = {}

    def record(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()

    with sdpa_kernel(kernel):
        growth = measure_growth(trainer.loaded, trainer.model)
        with torch.autograd.graph.saved_tensors_hooks(record, lambda t: t):
            trainer.model.train()
            loss = plain_losses(trainer.loaded, rows)[0].sum()
    weights = {t.untyped_storage().data_ptr() for t in trainer.model.parameters()}
    real = sum(storage.nbytes() for at, storage in kept.items() if at not in weights)
    del loss
    assert growth.bytes(Pass(rows).size) == pytest.approx(real, rel=0.05)


@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral", "mamba"])
def test_the_estimate_of_other_architectures(tmp_path, name):
    trainer = make_trainer(small_config(build(name, tmp_path / name), tmp_path))
    growth = measure_growth(trainer.loaded, trainer.model)
    real = kept_by(trainer, 400, 200)
    assert growth.bytes(PassSize.one_row(400, 200)) == pytest.approx(real, rel=0.1)


@given(
    st.tuples(*[st.integers(0, 10**6)] * 3),
    st.integers(0, 1000),
    st.integers(1, 32).map(lambda n: 4 * n),
)
def test_the_fit_finds_the_coefficients_that_made_the_numbers(linear, score, long):
    real = Growth(*map(float, linear), float(score))
    sizes = [PassSize.one_row(n) for n in (long // 4, long // 2, long)]
    lengths = [size.tokens for size in sizes]
    if long < 8:  # one row of four tokens says too little of its logits
        return
    fewer = real.bytes(PassSize.one_row(long, long // 2))
    found = fit_growth(lengths, [real.bytes(size) for size in sizes], fewer)
    other = PassSize(5000, 700, 3_000_000)
    assert found.bytes(other) == pytest.approx(real.bytes(other), rel=1e-6, abs=100)


def test_a_curve_that_bends_downwards_is_not_followed_below_zero():
    """Experts that a short pass leaves idle: the longer passes tell the growth."""
    found = fit_growth((32, 64, 128), (10_000, 15_000, 24_000), 24_000)
    assert found.score == 0
    assert found.bytes(PassSize.one_row(2048)) == 24_000 + 1920 * 9000 / 64


def test_auto_asks_the_memory(tiny_model, tmp_path, monkeypatch, capsys):
    assert OptimisationConfig().gradient_checkpointing == "auto"
    config = small_config(tiny_model, tmp_path)
    assert not checkpoints(make_trainer(config))
    assert "checkpointing" not in capsys.readouterr().err
    monkeypatch.setattr(gradient_checkpointing, "free_bytes", lambda device: 1_000)
    assert checkpoints(make_trainer(config))
    assert "gradient checkpointing: on: a pass of " in capsys.readouterr().err


def test_auto_asks_for_the_largest_pass_of_the_plan(tiny_model, tmp_path, monkeypatch):
    """Not for max_tokens_per_batch: rows of twenty tokens never fill a pass of 2048."""
    config = small_config(tiny_model, tmp_path)
    trainer = make_trainer(config)
    growth = measure_growth(trainer.loaded, trainer.model)
    steps = [trainer.examples(number) for number in range(trainer.plan.total_steps)]
    longest = max(sum(len(e.encoded.ids) for e in step) for step in steps)
    sizes = set(trainer.updater.passes.sizes(steps))
    assert max(size.tokens for size in sizes) <= longest < 500
    needed = max(map(growth.bytes, sizes))
    for free, on in ((needed / 0.7 + 10, False), (needed / 0.7 - 10, True)):
        monkeypatch.setattr(gradient_checkpointing, "free_bytes", lambda device, free=free: free)
        assert checkpoints(make_trainer(config)) is on


def row(length, supervised):
    trained = tuple(at >= length - supervised for at in range(length))
    return Example(str(length), "f", Encoded((1,) * length, trained))


def test_the_sizes_of_a_plan_are_those_of_its_batches():
    steps = [[row(10, 4), row(8, 3)], [row(10, 4), row(8, 3)], [row(30, 2)], []]
    whole = pass_sizes(steps, lambda step: [Pass(step).size])
    assert whole == {PassSize(20, 7, 200), PassSize(30, 2, 900)}
    single = pass_sizes(steps, lambda step: [Pass([each]).size for each in step])
    assert single == {PassSize(n, s, n * n) for n, s in ((10, 4), (8, 3), (30, 2))}
    short = [[row(5, 2)] for _ in range(1000)]
    long = [[row(50, 2), row(4, 1)]]
    found = pass_sizes(short + long + short, lambda step: [Pass(step).size])
    assert PassSize(100, 3, 5000) in found


def test_the_size_of_a_pass_depends_on_its_layout():
    rows = [row(10, 4), row(8, 3)]
    assert Pass(rows).size == PassSize(20, 7, 200)
    assert Pass(rows, RowPacking("bounds")).size == PassSize(18, 7, 164)
    assert Pass(rows, RowPacking("mask")).size == PassSize(18, 7, 324)
    assert Pass(rows, handwritten=True).size == PassSize(18, 7, 164)


def failing(error, at):
    """A loss whose call number ``at`` ends with this error."""
    calls = []

    def losses(*args):
        calls.append(1)
        if len(calls) == at:
            raise error
        return plain_losses(*args)

    return losses


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), "out of memory"),
        (RuntimeError("no kernel for this\nline two"), "a short pass failed (no kernel for this)"),
        (NotImplementedError(), "a short pass failed (NotImplementedError)"),
    ],
)
def test_a_probe_that_fails_takes_less_memory(
    tiny_model, tmp_path, monkeypatch, capsys, error, said
):
    monkeypatch.setattr(gradient_checkpointing, "plain_losses", failing(error, at=2))
    trainer = make_trainer(small_config(tiny_model, tmp_path))
    assert checkpoints(trainer)
    printed = capsys.readouterr().err
    assert said in printed and printed.count("gradient checkpointing: on") == 1
    assert trainer.step(0, 0.0).loss > 0


def test_a_model_without_checkpointing_trains_without_under_auto(
    tiny_model, tmp_path, monkeypatch, capsys
):
    def refuse(*_args, **_kwargs):
        raise ValueError("Llama does not support gradient checkpointing.")

    for name in ("activation_checkpointing_enable", "gradient_checkpointing_enable"):
        monkeypatch.setattr(PreTrainedModel, name, refuse, raising=False)
    monkeypatch.setattr(gradient_checkpointing, "free_bytes", lambda device: 1_000)
    assert not checkpoints(make_trainer(small_config(tiny_model, tmp_path)))
    assert "checkpointing: off, although a pass of" in capsys.readouterr().err
    config = small_config(tiny_model, tmp_path, optimisation={"gradient_checkpointing": True})
    with pytest.raises(HarnessError, match="does not support"):
        make_trainer(config)
