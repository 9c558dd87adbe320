"""Rows laid end to end against rows alone: attention, losses, gradients, and what must be padded."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from harness.models import load
from harness.models.lora_forward import install_lean_lora, trains_lean
from harness.records import Encoded
from harness.training.config import AdapterConfig, OptimisationConfig
from harness.training.data.examples import Example
from harness.training.step import row_attention, row_packing
from harness.training.step.lora import add_adapter
from harness.training.step.loss import plain_losses
from harness.training.step.row_attention import Bounds, attend_rows
from harness.training.step.row_packing import PADDED, RowPacking, choose_packing, packing_rows
from harness.training.step.updater import Updater
from tests.device import chosen_device
from tests.factors import stir_factors
from tests.training.architectures import TEXT, build
from tests.training.small import make_trainer, small_config

LIMIT = 1 << 30


class Module(torch.nn.Module):
    is_causal = True


def exact(q, k, v, lengths, window):
    """Attention of each row by its scores, [1, tokens, heads, width]."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    rows = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    at = torch.arange(len(rows))
    sees = (rows[:, None] == rows) & (at[:, None] >= at) & (at[:, None] - at < (window or LIMIT))
    scores = (q @ k.transpose(-1, -2) * 0.3).masked_fill(~sees, float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2)


def attention_inputs(lengths, seed, heads=4, key_heads=2):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(1, count, sum(lengths), 8, generator=generator, requires_grad=True)
        for count in (heads, key_heads, key_heads)
    ]


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    window=st.integers(0, 10),
    seed=st.integers(0, 99),
)
def test_attention_is_that_of_each_row(lengths, window, seed):
    q, k, v = attention_inputs(lengths, seed)
    bounds = Bounds.of(lengths, "cpu")
    found, _ = attend_rows(
        Module(), q, k, v, None, scaling=0.3, sliding_window=window or None, row_bounds=bounds
    )
    expected = exact(q, k, v, lengths, window)
    assert torch.allclose(found, expected, atol=1e-6)
    weight = torch.linspace(-1, 1, found.numel()).view(found.shape)
    for ours, theirs in zip(
        torch.autograd.grad((found * weight).sum(), (q, k, v)),
        torch.autograd.grad((expected * weight).sum(), (q, k, v)),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert bounds.windows == ({window} if window else set())


@pytest.mark.parametrize("window", [0, 3])
def test_the_kernels_arguments_are_those_of_the_rows(monkeypatch, window):
    """The kernel of CUDA is replaced by one with the same contract, over [tokens, heads, width]."""
    lengths = [5, 2, 7]

    def kernel(q, k, v, starts, same, longest, also, dropout, causal, debug, **options):
        assert starts.tolist() == same.tolist() == [0, 5, 7, 14] and starts.dtype == torch.int32
        assert longest == also == 7 and causal and not dropout and not debug
        assert options.pop("scale") == 0.3
        assert options == (
            {"window_size_left": window - 1, "window_size_right": 0} if window else {}
        )
        assert all(x.is_contiguous() and x.shape[0] == 14 for x in (q, k, v))
        out = exact(*(x.transpose(0, 1).unsqueeze(0) for x in (q, k, v)), lengths, window)[0]
        return out, out.new_ones(2), out.new_ones(3), out.new_ones(4), None

    def kernel_back(grad, q, k, v, out, lse, starts, same, longest, also, *rest, **options):
        dropout, causal, state, unused = rest
        assert (len(lse), len(state), len(unused)) == (2, 3, 4)
        assert longest == also == 7 and causal and not dropout
        assert torch.are_deterministic_algorithms_enabled()
        with torch.enable_grad():
            copies = [x.detach().requires_grad_() for x in (q, k, v)]
            again, *_ = kernel(*copies, starts, same, longest, also, 0.0, True, False, **options)
            return torch.autograd.grad(again, copies, grad)

    monkeypatch.setattr(row_attention, "has_kernel", lambda *_: True)
    monkeypatch.setattr(row_attention, "_forward_kernel", lambda: kernel)
    monkeypatch.setattr(row_attention, "_backward_kernel", lambda: kernel_back)
    q, k, v = attention_inputs(lengths, 1)
    options = {"scaling": 0.3, "sliding_window": window or None}
    found, _ = attend_rows(Module(), q, k, v, None, **options, row_bounds=Bounds.of(lengths, "cpu"))
    assert torch.allclose(found, exact(q, k, v, lengths, window), atol=1e-6)
    ours = torch.autograd.grad(found.square().sum(), (q, k, v))
    theirs = torch.autograd.grad(exact(q, k, v, lengths, window).square().sum(), (q, k, v))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))
    assert not torch.are_deterministic_algorithms_enabled()


