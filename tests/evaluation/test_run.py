"""An evaluation as a user asks for it, on a tiny model with an adapter that harness train made."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from harness.evaluation.run import run_job
from harness.evaluation.settings import EvalJob, EvalSettings
from harness.training.config import (
    AdapterConfig,
    DataConfig,
    EvaluationConfig,
    FormatsConfig,
    OptimisationConfig,
    TrainConfig,
)
from harness.training.start import train


@pytest.fixture
def adapter(tiny_model, tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in (("Hello?", "Hi."), ("One?", "1."), ("Two?", "2."))
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = TrainConfig(
        model=str(tiny_model),
        output_dir=str(tmp_path / "run"),
        dtype="float32",
        adapter=AdapterConfig(lora_r=2, lora_alpha=2),
        data=DataConfig(train=(str(tmp_path / "rows.jsonl"),)),
        formats=FormatsConfig(
            train=("common", "grammar:2:seed=0:split=train"), held_out=("llama3", "gemma3")
        ),
        optimisation=OptimisationConfig(num_train_epochs=1, per_device_train_batch_size=3),
        evaluation=EvaluationConfig(references=0, recall_rows=0),
    )
    return train(config, quiet=True)


def test_groups_follow_what_the_adapter_was_trained_in(tiny_model, adapter, tmp_path):
    job = EvalJob(
        model=str(tiny_model),
        adapter=str(adapter),
        formats=("llama3", "llama3.1", "zephyr", "chatml", "harmony"),
        limit=1,
        out=tmp_path / "out",
        dtype="float32",
        settings=EvalSettings(max_new_tokens=2),
    )
    groups = run_job(job, quiet=True).groups
    assert groups == {
        "chatml": "native",
        "zephyr": "seen",
        "harmony": "held-out",
        "llama3": "held-out",
        "llama3.1": "held-out",
    }


def test_an_untrained_model_has_no_seen_format(tiny_model, tmp_path):
    job = EvalJob(
        model=str(tiny_model),
        formats=("zephyr",),
        limit=1,
        out=tmp_path / "out",
        dtype="float32",
        settings=EvalSettings(max_new_tokens=2),
    )
    assert run_job(job, quiet=True).groups == {"chatml": "native", "zephyr": "held-out"}


def test_a_base_alone_brings_no_peft_and_no_noise(tiny_model, tmp_path):
    """In its own process: importing peft takes seconds, and may print of a missing kernel."""
    args = [
        "eval",
        str(tiny_model),
        "--formats",
        "chatml",
        "--limit",
        "1",
        "--max-new-tokens",
        "2",
        "--out",
        str(tmp_path),
    ]
    code = (
        f"import sys; from harness.cli.main import main; code = main({args!r});"
        " print('peft' in sys.modules); sys.exit(code)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.splitlines()[-1] == "False"
    assert not [line for line in told.stderr.splitlines() if not line.startswith("evaluate: ")], (
        told.stderr
    )


def test_settings_are_stored_under_the_names_of_older_baselines():
    assert EvalSettings(max_new_tokens=64, samples_per_case=3, budget="10%").as_dict() == {
        "max_new_tokens": 64,
        "seed": 0,
        "recall_examples": 100,
        "recall_continued": 32,
        "recall_formats": 4,
        "flips": False,
        "budget": "10%",
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,
        "draws": 3,
    }
