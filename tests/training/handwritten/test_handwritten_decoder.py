"""The hand-written decoder against transformers and peft, and the models it leaves to them."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from harness.models import LoadedModel, ModelSource
from harness.records import Encoded
from harness.training.data.examples import Example
from harness.training.step.handwritten import attention, head
from harness.training.step.handwritten.decoder import find_decoder
from harness.training.step.loss import handwritten, plain_losses, token_losses
from tests.device import chosen_device

CONFIGS = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
}
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Padder:
    pad_token_id = 0


def make(kind="llama", *, dtype="float32", lora=None, **changes):
    """A random model of three layers with a LoRA adapter that does something."""
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    config = CONFIGS[kind](**{**sizes, "head_dim": 8, "initializer_range": 0.2, **changes})
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    adapted = get_peft_model(
        model,
        LoraConfig(
            **{
                "r": 4,
                "lora_alpha": 6,
                "target_modules": list(ALL),
                "task_type": "CAUSAL_LM",
                **(lora or {}),
            }
        ),
    )
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    adapted.train().to(chosen_device())
    return LoadedModel(ModelSource("x", "", None, ""), adapted, Padder(), dtype, chosen_device())


def example(draw, length):
    """Random ids; the first is never trained, one at least is."""
    trained = [False] + [draw.random() < 0.5 for _ in range(length - 1)]
    trained[draw.randrange(1, length)] = True
    return Example(
        "c", "f", Encoded(tuple(draw.randrange(97) for _ in range(length)), tuple(trained))
    )


def batch(seed, lengths):
    draw = random.Random(seed)
    return [example(draw, length) for length in lengths]


def gradients(loaded, losses, rows):
    loaded.model.zero_grad()
    nll, correct = losses(loaded, rows)
    weights = torch.linspace(0.5, 2, len(nll), device=nll.device)  # tokens may weigh differently
    (nll * weights).sum().backward()
    return (
        nll.detach(),
        correct,
        {name: p.grad.clone() for name, p in loaded.model.named_parameters() if p.requires_grad},
    )


def assert_equal(loaded, rows, tolerance=2e-5):
    ours, right, ours_grad = gradients(loaded, token_losses, rows)
    theirs, expected, theirs_grad = gradients(loaded, plain_losses, rows)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    assert torch.equal(right, expected)
    scale = max(float(gradient.abs().max()) for gradient in theirs_grad.values())
    assert scale > 0
    for name, gradient in theirs_grad.items():
        assert torch.allclose(ours_grad[name], gradient, rtol=tolerance, atol=tolerance * scale), (
            name
        )


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2"])
def test_losses_and_gradients_are_those_of_transformers_and_peft(kind):
    loaded = make(kind)
    assert find_decoder(loaded, 40) is not None
    assert_equal(loaded, batch(1, [5, 33, 12, 34, 2]))


@settings(max_examples=15)
@given(st.integers(0, 1000), st.lists(st.integers(2, 30), min_size=1, max_size=7))
def test_any_lengths_and_any_supervised_tokens(seed, lengths):
    assert_equal(LOADED, batch(seed, lengths), 5e-5)


LOADED = make()


SHAPES = [
    {"tie_word_embeddings": True},
    {"num_key_value_heads": 4},
    {"num_key_value_heads": 1, "head_dim": 16},
    {"attention_bias": True, "mlp_bias": True},
    {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
    {"num_hidden_layers": 1},
]


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_other_shapes(changes):
    loaded = make(**changes)
    assert find_decoder(loaded, 40) is not None
    assert_equal(loaded, batch(2, [7, 21, 20]))


@pytest.mark.parametrize(
    "lora",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": ["down_proj"]},
        {"layers_to_transform": [1]},
        {"rank_pattern": {"k_proj": 2}, "alpha_pattern": {"up_proj": 20}},
        {"use_rslora": True},
    ],
    ids=str,
)
def test_other_adapters(lora):
    loaded = make(lora=lora)
    assert find_decoder(loaded, 40) is not None
    assert_equal(loaded, batch(3, [7, 21, 20]))


def test_long_rows_and_small_chunks(monkeypatch):
    """Probabilities computed again in the backward pass, scores and logits in parts."""
    monkeypatch.setattr(attention, "KEPT_WIDTH", 16)
    monkeypatch.setattr(attention, "STRIP", 7)
    monkeypatch.setattr(head, "CHUNK", 5)
    assert_equal(make(), batch(4, [30, 29, 8, 12]))


def soft_labels(seed, n, columns, vocabulary=97):
    """Random ones, of which some repeat a token, some name all, and some are the target alone."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocabulary, (n, columns), generator=draw)
    probabilities = torch.rand(n, columns, generator=draw) * 0.3
    rest, hard = torch.rand(n, generator=draw) * 0.5, torch.rand(n, generator=draw)
    ids[0], rest[1], hard[2] = ids[0, 0], 0.0, 0.0
    probabilities[3], rest[3] = 0.0, 0.0
    return head.SoftLabels(ids, probabilities, rest, hard)