def make(name, folder, dtype="float32", **changes):
    """A tiny model with an adapter that changes its logits."""
    loaded = load(str(build(name, folder, **changes)), dtype=dtype, device=chosen_device())
    loaded.model = add_adapter(loaded, AdapterConfig(lora_r=4, lora_alpha=8), seed=0).eval()
    stir_factors(loaded.model)
    loaded.lean_lora = install_lean_lora(loaded.model)
    loaded.lean_training = loaded.lean_lora and trains_lean(loaded.model)
    return loaded


def rows_of(lengths, seed=0):
    draw = random.Random(seed)
    return [
        Example(
            "c",
            "f",
            Encoded(
                tuple(draw.randrange(3, 300) for _ in range(length)),
                tuple(at >= length // 2 for at in range(length)),
            ),
        )
        for length in lengths
    ]


def losses_and_gradient(loaded, batches):
    loaded.model.zero_grad()
    losses = [plain_losses(loaded, batch)[0] for batch in batches]
    torch.cat(losses).sum().backward()
    gradients = [w.grad.flatten() for w in loaded.model.parameters() if w.grad is not None]
    return torch.cat(losses).detach(), torch.cat(gradients)


#: Tiny models whose rows may lie end to end: one kind of attention each.
PACKED = {
    "llama": {},
    "gpt2": {},
    "phi": {},
    "qwen3_moe": {},
    "gemma4_text": {},
    "deepseek_v3": {},
    "gemma3": {},
}


@pytest.mark.parametrize("name", PACKED)
def test_losses_and_gradients_are_those_of_rows_alone(name, tmp_path):
    loaded = make(name, tmp_path / name)
    packing = choose_packing(loaded)
    assert packing.way == "bounds" and packing.longest > 40, str(packing)
    batch = rows_of([9, 24, 5, 24, 40])
    alone, expected = losses_and_gradient(loaded, [[row] for row in batch])
    with packing_rows(loaded, packing):
        together, found = losses_and_gradient(loaded, [batch])
    assert torch.allclose(together, alone, atol=1e-4)
    assert (found - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("name", ["phi", "qwen3_moe", "gemma3"])
def test_layers_that_are_computed_again_keep_rows_apart(name, tmp_path):
    loaded = make(name, tmp_path / name)
    batch = rows_of([9, 24, 5, 40])
    with packing_rows(loaded, choose_packing(loaded)):
        expected = losses_and_gradient(loaded, [batch])
        loaded.model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
        loaded.model.train()
        found = losses_and_gradient(loaded, [batch])
    assert loaded.packing is None
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_window_cuts_each_row_as_transformers_does(tmp_path):
    loaded = make("mistral3", tmp_path / "m", text_config={**WINDOWED, "sliding_window": 7})
    packing = choose_packing(loaded)
    assert packing == RowPacking("bounds")
    batch = rows_of([9, 24, 5, 40])
    alone, expected = losses_and_gradient(loaded, [[row] for row in batch])
    with packing_rows(loaded, packing):
        together, found = losses_and_gradient(loaded, [batch])
    assert torch.allclose(together, alone, atol=1e-4)
    assert (found - expected).norm() < 1e-4 * expected.norm()
    wide = make("mistral3", tmp_path / "w", text_config=WINDOWED)
    other, _ = losses_and_gradient(wide, [[row] for row in batch])
    assert not torch.allclose(other, alone, atol=1e-2), "the window matters"


WINDOWED = {**TEXT, "model_type": "mistral", "sliding_window": None}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("bloom", "it takes no positions"),
        ("mamba", "it has a state"),
        ("falcon_h1", "it has layers of hybrid"),
        ("gpt_oss", "raise NotImplementedError"),
        ("qwen3_next", "it has a state"),
    ],
)
def test_other_models_are_padded(name, why, tmp_path):
    loaded = make(name, tmp_path / name)
    packing = choose_packing(loaded)
    assert packing.way == "padding" and why in packing.why, str(packing)
    assert not packing.takes([3])


