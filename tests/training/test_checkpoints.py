"""Which checkpoints are kept, which are removed, and what a full disk leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.files import atomic_folder, clear_leftovers, remove, write_text
from harness.run_file import read_metrics
from harness.training.config import CheckpointsConfig
from harness.training.runs.checkpoints import removable
from harness.training.runs.lock import holder_of, run_lock
from harness.training.runs.metrics_log import MetricsLog
from harness.training.start import resume, train

sizes = st.lists(st.integers(1, 60), unique=True, max_size=15)


@given(
    sizes,
    st.integers(1, 4),
    st.integers(0, 5),
    st.dictionaries(st.integers(1, 60), st.floats(0, 9), max_size=8),
    st.sets(st.integers(1, 60), max_size=4),
)
def test_retention_removes_what_no_rule_keeps_and_nothing_else(
    steps, last, every, scores, branch_points
):
    gone = set(
        removable(
            steps, CheckpointsConfig(save_total_limit=last, keep_every=every), scores, branch_points
        )
    )
    known = [step for step in steps if step in scores]
    best = {min(known, key=lambda step: (scores[step], step))} if known else set()
    for step in steps:
        reasons = [
            step in sorted(steps)[-last:],
            every and step % every == 0,
            step in best,
            step in branch_points,
        ]
        assert (step in gone) == (not any(reasons)), step


def test_without_a_limit_all_are_kept():
    assert removable([1, 2, 3], CheckpointsConfig(keep_every=2), {1: 0.0}) == []


def test_the_best_checkpoint_stays_after_the_run(run_config):
    from harness.training.config import EvaluationConfig

    config = replace(
        run_config,
        evaluation=EvaluationConfig(
            references=2, formats_measured=1, recall_rows=0, metric_for_best_model="nll_seen"
        ),
        checkpoints=CheckpointsConfig(
            save_steps=1, save_total_limit=1, keep_every=5, keep_best=True
        ),
    )
    train(config, quiet=True)
    points = [
        e for e in read_metrics(Path(config.output_dir)) if e["kind"] == "checkpoint" and e["step"]
    ]
    best = min(points, key=lambda e: e["nll_seen"])["step"]
    assert {int(p.name.split("-")[1]) for p in Path(config.output_dir).glob("checkpoint-*")} == {
        best,
        5,
        10,
        12,
    }


FULL = """
import resource, sys
from pathlib import Path
from harness.training.config import parse_config
from harness.training.start import train
import json
import harness.training.runs.checkpoints
config = parse_config(json.loads(sys.argv[1]))
original = harness.training.runs.checkpoints.save_checkpoint
def limited(run, step, *rest):
    if step == 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
    return original(run, step, *rest)
import harness.training.loop
harness.training.loop.save_checkpoint = limited
try:
    train(config, quiet=True)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_disk_that_takes_no_more_leaves_nothing_half_written(run_config):
    """A limit of the kernel on file sizes makes safetensors raise an error that is not an OSError.
    With space again the run ends as usual."""
    told = subprocess.run(
        [sys.executable, "-c", FULL, json.dumps(run_config.as_dict())],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    run = Path(run_config.output_dir)
    assert (
        told.startswith("HarnessError")
        and "checkpoint-4: cannot write the checkpoint" in told
        and "it resumes" in told
    )
    assert {path.name for path in run.iterdir()} == {
        ".lock",
        "run.json",
        "metrics.jsonl",
        "progress.json",
        "checkpoint-2",
    }
    adapter = resume(run, quiet=True)
    whole_run = train(replace(run_config, output_dir=str(run.with_name("whole"))), quiet=True)
    assert (adapter / "adapter_model.safetensors").read_bytes() == (
        whole_run / "adapter_model.safetensors"
    ).read_bytes()


def test_a_folder_is_put_in_place_whole_or_not_at_all(tmp_path):
    target = tmp_path / "thing"
    with atomic_folder(target, what="thing") as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    with (
        pytest.raises(HarnessError, match="cannot write the thing: No space"),
        atomic_folder(target, what="thing") as folder,
    ):
        (folder / "a").write_text("2")
        raise OSError(28, "No space left on device")
    assert (target / "a").read_text() == "1" and [path.name for path in tmp_path.iterdir()] == [
        "thing"
    ]
    remove(target)
    assert not list(tmp_path.iterdir())


def test_leftovers_of_a_killed_process_are_cleared(tmp_path):
    (tmp_path / ".partial-checkpoint-3").mkdir()
    (tmp_path / ".removed-checkpoint-1").mkdir()
    (tmp_path / ".partial-run.json").write_text("{")
    write_text(tmp_path / "kept", "x")
    clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@given(st.binary(max_size=40))
def test_a_line_that_was_cut_off_is_no_entry(tail):
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        run = Path(name)
        with MetricsLog(run, 0) as metrics_log:
            metrics_log.write({"kind": "step", "step": 1})
        with (run / "metrics.jsonl").open("ab") as stream:
            stream.write(tail.replace(b"\n", b""))
        assert read_metrics(run) == [{"kind": "step", "step": 1}]
        with MetricsLog(run, 1) as metrics_log:
            metrics_log.write({"kind": "step", "step": 2})
        assert [entry["step"] for entry in read_metrics(run)] == [1, 2]


def test_a_second_process_is_refused_with_the_name_of_the_first(run_config, tmp_path):
    hold = (
        "import signal, sys; from pathlib import Path; from harness.training.runs.lock import run_lock\n"
        "with run_lock(Path(sys.argv[1])):\n    print('held', flush=True); signal.pause()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", hold, run_config.output_dir], stdout=subprocess.PIPE, text=True
    )
    with first, first.stdout:
        assert first.stdout.readline() == "held\n"
        assert holder_of(Path(run_config.output_dir)).startswith(f"process {first.pid} (-c ")
        with pytest.raises(
            HarnessError, match=rf"run: process {first.pid} \(.*is at work in this folder"
        ) as caught:
            train(run_config, quiet=True)
        assert "\n" not in str(caught.value)
        first.kill()
    assert holder_of(Path(run_config.output_dir)) == ""
    assert train(run_config, quiet=True).is_dir()  # a lock dies with its process


def test_one_process_cannot_hold_a_folder_twice(tmp_path):
    with run_lock(tmp_path), pytest.raises(HarnessError, match="at work"), run_lock(tmp_path):
        pass
    with run_lock(tmp_path):
        pass
