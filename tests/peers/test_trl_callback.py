"""A run of TRL's SFTTrainer with the callback writes our report, and trains as without it."""

from __future__ import annotations

import json

import pytest

import harness
from harness.report.document import read_report

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"Where is fox {n}?"},
            {"role": "assistant", "content": f"The fox {n} jumps over the lazy dog."},
        ]
    }
    for n in range(8)
]


def _train(tiny_model, folder, **settings):
    datasets = pytest.importorskip("datasets")
    trl = pytest.importorskip("trl")
    import torch
    from peft import LoraConfig

    torch.manual_seed(0)
    arguments = trl.SFTConfig(
        output_dir=str(folder),
        max_steps=4,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        logging_steps=2,
        report_to="none",
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = trl.SFTTrainer(
        str(tiny_model),
        arguments,
        train_dataset=datasets.Dataset.from_list(ROWS),
        peft_config=LoraConfig(r=2, lora_dropout=0.2, target_modules=["q_proj", "v_proj"]),
    )
    if settings:
        trainer.add_callback(harness.FormatCallback(trainer, **settings))
    trainer.train()
    weights = {
        key: value.clone() for key, value in trainer.model.state_dict().items() if "lora" in key
    }
    return trainer, weights


def test_a_run_of_trl_writes_our_report(tiny_model, tmp_path):
    import torch

    _, plain = _train(tiny_model, tmp_path / "plain")
    trainer, weights = _train(
        tiny_model,
        tmp_path / "measured",
        every=2,
        formats=["chatml", "alpaca-newline", "llama3"],
        limit=1,
        max_new_tokens=4,
        train=ROWS,
    )
    assert plain and all(torch.equal(value, weights[key]) for key, value in plain.items())
    report = read_report(tmp_path / "measured" / "formatproof" / "report.json")
    assert [run.label for run in report.runs] == ["step 0", "step 4"]
    assert len(report.runs[1].verdicts) == 3 and report.recall
    lines = (tmp_path / "measured" / "formatproof" / "measurements.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 2, 4]
    # TRL's own numbers are still there at every logged step
    own = [entry for entry in trainer.state.log_history if "mean_token_accuracy" in entry]
    assert [entry["step"] for entry in own if "loss" in entry] == [2, 4]