def written_out(logits, targets, soft):
    """−Σ p log q − rest · log q(others) − hard · log q(target), by a loop in float64."""
    losses = []
    for row, target, ids, wanted, rest, hard in zip(
        logits.double(), targets, soft.ids, soft.probabilities, soft.rest, soft.hard, strict=True
    ):
        logq = torch.log_softmax(row, -1)
        others = torch.ones(len(row), dtype=torch.bool)
        others[ids] = False
        loss = -(wanted.double() * logq[ids]).sum() - hard.double() * logq[target]
        if rest > 0:
            loss = loss - rest.double() * logq[others].logsumexp(0)
        losses.append(loss)
    return torch.stack(losses)


@pytest.mark.parametrize(("chunk", "columns"), [(256, 5), (5, 5), (7, 1), (256, 130)])
def test_soft_labels_are_written_out_in_float64(chunk, columns, monkeypatch):
    monkeypatch.setattr(head, "CHUNK", chunk)
    norm = make(num_hidden_layers=1)
    norm = find_decoder(norm, 8).parts.norm
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(12, 32, generator=draw, requires_grad=True)
    weight = torch.randn(97, 32, generator=draw)
    targets = torch.randint(97, (12,), generator=draw)
    soft = soft_labels(chunk, 12, columns)
    if columns > 97:
        soft.rest.zero_()
    losses, correct = head.CrossEntropy.apply(x, norm, weight, targets, soft)
    scale = torch.linspace(0.5, 2, 12)
    (losses * scale).sum().backward()

    again = x.detach().double().requires_grad_()
    mean = again.pow(2).mean(-1, keepdim=True)
    logits = (again * (mean + norm.epsilon).rsqrt() * norm.weight.double()) @ weight.double().t()
    expected = written_out(logits, targets, soft)
    (expected * scale.double()).sum().backward()
    torch.testing.assert_close(losses.double(), expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad.double(), again.grad, rtol=1e-4, atol=1e-5)
    assert torch.equal(correct, logits.argmax(-1) == targets)


def test_a_soft_label_of_one_token_is_that_token():
    loaded = make()
    rows = batch(9, [12, 7])
    decoder, laid = handwritten(loaded, rows)
    n = len(laid.targets)
    one, none = torch.ones(n), torch.zeros(n)
    plain, _ = decoder.losses(laid)
    named, _ = decoder.losses(
        laid, head.SoftLabels(laid.targets.unsqueeze(1), one.unsqueeze(1), none, none)
    )
    alone, _ = decoder.losses(
        laid, head.SoftLabels(laid.targets.unsqueeze(1), none.unsqueeze(1), none, one)
    )
    torch.testing.assert_close(named, plain)
    torch.testing.assert_close(alone, plain)


def test_other_tokens_without_any_probability_give_a_finite_loss_and_gradient():
    norm = find_decoder(make(num_hidden_layers=1), 8).parts.norm
    x = torch.full((1, 32), 5.0, requires_grad=True)
    weight = torch.zeros(97, 32)
    weight[0] = 100.0
    soft = head.SoftLabels(
        torch.tensor([[0]]), torch.tensor([[0.5]]), torch.tensor([0.5]), torch.zeros(1)
    )
    losses, _ = head.CrossEntropy.apply(x, norm, weight, torch.tensor([0]), soft)
    losses.sum().backward()
    assert losses.isfinite().all() and x.grad.isfinite().all()


