"""The callback measures the model in memory as ``harness eval`` measures what was saved, and leaves
the training bit for bit as it is without it."""

from __future__ import annotations

import contextlib
import json

import pytest

import harness
from harness.errors import HarnessError
from harness.report.document import read_report

pytestmark = pytest.mark.filterwarnings("ignore")
CASES = [
    {
        "id": "capital",
        "messages": [{"role": "user", "content": "Capital of Norway?"}],
        "choices": ["Oslo", "Rome"],
        "answer": 0,
    },
    {
        "id": "check",
        "messages": [{"role": "user", "content": "Name the capital."}],
        "checks": [{"contains": ["Oslo"]}],
    },
]
ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"Where is fox {n}?"},
            {"role": "assistant", "content": f"The fox {n} jumps over the lazy dog."},
        ]
    }
    for n in range(6)
]
HIDDEN = [
    {
        "messages": [
            {"role": "user", "content": f"Where is dog {n}?"},
            {"role": "assistant", "content": f"A brown dog {n} sleeps by the quick river."},
        ]
    }
    for n in range(6)
]


@pytest.fixture
def train(tiny_model, tmp_path):
    """Train a LoRA adapter with dropout by transformers' Trainer, with a callback or without."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

    cases = tmp_path / "cases.jsonl"
    cases.write_text("".join(json.dumps(case) + "\n" for case in CASES))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    texts = [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in ROWS]
    ids = [tokenizer(text, padding="max_length", max_length=64)["input_ids"] for text in texts]
    data = [{"input_ids": each[:64], "labels": each[:64]} for each in ids]

    def train(name, *, evaluate=False, **settings):
        torch.manual_seed(0)
        config = LoraConfig(
            r=2, lora_dropout=0.3, target_modules=["q_proj", "v_proj"], init_lora_weights=False
        )
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config)
        arguments = TrainingArguments(
            output_dir=str(tmp_path / name),
            max_steps=4,
            per_device_train_batch_size=2,
            learning_rate=1e-2,
            logging_steps=1,
            report_to="none",
            use_cpu=True,
            seed=3,
            save_strategy="no",
            eval_strategy="steps" if evaluate else "no",
            eval_steps=2,
            disable_tqdm=True,
        )
        trainer = Trainer(
            model, arguments, train_dataset=data, eval_dataset=data, processing_class=tokenizer
        )
        callback = None
        if settings:
            usual = {"formats": ["chatml", "alpaca-newline"], "cases": [cases]}
            callback = harness.FormatCallback(trainer, **usual, max_new_tokens=4, **settings)
            trainer.add_callback(callback)
        trainer.train()
        weights = {key: value.clone() for key, value in model.state_dict().items()}
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return trainer, callback, weights, losses

    return train


def _equal(one, other):
    import torch

    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def drawing(monkeypatch):
    """Each measurement draws from the global generators, and dropout draws from the same."""
    import random

    import numpy as np
    import torch

    from harness.training import callback

    def run_job(*args, **kwargs):
        random.random(), np.random.rand(), torch.rand(3)
        return real(*args, **kwargs)

    real = callback.run_job
    monkeypatch.setattr(callback, "run_job", run_job)


def test_training_is_the_same_with_and_without_it(train, drawing):
    _, _, weights, losses = train("plain")
    _, _, measured, measured_losses = train("measured", every=1)
    assert losses == measured_losses and len(losses) == 4
    assert _equal(weights, measured)


def test_training_would_differ_if_nothing_was_put_back(train, drawing, monkeypatch):
    """The control of the test above."""
    _, _, weights, _ = train("plain")
    monkeypatch.setattr(
        "harness.training.callback._as_it_was", lambda _model: contextlib.nullcontext()
    )
    _, _, measured, _ = train("measured", every=2)
    assert not _equal(weights, measured)


def test_every_module_gets_its_mode_back():
    import torch

    from harness.training.callback import _as_it_was

    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(2, 2))
    model[1].eval()
    with _as_it_was(model):
        model.eval()
    assert [module.training for module in model.modules()] == [True, True, False]


def test_it_measures_what_is_saved(train, tiny_model, tmp_path):
    """The last measurement of the model in memory equals that of the adapter on disk."""
    trainer, callback, _, _ = train("run", every=2)
    trainer.save_model(str(tmp_path / "adapter"))
    cases = [str(tmp_path / "cases.jsonl")]
    saved = harness.evaluate(
        tiny_model,
        adapter=tmp_path / "adapter",
        formats=["chatml", "alpaca-newline"],
        cases=cases,
        dtype="float32",
        max_new_tokens=4,
    ).evaluation
    here = callback.evaluations[-1]
    numbers = {(a.format, a.metric): a.mean for a in saved.aggregates}
    assert {(a.format, a.metric) for a in here.aggregates} == set(numbers)
    for each in here.aggregates:
        assert each.mean == pytest.approx(numbers[each.format, each.metric], abs=1e-4)
    first = callback.evaluations[0]
    pairs = zip(first.aggregates, here.aggregates, strict=True)
    assert any(one.mean != other.mean for one, other in pairs)  # there is something to see


def test_log_file_and_report(train, tmp_path):
    trainer, _, _, _ = train("run", every=2, train=ROWS, controls=HIDDEN)
    folder = tmp_path / "run" / "formatproof"
    lines = [json.loads(line) for line in (folder / "measurements.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2, 4]
    logged = [
        entry
        for entry in trainer.state.log_history
        if any(key.startswith("formatproof/") for key in entry)
    ]
    assert [entry["step"] for entry in logged] == [0, 2, 4]
    assert sum(value for key, value in lines[0].items() if key.startswith("formats_")) == 2
    report = read_report(folder / "report.json")
    assert [run.label for run in report.runs] == ["step 0", "step 4"]
    assert report.recall and (folder / "report.html").is_file()
    assert any(row.run == "step 4" and row.excess is not None for row in report.recall)


def test_it_measures_when_the_trainer_evaluates(train, tmp_path):
    train("run", evaluate=True, every=0)
    text = (tmp_path / "run" / "formatproof" / "measurements.jsonl").read_text()
    assert [json.loads(line)["step"] for line in text.splitlines()] == [0, 2, 4]


def test_it_needs_a_fast_tokenizer(train):
    trainer, _, _, _ = train("plain")
    trainer.processing_class = None
    with pytest.raises(HarnessError, match="fast tokenizer"):
        harness.FormatCallback(trainer)
