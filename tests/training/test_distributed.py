"""Two gloo processes against one, and how a step is split."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from harness.records import Encoded
from harness.training.data.examples import Example
from harness.training.step.distributed import Ranks, join_ranks, split_by_tokens
from tests.training.small import write_rows


def examples(lengths):
    return [
        Example(str(at), "f", Encoded((1,) * n, (False,) + (True,) * (n - 1)))
        for at, n in enumerate(lengths)
    ]


@given(st.lists(st.integers(2, 400), max_size=20), st.integers(1, 6))
def test_each_example_goes_to_one_process_and_none_has_a_whole_row_too_much(lengths, count):
    parts = split_by_tokens(examples(lengths), count)
    assert len(parts) == count
    assert sorted(e.conversation for part in parts for e in part) == sorted(
        str(at) for at in range(len(lengths))
    )
    loads = [sum(len(e.encoded.ids) for e in part) for part in parts]
    assert max(loads) - min(loads) <= max(lengths, default=0)


def test_without_torchrun_a_process_leads_itself(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_ranks() == Ranks(0, 1) and join_ranks().is_main
    rows = examples([3, 4])
    assert Ranks().scatter(rows, 5, []) == tuple(rows)
    assert Ranks().reduce([], 1.5) == [1.5]


CONFIG = """
model = {model}
output_dir = {out}
dtype = "float32"
[adapter]
lora_r = 4
[data]
train = [{data}]
[formats]
train = ["chatml", "alpaca-newline"]
[optimisation]
learning_rate = 1e-2
num_train_epochs = 4
per_device_train_batch_size = 3
[evaluation]
references = 0
recall_rows = 0
[checkpoints]
save_steps = 3
"""


def run(tmp_path, model, name, *launcher):
    questions = [
        ("fox?", "over the lazy dog"),
        ("dog", "the brown fox jumps over it and jumps again"),
        ("capital?", "Oslo."),
        ("who?", "lazy"),
        ("a", "b"),
    ]
    rows = write_rows(tmp_path, questions)
    out = tmp_path / name
    config = tmp_path / f"{name}.toml"
    config.write_text(
        CONFIG.format(
            model=json.dumps(str(model)), out=json.dumps(str(out)), data=json.dumps(str(rows))
        )
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "harness", "train", str(config)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.mark.cpu_only("NCCL wants a card for each process")
@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path, tiny_model):
    """The last step of an epoch has two rows for two processes, the others three; one row trains a
    single token."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    alone, _ = run(tmp_path, tiny_model, "alone")
    both, printed = run(tmp_path, tiny_model, "both", *launcher)
    assert printed.count("adapter:") == 1, "only the leader speaks"
    logs = [
        [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        for out in (alone, both)
    ]
    assert (
        [entry["step"] for entry in logs[1]]
        == [entry["step"] for entry in logs[0]]
        == list(range(1, 9))
    )
    for key in ("loss", "grad_norm", "learning_rate", "supervised_tokens"):
        assert [entry[key] for entry in logs[1]] == pytest.approx(
            [entry[key] for entry in logs[0]], abs=1e-5
        ), key
    weights, expected = (
        load_file(out / "adapter" / "adapter_model.safetensors") for out in (both, alone)
    )
    assert all(abs(weights[name] - tensor).max() < 1e-5 for name, tensor in expected.items())
    assert sorted(p.name for p in both.iterdir()) == sorted(p.name for p in alone.iterdir())
    again, _ = run(tmp_path, tiny_model, "both", *launcher)
    assert load_file(again / "adapter" / "adapter_model.safetensors").keys() == expected.keys(), (
        "a finished run is not trained again"
    )


@pytest.mark.cpu_only("NCCL wants a card for each process")
@pytest.mark.slow
def test_a_mistake_ends_all_processes(tmp_path, tiny_model):
    with pytest.raises(AssertionError, match="no model at"):
        run(
            tmp_path,
            tmp_path / "missing",
            "none",
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
        )