@pytest.mark.parametrize(("matmul_dtype", "share"), [("bfloat16", 1.3), ("float32", 0.7)])
def test_bfloat16_weights_train_as_near_to_float32_as_autocast_does(matmul_dtype, share):
    """In bfloat16 about as near, in float32 nearer: only the weights are rounded then."""
    rows = batch(6, [40, 33, 21, 40])
    truth = gradients(make(), plain_losses, rows)
    half = make(dtype="bfloat16")
    half.matmul_dtype = matmul_dtype
    assert find_decoder(half, 40).matmul_dtype == getattr(torch, matmul_dtype)

    def distance(found):
        far = sum(
            float((found[2][name] - gradient).norm() ** 2) for name, gradient in truth[2].items()
        )
        return float((found[0] - truth[0]).abs().mean()), (
            far / sum(float(gradient.norm() ** 2) for gradient in truth[2].values())
        ) ** 0.5

    ours, theirs = (
        distance(gradients(half, token_losses, rows)),
        distance(gradients(half, plain_losses, rows)),
    )
    assert ours[0] < share * theirs[0] + 1e-3 and ours[1] < share * theirs[1] + 1e-3, (ours, theirs)


def test_float32_products_of_bfloat16_weights_are_exact():
    """The same as a float32 model of the same weights, through transformers and peft."""
    rows = batch(8, [30, 12, 21])
    half, whole = make(dtype="bfloat16"), make()
    half.matmul_dtype = "float32"
    whole.model.load_state_dict(half.model.state_dict())
    ours, right, ours_grad = gradients(half, token_losses, rows)
    theirs, expected, theirs_grad = gradients(whole, plain_losses, rows)
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)
    assert torch.equal(right, expected)
    scale = max(float(gradient.abs().max()) for gradient in theirs_grad.values())
    for name, gradient in theirs_grad.items():
        assert torch.allclose(ours_grad[name], gradient, rtol=2e-5, atol=2e-5 * scale), name


@pytest.mark.parametrize(
    ("kind", "changes", "lora"),
    [
        ("qwen3", {}, {}),
        ("llama", {"hidden_act": "gelu"}, {}),
        ("llama", {"attention_dropout": 0.1}, {}),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            {},
        ),
        ("mistral", {"sliding_window": 8}, {}),
        ("llama", {}, {"lora_dropout": 0.1}),
        ("llama", {}, {"use_dora": True}),
        ("llama", {"attention_bias": True, "mlp_bias": True}, {"lora_bias": True}),
        ("llama", {"attention_bias": True}, {"bias": "lora_only"}),
        ("llama", {}, {"modules_to_save": ["lm_head"]}),
        ("llama", {}, {"target_modules": [*ALL, "lm_head"]}),
        ("llama", {}, {"target_modules": [*ALL, "embed_tokens"]}),
        ("llama", {}, {"trainable_token_indices": [3, 4]}),
    ],
    ids=str,
)
def test_what_is_not_plain_goes_through_peft(kind, changes, lora):
    loaded = make(kind, lora=lora, **changes)
    assert find_decoder(loaded, 20) is None
    nll, _ = token_losses(loaded, batch(7, [12, 20]))
    nll.sum().backward()
    assert all(
        p.grad is not None
        for name, p in loaded.model.named_parameters()
        if p.requires_grad and "lora_embedding_A" not in name
    )


def test_it_notices_what_changes_later():
    loaded = make()
    assert find_decoder(loaded, 20) is not None
    with loaded.model.disable_adapter():
        assert find_decoder(loaded, 20) is None
    loaded.model.model.model.layers[1].gradient_checkpointing = True
    assert find_decoder(loaded, 20).recompute
    loaded.model.model.model.layers[1].gradient_checkpointing = False
    handle = loaded.model.model.model.layers[1].self_attn.q_proj.register_forward_hook(
        lambda *a: None
    )
    assert find_decoder(loaded, 20) is None
    handle.remove()
    loaded.model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"]))
    loaded.model.base_model.set_adapter(["default", "second"])
    assert find_decoder(loaded, 20) is None