def test_the_probe_finds_rows_that_see_those_before_them(tiny, monkeypatch):
    def all_causal(query, key, value, bounds, scale, window, dropout):
        out = scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, enable_gqa=True
        )
        return out.transpose(1, 2)

    monkeypatch.setattr(row_attention, "_row_by_row", all_causal)
    packing = choose_packing(tiny)
    assert packing.way == "padding" and "differ from rows alone" in packing.why


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_probe_finds_a_state_that_no_configuration_names(tmp_path, monkeypatch, dtype):
    """Falcon-H1's state gives the next row so little that its logits are near those alone."""
    loaded = make("falcon_h1", tmp_path / "m", dtype)
    monkeypatch.setattr(row_packing, "_why_padded", lambda _: "")
    packing = choose_packing(loaded)
    assert packing.way == "padding" and "rows by bounds" in packing.why


@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "gemma3"])
def test_in_16_bits_rows_may_lie_end_to_end_too(name, tmp_path):
    assert choose_packing(make(name, tmp_path / name, "bfloat16")).way == "bounds"


def test_the_probe_finds_positions_that_go_on(tmp_path, monkeypatch):
    """GPT-2 learns each position; rotations would not show it."""
    loaded = make("gpt2", tmp_path / "m")
    monkeypatch.setattr(row_packing, "_positions", lambda rows: [torch.arange(sum(map(len, rows)))])
    packing = choose_packing(loaded)
    assert packing.way == "padding" and "differ from rows alone" in packing.why


def test_the_probe_leaves_the_model_as_it_was(tiny):
    names = [config._attn_implementation for config in [tiny.model.config]]
    tiny.model.train()
    tiny.model.model.layers[0].eval()
    assert choose_packing(tiny) == RowPacking("bounds")
    assert [config._attn_implementation for config in [tiny.model.config]] == names
    assert tiny.model.training and not tiny.model.model.layers[0].training
    assert tiny.packing is None


def test_a_window_that_no_layer_asks_for_limits_the_rows(tmp_path):
    """Llama 4 cuts keys by a mask over chunks, which this attention does not see."""
    loaded = make("llama4_text", tmp_path / "m", attention_chunk_size=300)
    packing = choose_packing(loaded)
    assert packing.way == "bounds" and packing.longest == 300
    assert packing.takes([300, 20]) and not packing.takes([301])


def test_a_step_is_one_pass_and_what_cannot_be_packed_is_padded(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.training.step.passes.pass_cost", lambda _: 48)
    loaded = make("phi", tmp_path / "m")
    config = OptimisationConfig(max_tokens_per_batch=200)
    updater = Updater(loaded, loaded.model, config)
    batch = rows_of([9, 24, 5, 24, 40])
    calls = []
    handle = loaded.model.get_base_model().model.register_forward_pre_hook(
        lambda _module, _args, kwargs: calls.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    updater.passes.packing = RowPacking("bounds")
    updater.step(batch, 1e-3)
    assert calls == [(1, sum(row.encoded.tokens_read for row in batch))]
    calls.clear()
    updater.passes.packing = RowPacking("bounds", longest=30)
    updater.step(batch, 1e-3)
    assert sorted(calls) == [(1, 39), (1, 58)], "the row of 40 tokens runs alone"
    assert loaded.model.config._attn_implementation != row_attention.NAME
    calls.clear()
    updater.passes.packing = PADDED
    updater.step(batch, 1e-3)
    assert sum(rows for rows, _ in calls) == len(batch)
    assert sum(rows * width for rows, width in calls) > sum(
        row.encoded.tokens_read for row in batch
    )
    handle.remove()


def test_dropout_decides_the_passes_in_any_mode(tiny_model, tmp_path):
    """A checkpoint is measured in evaluation mode, after which a resumed run begins as well."""
    for dropout in (0.0, 0.2):
        config = small_config(tiny_model, tmp_path, adapter={"lora_dropout": dropout})
        trainer = make_trainer(config)
        examples = trainer.examples(0)
        cuts = []
        for mode in (True, False):
            trainer.model.train(mode)
            cuts.append(trainer.updater.passes.cut(examples))
        assert cuts[0] == cuts[1]
        assert cuts[0][0].handwritten is (dropout == 0.0)
