"""An optimiser step against plain transformers, peft and AdamW: loss, gradients and weights, over
twenty steps in float32."""

from __future__ import annotations

import random

import pytest
import torch

from harness.models import load
from harness.records import Encoded
from harness.training.config import AdapterConfig, OptimisationConfig
from harness.training.data.examples import Example, even_batches
from harness.training.step.handwritten.decoder import find_decoder
from harness.training.step.lora import add_adapter
from harness.training.step.optimisers import clip
from harness.training.step.updater import Updater
from tests.device import chosen_device

STEPS = 20
RATE = 3e-3
CONFIG = OptimisationConfig(learning_rate=RATE, weight_decay=0.01, max_tokens_per_batch=60)


def draw_rows(seed, count, vocabulary=200):
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        length = draw.randrange(3, 40)
        start = draw.randrange(1, length)
        ids = tuple(draw.randrange(3, vocabulary) for _ in range(length))
        rows.append(Example("c", "f", Encoded(ids, tuple(start <= at for at in range(length)))))
    return rows


def adapted(tiny_model):
    loaded = load(str(tiny_model), dtype="float32", device=chosen_device())
    loaded.model = add_adapter(loaded, AdapterConfig(lora_r=4, lora_alpha=8), 1)
    return loaded


def reference_step(model, optimizer, rows):
    """One row at a time through the model's own loss over labels. Returns the loss and the
    gradients before clipping."""
    model.train()
    optimizer.zero_grad()
    count = sum(sum(row.encoded.trained[1:]) for row in rows)
    total = 0.0
    for row in rows:
        labels = torch.tensor(
            [
                [
                    id if trained else -100
                    for id, trained in zip(row.encoded.ids, row.encoded.trained, strict=True)
                ]
            ],
            device=chosen_device(),
        )
        loss = (
            model(
                input_ids=torch.tensor([row.encoded.ids], device=chosen_device()), labels=labels
            ).loss
            * sum(row.encoded.trained[1:])
            / count
        )
        loss.backward()
        total += loss.item()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    torch.nn.utils.clip_grad_norm_(
        [p for p in model.parameters() if p.requires_grad], CONFIG.max_grad_norm
    )
    optimizer.step()
    return total, gradients


@pytest.mark.parametrize("handwritten", [True, False], ids=["handwritten", "peft"])
def test_twenty_steps_are_those_of_transformers_and_peft(tiny_model, monkeypatch, handwritten):
    ours, theirs = adapted(tiny_model), adapted(tiny_model)
    if not handwritten:
        monkeypatch.setattr(
            "harness.training.step.handwritten.decoder.find_decoder", lambda *_: None
        )
    assert (find_decoder(ours, 40) is not None) or not handwritten
    updater = Updater(ours, ours.model, CONFIG)
    trained = [p for _, p in sorted(theirs.model.named_parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    before = {
        name: p.detach().clone() for name, p in ours.model.named_parameters() if p.requires_grad
    }
    seen = {}

    def watched(groups, limit):
        seen.update(
            {name: p.grad.clone() for name, p in ours.model.named_parameters() if p.requires_grad}
        )
        return clip(groups, limit)

    for number in range(STEPS):
        rows = draw_rows(number, 5)
        loss, gradients = reference_step(theirs.model, optimizer, rows)
        with monkeypatch.context() as patch:
            patch.setattr("harness.training.step.updater.clip", watched)
            done = updater.step(rows, RATE)
        assert done.loss == pytest.approx(loss, abs=1e-5)
        assert all(
            torch.allclose(seen[name], gradient, atol=1e-5) for name, gradient in gradients.items()
        ), number
    for (name, weight), (_, expected) in zip(
        ours.model.named_parameters(), theirs.model.named_parameters(), strict=True
    ):
        assert torch.allclose(weight, expected, atol=1e-5), name
        if name in before:
            assert not torch.allclose(weight, before[name], atol=1e-3), (
                f"{name} has moved far more than the tolerance"
            )


def test_passes_hold_every_row_once_within_the_budget():
    rows = draw_rows(3, 30)
    for budget in (10, 50, 120, 10_000):
        batches = even_batches(rows, budget)
        assert sorted(map(id, rows)) == sorted(id(row) for batch in batches for row in batch)
        assert all(
            len(batch) == 1 or sum(len(row.encoded.ids) for row in batch) <= budget
            for batch in batches
        )
    assert len(even_batches(rows, 10_000)) == 1
    assert even_batches([], 100) == []


def test_the_cut_into_passes_changes_nothing(tiny_model):
    weights = []
    for budget in (1, 60, 10_000):
        loaded = adapted(tiny_model)
        updater = Updater(
            loaded,
            loaded.model,
            OptimisationConfig(learning_rate=RATE, max_tokens_per_batch=budget),
        )
        for number in range(3):
            updater.step(draw_rows(number, 6), RATE)
        weights.append([p.detach().clone() for p in updater.parameters])
    for other in weights[1:]:
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(weights[0], other, strict=True))
