"""How large passes are where the user does not say it, by a device with a made-up memory."""

from __future__ import annotations

import pytest
import torch

from harness.training.data.pass_sizes import PassSize
from harness.training.step import gradient_checkpointing, pass_budget
from harness.training.step.gradient_checkpointing import LARGEST_FRACTION, measure_growth
from harness.training.step.pass_budget import largest_that_fits, sizes_by_budget
from harness.training.step.passes import Passes
from tests.training.small import make_trainer, small_config
from tests.training.test_gradient_checkpointing import checkpoints, row

#: Twelve rows of 300 tokens: a step of 3600 tokens, which is one pass or up to four.
ROWS = [("fox " * 140, "over the lazy dog " * 9)] * 12


@pytest.fixture
def config(tiny_model, tmp_path):
    return small_config(
        tiny_model,
        tmp_path,
        rows=ROWS,
        formats=("chatml",),
        optimisation={"per_device_train_batch_size": 12, "num_train_epochs": 2},
    )


def with_memory(monkeypatch, amount):
    """Let the device look like a GPU with this many free bytes."""
    monkeypatch.setattr(pass_budget, "gains_by_size", lambda device: True)
    for module in (pass_budget, gradient_checkpointing):
        monkeypatch.setattr(module, "free_bytes", lambda device: amount)


def test_on_a_cpu_the_budget_is_the_usual(config, monkeypatch):
    trainer = make_trainer(config)
    assert trainer.updater.passes.budget == 2048
    assert not checkpoints(trainer)


def test_with_room_a_step_is_one_pass(config, monkeypatch):
    with_memory(monkeypatch, 1 << 40)
    trainer = make_trainer(config)
    assert len(trainer.updater.passes.cut(trainer.examples(0))) == 1
    assert not checkpoints(trainer)


def needed_for(config, budget):
    """Free bytes that passes of this budget just fit into."""
    trainer = make_trainer(config)
    growth = measure_growth(trainer.loaded, trainer.model)
    trainer.updater.passes.budget = budget
    sizes = trainer.updater.passes.sizes([trainer.examples(0)])
    return max(map(growth.bytes, sizes)) / LARGEST_FRACTION


def test_with_less_the_passes_are_as_large_as_fits(config, monkeypatch):
    needed = needed_for(config, 2048)
    with_memory(monkeypatch, needed + 100)
    trainer = make_trainer(config)
    assert trainer.updater.passes.budget == 2048
    assert not checkpoints(trainer)
    with_memory(monkeypatch, needed - 100)
    trainer = make_trainer(config)
    assert trainer.updater.passes.budget == 1024
    assert not checkpoints(trainer)


def test_below_the_least_activations_are_recomputed_in_larger_passes(config, monkeypatch, capsys):
    with_memory(monkeypatch, needed_for(config, 1024) - 100)
    trainer = make_trainer(config)
    assert checkpoints(trainer)
    assert "gradient checkpointing: on" in capsys.readouterr().err
    assert trainer.updater.passes.budget > 1024, "what is recomputed leaves room"


def test_a_size_that_is_set_stays(config, monkeypatch):
    from dataclasses import replace

    with_memory(monkeypatch, 1 << 40)
    chosen = replace(config, optimisation=replace(config.optimisation, max_tokens_per_batch=700))
    assert make_trainer(chosen).updater.passes.budget == 700


def test_a_probe_that_fails_leaves_small_passes(config, monkeypatch):
    with_memory(monkeypatch, 1 << 40)

    def fails(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(pass_budget, "measure_growth", fails)
    trainer = make_trainer(config)
    assert trainer.updater.passes.budget == 1024


def test_no_budget_exceeds_the_room():
    sizes = {
        1024: frozenset({PassSize(1000, 0, 0)}),
        2048: frozenset({PassSize(2000, 0, 0), PassSize(10, 0, 0)}),
        4096: frozenset({PassSize(3000, 0, 0)}),
    }
    for room, expected in (
        (9999, (4096, True)),
        (3000, (4096, True)),
        (2999, (2048, True)),
        (1999, (1024, True)),
        (999, (1024, False)),
    ):
        assert largest_that_fits(sizes, lambda size: size.tokens, room) == expected


def test_the_largest_budget_holds_the_largest_step(tiny):
    passes = Passes(tiny, 77, handwritten=False)
    steps = [[row(900, 5), row(800, 5)], [row(10, 4)]]
    found = sizes_by_budget(passes, steps)
    assert sorted(found) == [1024, 2048]
    assert {size.tokens for size in found[2048]} == {1700, 10}
    assert {size.tokens for size in found[1024]} == {900, 800, 10}
    assert passes.budget == 77
