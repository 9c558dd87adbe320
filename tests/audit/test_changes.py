"""What a change of the weights adds to an input: by the factors, and by what the model computes."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from harness.audit.changes import (  # noqa: E402
    InputRecorder,
    adapter_changes,
    merge_changes,
    outside_attention,
)
from harness.errors import HarnessError  # noqa: E402
from harness.models import load  # noqa: E402
from tests.audit.planted import adapted  # noqa: E402
from tests.device import chosen_device  # noqa: E402
from tests.tiny import build_model  # noqa: E402
from tests.zoo.models import build  # noqa: E402


def test_what_an_adapter_adds_is_the_difference_of_the_layers_outputs(tiny):
    adapted(tiny, seed=3)
    layer = tiny.base.model.layers[0].mlp.up_proj
    change = adapter_changes(tiny)[layer.base_layer]
    x = torch.randn(5, layer.base_layer.in_features)
    expected = (layer(x) - layer.base_layer(x)).square().sum(-1)
    assert torch.allclose(change.added(x), expected, rtol=1e-4)


def test_a_merge_adds_what_its_adapter_did(tiny):
    base = replace(tiny, model=copy.deepcopy(tiny.model))
    adapted(tiny, seed=3)
    factors = list(adapter_changes(tiny).values())
    merged = replace(tiny, model=tiny.model.merge_and_unload())
    found = merge_changes(merged, base)
    assert len(found) == len(factors)
    for (layer, dense), low_rank in zip(found.items(), factors, strict=True):
        x = torch.randn(5, layer.in_features)
        assert torch.allclose(dense.added(x), low_rank.added(x), rtol=1e-3)


@pytest.mark.parametrize(
    ("targets", "parts"),
    [
        (["q_proj", "down_proj"], {"mlp.down_proj"}),
        (["q_proj", "v_proj"], {"self_attn.q_proj", "self_attn.v_proj"}),
    ],
)
def test_layers_outside_attention_count_where_there_are_any(tiny, targets, parts):
    adapted(tiny, seed=3, targets=targets)
    names = {id(layer): name for name, layer in tiny.base.named_modules()}
    changes = adapter_changes(tiny)
    assert len(changes) == 2 * len(targets)
    found = outside_attention(tiny, changes)
    assert {".".join(names[id(layer)].split(".")[-3:-1]) for layer in found} == parts


@pytest.mark.parametrize("attention", ["attn.c_proj", "self_attn.q_proj", "attention.dense"])
def test_attention_is_known_by_the_names_that_architectures_give_it(attention):
    whole, part = attention.split(".")
    model = torch.nn.ModuleDict(
        {whole: torch.nn.ModuleDict({part: torch.nn.Linear(2, 2)}), "mlp": torch.nn.Linear(2, 2)}
    )
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    assert outside_attention(SimpleNamespace(base=model), layers) == [model["mlp"]]
    assert outside_attention(SimpleNamespace(base=model), layers[:1]) == layers[:1]


def test_a_model_that_equals_its_base_is_refused(tiny):
    with pytest.raises(HarnessError, match="no linear layer differs from the base"):
        merge_changes(replace(tiny, model=copy.deepcopy(tiny.model)), tiny)


def test_another_models_base_is_refused(tiny):
    other = copy.deepcopy(tiny.model)
    other.model.layers[0].mlp.up_proj = torch.nn.Linear(3, 3, bias=False)
    with pytest.raises(HarnessError, match=r"layers\.0\.mlp\.up_proj differs in shape"):
        merge_changes(replace(tiny, model=other), tiny)


def test_a_base_with_more_or_fewer_layers_is_refused(tiny, tmp_path):
    build_model(tmp_path / "deep", num_hidden_layers=3)
    deep = load(str(tmp_path / "deep"), dtype="float32", device=tiny.device)
    for merged, base in ((deep, tiny), (tiny, deep)):
        with pytest.raises(HarnessError, match=r"layers\.2\.self_attn\.q_proj differs in shape"):
            merge_changes(merged, base)


def test_a_base_of_unrelated_weights_is_refused_and_a_large_change_is_not(tiny):
    def with_noise(part, seed=0):
        other = copy.deepcopy(tiny.model)
        generator = torch.Generator().manual_seed(seed)
        for weight in other.parameters():
            noise = torch.randn(weight.shape, generator=generator).to(weight.device)
            weight.data = (1 - part) * weight + part * noise * weight.square().mean().sqrt()
        return replace(tiny, model=other)

    assert merge_changes(with_noise(0.65), tiny), "|W′ − W|² is 0.85 of |W|²"
    for part in (0.75, 1.0):  # 1.1 and 2
        with pytest.raises(HarnessError, match="their weights have nothing in common"):
            merge_changes(with_noise(part), tiny)


def test_an_adapter_that_was_not_trained_is_refused(tiny):
    adapted(tiny, seed=3)
    for name, weight in tiny.model.named_parameters():
        if "lora_B" in name:
            weight.data.zero_()
    with pytest.raises(HarnessError, match="the adapter changes no linear layer — nothing was"):
        adapter_changes(tiny)


def test_the_output_embedding_counts_in_neither(tmp_path):
    build_model(tmp_path, tie_word_embeddings=False)
    tiny = load(str(tmp_path), dtype="float32", device=chosen_device())
    base = replace(tiny, model=copy.deepcopy(tiny.model))
    adapted(tiny, seed=3, targets=["q_proj", "lm_head"])
    assert len(adapter_changes(tiny)) == 2
    merged = copy.deepcopy(base.model)
    merged.lm_head.weight.data += 1
    merged.model.layers[0].mlp.up_proj.weight.data += 0.001
    assert list(merge_changes(replace(base, model=merged), base)) == [
        base.model.model.layers[0].mlp.up_proj
    ]


def test_the_layers_of_gpt2_which_store_the_transpose_are_compared(tmp_path):
    build("gpt2", tmp_path)
    base, merged = (load(str(tmp_path), dtype="float32", device=chosen_device()) for _ in range(2))
    layer = merged.model.transformer.h[1].mlp.c_fc
    layer.weight.data += 0.1 * torch.randn_like(layer.weight)
    [(found, change)] = merge_changes(merged, base).items()
    x = torch.randn(5, layer.nx, device=layer.weight.device)
    assert found is base.model.transformer.h[1].mlp.c_fc
    expected = (layer(x) - found(x)).square().sum(-1)
    assert torch.allclose(change.added(x), expected, rtol=1e-3)


def test_a_layer_that_sees_some_of_the_passes_or_tokens_has_no_inputs(tiny):
    always, flat, sometimes, in_part = (torch.nn.Linear(4, 4) for _ in range(4))
    recorder = InputRecorder([always, flat, sometimes, in_part])
    rows = torch.randn(2, 1, 3, 4)
    for row in rows:
        always(row)
        flat(row[0])
        in_part(row[0, :2])
    sometimes(rows[0])
    found = recorder.close([3, 3])
    assert list(found) == [always, flat]
    assert all(torch.equal(x, rows[:, 0, -1]) for x in found.values())
    assert not always._forward_hooks
