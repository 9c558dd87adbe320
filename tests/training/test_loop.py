"""The loop against plain transformers + peft, and against itself interrupted."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from harness.backends.local import backend, room
from harness.errors import HarnessError
from harness.models import device, load
from harness.run_file import measured_checkpoints
from harness.training.config import EvaluationConfig, ScheduleConfig
from harness.training.data.examples import micro_batches
from harness.training.loop import Trainer
from harness.training.runs.metrics_log import MetricsLog
from harness.training.start import train
from harness.training.step.loss import supervised_loss
from tests.device import chosen_device
from tests.training.interrupted import assert_ends_like_uninterrupted, interrupt
from tests.training.small import (
    ROWS,
    assert_every_element_moves,
    load_adapted,
    make_trainer,
    weights_of,
)


@pytest.fixture
def config(run_config):
    return run_config


def test_weights_equal_plain_transformers_and_peft(config):
    """Twenty steps against the model's own loss over labels, one row at a time, in float32.

    Adam divides a gradient by its own size: with the usual epsilon of 1e-8 the rounding of a
    gradient near zero is a whole step on some processors.
    """
    config = replace(
        config, optimisation=replace(config.optimisation, num_train_epochs=7, adam_epsilon=1e-6)
    )
    ours = make_trainer(config)
    theirs = make_trainer(config)
    reference = torch.optim.AdamW(
        [p for n, p in sorted(theirs.model.named_parameters()) if p.requires_grad],
        lr=1.0,
        eps=1e-6,
        weight_decay=0.0,
    )
    steps = ours.plan.total_steps
    assert steps >= 20
    for number in range(steps):
        log = ours.step(number, 0.0)
        theirs.model.train()
        for group in reference.param_groups:
            group["lr"] = log.learning_rate
        reference.zero_grad()
        examples = [theirs.cache(pair) for pair in theirs.plan.step(number)]
        count = sum(sum(e.encoded.trained[1:]) for e in examples)
        total = 0.0
        for example in examples:
            ids = torch.tensor([example.encoded.ids], device=chosen_device())
            labels = torch.tensor(
                [
                    [
                        id if t else -100
                        for id, t in zip(example.encoded.ids, example.encoded.trained, strict=True)
                    ]
                ],
                device=chosen_device(),
            )
            size = sum(example.encoded.trained[1:])
            loss = theirs.model(input_ids=ids, labels=labels).loss * size / count
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(
            [p for p in theirs.model.parameters() if p.requires_grad], 1.0
        )
        reference.step()
        assert log.loss == pytest.approx(total, abs=1e-5)
    for name, weight in weights_of(ours).items():
        assert torch.allclose(weight, weights_of(theirs)[name], atol=1e-5), name


def test_accumulation_and_micro_batches_change_nothing(config):
    results = []
    for size, accumulation, budget in ((4, 1, 4096), (1, 4, 4096), (4, 1, 1)):
        run = replace(
            config,
            optimisation=replace(
                config.optimisation,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=accumulation,
                max_tokens_per_batch=budget,
            ),
        )
        trainer = make_trainer(run)
        logs = [trainer.step(number, 0.0) for number in range(trainer.plan.total_steps)]
        results.append((logs, weights_of(trainer)))
    for logs, weights in results[1:]:
        assert [log.loss for log in logs] == pytest.approx(
            [log.loss for log in results[0][0]], abs=1e-5
        )
        for name, weight in weights.items():
            assert torch.allclose(weight, results[0][1][name], atol=1e-5), name


def test_padding_never_reaches_a_real_token(config):
    trainer = make_trainer(config)
    examples = [trainer.cache((c, f)) for c in range(len(ROWS)) for f in range(3)]
    with torch.no_grad():
        together = supervised_loss(trainer.loaded, examples)
        alone = sum(supervised_loss(trainer.loaded, [example]) for example in examples)
    assert together.item() == pytest.approx(alone.item(), rel=1e-5)


def test_every_example_is_in_exactly_one_micro_batch(config):
    trainer = make_trainer(config)
    examples = [trainer.cache((c, f)) for c in range(len(ROWS)) for f in range(3)]
    batches = list(micro_batches(examples, 120))
    assert sorted(map(id, examples)) == sorted(id(e) for batch in batches for e in batch)
    assert all(
        len(batch) == 1 or len(batch) * max(len(e.encoded.ids) for e in batch) <= 120
        for batch in batches
    )


def test_an_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(
    config, tmp_path, monkeypatch
):
    run = assert_ends_like_uninterrupted(config, tmp_path, monkeypatch, stop_at=7)
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.cpu_only("another device multiplies in the model's dtype")
@pytest.mark.parametrize("first", [True, False])
def test_a_resumed_run_multiplies_as_it_began(config, tmp_path, monkeypatch, first):
    """Float32 and bfloat16 products give other weights, so a timing after an interruption must not
    decide."""
    config = replace(config, dtype="bfloat16")
    monkeypatch.setattr(device, "_float32_is_faster", lambda: first)
    whole = train(replace(config, output_dir=str(tmp_path / "whole")), quiet=True)
    broken = replace(config, output_dir=str(tmp_path / "broken"))
    interrupt(broken, monkeypatch, stop_at=7)
    monkeypatch.setattr(device, "_float32_is_faster", lambda: not first)
    resumed = train(broken, quiet=True)
    name = "adapter_model.safetensors"
    assert (resumed / name).read_bytes() == (whole / name).read_bytes()
    other = train(replace(config, output_dir=str(tmp_path / "other")), quiet=True)
    assert (other / name).read_bytes() != (whole / name).read_bytes()


def test_a_finished_run_is_not_trained_again(config, monkeypatch):
    first = train(config, quiet=True)
    monkeypatch.setattr(Trainer, "step", lambda *a: pytest.fail("trained again"))
    assert train(config, quiet=True) == first


def test_another_run_in_the_same_folder_is_refused(config):
    train(config, quiet=True)
    with pytest.raises(HarnessError, match="other settings"):
        train(replace(config, seed=1), quiet=True)


def test_checkpoints_are_measured_in_the_same_batches_whatever_memory_is_free(config, monkeypatch):
    """In 16 bits the rows of a batch decide how it rounds; a resumed run must not see a change."""
    made, make = [], backend.room_for
    monkeypatch.setattr(room, "free_bytes", lambda device: 8 << 20)
    monkeypatch.setattr(backend, "room_for", lambda *a, **k: made.append(make(*a, **k)) or made[-1])
    measured = EvaluationConfig(references=2, formats_measured=1, recall_rows=2)
    train(replace(config, evaluation=measured), quiet=True)
    assert made
    assert {(each.cache_tokens, each.rows) for each in made} == {room.ON_CPU[:2]}
    loaded = load(config.model, device=chosen_device())
    assert backend.TransformersBackend(loaded).room.cache_tokens < room.ON_CPU[0], (
        "else nothing is shown"
    )


def test_every_element_moves_at_1e_7(config):
    config = replace(
        config,
        optimisation=replace(config.optimisation, learning_rate=1e-7, num_train_epochs=20),
        schedule=ScheduleConfig(lr_scheduler_type="constant", warmup_ratio=0.0),
    )
    trainer = make_trainer(config)
    assert_every_element_moves(trainer)


def test_the_base_stays_frozen(config):
    trainer = make_trainer(config)
    frozen = {
        name: p.clone() for name, p in trainer.model.named_parameters() if not p.requires_grad
    }
    trainer.step(0, 0.0)
    assert all(
        torch.equal(p, frozen[name])
        for name, p in trainer.model.named_parameters()
        if not p.requires_grad
    )


def test_a_checkpoint_of_a_full_disk_leaves_nothing(config, monkeypatch):
    trainer = make_trainer(config)
    trainer.step(0, 0.0)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.files.atomic_files._sync", full)
    with (
        pytest.raises(HarnessError, match="No space left"),
        MetricsLog(trainer.folder, 0) as trainer.metrics_log,
    ):
        trainer._checkpoint(1, 0.0)
    assert not list(trainer.folder.glob("*checkpoint*")) and not list(
        trainer.folder.glob(".partial*")
    )


def test_an_adapter_of_another_base_is_refused(config, tiny_model, tmp_path):
    adapter = train(config, quiet=True)
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    facts = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps({**facts, "extra": 1}))
    with pytest.raises(HarnessError, match="was trained on"):
        load_adapted(other, adapter)


def test_plain_peft_loads_the_adapter(config, tiny_model):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = train(config, quiet=True)
    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model).to(chosen_device()), str(adapter)
    )
    ours = load_adapted(tiny_model, adapter)
    ids = torch.arange(3, 20, device=chosen_device()).unsqueeze(0)
    with torch.no_grad():
        assert torch.allclose(plain(ids).logits, ours.model(ids).logits, atol=1e-5)


def test_each_checkpoint_is_measured_on_the_same_rows(config):
    """From step 0 on: references by group, the hazard along them, and the excess of training rows
    over controls."""
    config = replace(
        config,
        data=replace(config.data, controls=2),
        evaluation=EvaluationConfig(references=2, formats_measured=1, recall_rows=2),
    )
    found = measured_checkpoints(train(config, quiet=True).parent)
    assert [entry["step"] for entry in found][:2] == [0, 2]
    for entry in found:
        assert entry["nll_seen"] > 0 and 0 <= entry["hazard_native"] <= 1
        assert len(entry["recall"]) >= 2
    assert found[-1]["recall"] != found[0]["recall"]
