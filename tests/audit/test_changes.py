"""What a change of the weights adds to an input: by the factors, and by what the model computes."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from harness.audit.changes import InputRecorder, adapter_changes, merge_changes  # noqa: E402
from harness.errors import HarnessError  # noqa: E402
from tests.audit.planted import adapted  # noqa: E402


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
    names = {id(layer): name for name, layer in tiny.model.named_modules()}
    found = {".".join(names[id(layer)].split(".")[-3:-1]) for layer in adapter_changes(tiny)}
    assert found == parts


def test_a_model_that_equals_its_base_is_refused(tiny):
    with pytest.raises(HarnessError, match="no linear layer differs from the base"):
        merge_changes(replace(tiny, model=copy.deepcopy(tiny.model)), tiny)


def test_another_models_base_is_refused(tiny):
    other = copy.deepcopy(tiny.model)
    other.model.layers[0].mlp.up_proj = torch.nn.Linear(3, 3, bias=False)
    with pytest.raises(HarnessError, match=r"layers\.0\.mlp\.up_proj differs in shape"):
        merge_changes(replace(tiny, model=other), tiny)


def test_a_layer_that_sees_some_of_the_passes_has_no_inputs(tiny):
    always, sometimes = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    recorder = InputRecorder([always, sometimes])
    rows = torch.randn(2, 1, 3, 4)
    for row in rows:
        always(row)
    sometimes(rows[0])
    found = recorder.close(2)
    assert list(found) == [always] and torch.equal(found[always], rows[:, 0, -1])
    assert not always._forward_hooks
