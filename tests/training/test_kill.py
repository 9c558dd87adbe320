"""A run that is killed at any moment and started again ends byte for byte like one that was never
interrupted."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.run_file import read_metrics
from harness.training.config import AdapterConfig, CheckpointsConfig, EvaluationConfig
from tests.patience import HANG_S

ROOT = Path(__file__).resolve().parents[2]


class Zygote:
    """Starts runs from a process that has imported everything (tests/training/zygote.py)."""

    def __init__(self):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "training" / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def start(self, config, die_at=None) -> int:
        self.process.stdin.write(json.dumps({"config": config.as_dict(), "die_at": die_at}) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def ended(self) -> int:
        return int(self.process.stdout.readline())

    def run(self, config, die_at=None) -> int:
        self.start(config, die_at)
        return self.ended()


@pytest.fixture(scope="module")
def zygote():
    process = Zygote()
    yield process
    process.process.stdin.close()
    process.process.stdout.close()
    process.process.wait(HANG_S)


@pytest.fixture
def config(run_config):
    """Dropout, so that the random state matters; checkpoints are measured and pruned to the last
    and the best."""
    return replace(
        run_config,
        adapter=AdapterConfig(lora_r=4, lora_alpha=8, lora_dropout=0.2),
        evaluation=EvaluationConfig(
            references=2, formats_measured=1, recall_rows=0, metric_for_best_model="nll_seen"
        ),
        checkpoints=CheckpointsConfig(save_steps=3, save_total_limit=1, keep_best=True),
    )


def result(run: Path):
    """What must not depend on interruptions: the adapter's bytes, the log without its clock, the
    remaining checkpoints."""
    log = [
        {key: value for key, value in entry.items() if key != "seconds"}
        for entry in read_metrics(run)
    ]
    return (
        (run / "adapter" / "adapter_model.safetensors").read_bytes(),
        log,
        sorted(path.name for path in run.glob("*checkpoint*")),
    )


def nothing_half_written(run: Path):
    for folder in run.glob("checkpoint-*"):
        assert {path.name for path in folder.iterdir()} >= {
            "adapter_model.safetensors",
            "adapter_config.json",
            "optimizer.safetensors",
            "state.json",
        }
    for file in (run / "run.json",):
        assert not file.exists() or json.loads(file.read_text())


@pytest.fixture
def whole(config, zygote, tmp_path):
    """The uninterrupted run, its duration, and the number of events at which it touched the disk."""
    run = tmp_path / "whole"
    zygote.run(replace(config, output_dir=str(tmp_path / "warm-up")))
    began = time.monotonic()
    assert zygote.run(replace(config, output_dir=str(run))) == 0
    return result(run), time.monotonic() - began, int((run / "events").read_text())


@pytest.mark.slow
def test_killed_at_twenty_random_moments_it_ends_like_an_uninterrupted_run(
    config, zygote, whole, tmp_path
):
    expected, seconds, _ = whole
    moments = random.Random(0)
    killed = number = 0
    while killed < 20:
        run = replace(config, output_dir=str(tmp_path / f"run-{number}"))
        number += 1
        for _ in range(2):  # killed, resumed, and killed again
            pid = zygote.start(run)
            time.sleep(moments.uniform(0.05, 1.0) * seconds)
            with contextlib.suppress(ProcessLookupError):  # it was faster
                os.kill(pid, signal.SIGKILL)
            killed += zygote.ended() == -signal.SIGKILL
            nothing_half_written(Path(run.output_dir))
        assert zygote.run(run) == 0
        found = result(Path(run.output_dir))
        assert [ours == theirs for ours, theirs in zip(found, expected, strict=True)] == [True] * 3


def test_killed_before_any_touch_of_the_disk_it_ends_like_an_uninterrupted_run(
    config, zygote, whole, tmp_path
):
    """Kill at every rename, fsync, removal and log line with KILL_ALL=1, otherwise at a sample of
    them."""
    expected, _, events = whole
    moments = list(range(1, events + 1))
    for die_at in moments if os.environ.get("KILL_ALL") else random.Random(1).sample(moments, 5):
        run = replace(config, output_dir=str(tmp_path / f"run-{die_at}"))
        assert zygote.run(run, die_at) == -signal.SIGKILL
        nothing_half_written(Path(run.output_dir))
        assert zygote.run(run) == 0
        found = result(Path(run.output_dir))
        same = [ours == theirs for ours, theirs in zip(found, expected, strict=True)]
        assert all(same), (die_at, same)  # bytes that differ are not shown: it takes minutes
