"""Two gloo processes against one, and how a step is split."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from harness.errors import HarnessError
from harness.models import locate
from harness.records import Encoded
from harness.training.config import AdapterConfig, TrainConfig, parse_config
from harness.training.data.examples import Example
from harness.training.plan.memory_estimate import shape_of
from harness.training.start import train
from harness.training.step.distributed import Ranks, join_ranks, leave_ranks, split_by_tokens
from harness.training.step.sharding import ShardedBase, refuse_unshardable
from tests.training.architectures import build
from tests.training.small import small_config, write_rows


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
max_tokens_per_batch = {tokens}
[evaluation]
references = {measured}
recall_rows = {measured}
[checkpoints]
save_steps = 3
"""


class _Ended(BaseException):
    """What ``os._exit`` raises in a test."""


@pytest.mark.parametrize("count", ["1", "2"])
def test_one_of_several_processes_ends_without_winding_up(monkeypatch, capfd, count):
    """Threads of gloo may outlive the interpreter and abort a process that exits as usual."""
    left = []

    def end(code):
        left.append(code)
        raise _Ended

    monkeypatch.setenv("WORLD_SIZE", count)
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: left.append("left"))
    print("the last line", end="")
    if count == "1":
        assert leave_ranks(3) == 3
        assert not left
        return
    with pytest.raises(_Ended):
        leave_ranks(3)
    assert left == ["left", 3]
    assert capfd.readouterr().out == "the last line", "what was printed is not lost"


TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def run(tmp_path, model, name, *launcher, options=(), tokens=2048, measured=0):
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
            model=json.dumps(str(model)),
            out=json.dumps(str(out)),
            data=json.dumps(str(rows)),
            tokens=tokens,
            measured=measured,
        )
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "harness", "train", str(config), *options],
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
    alone, _ = run(tmp_path, tiny_model, "alone")
    both, printed = run(tmp_path, tiny_model, "both", *TWO)
    assert printed.count("adapter:") == 1, "only the leader speaks"
    expected = same_run(alone, both)
    assert sorted(p.name for p in both.iterdir()) == sorted(p.name for p in alone.iterdir())
    again, _ = run(tmp_path, tiny_model, "both", *TWO)
    assert load_file(again / "adapter" / "adapter_model.safetensors").keys() == expected.keys(), (
        "a finished run is not trained again"
    )


def same_run(alone, both) -> dict:
    """Check that both runs logged and saved the same. Returns the weights of the first."""
    logs = [
        [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        for out in (alone, both)
    ]
    steps, twice = ([each for each in log if each["kind"] == "step"] for log in logs)
    assert [entry["step"] for entry in steps] == list(range(1, 9))
    for key in ("step", "loss", "grad_norm", "learning_rate", "supervised_tokens"):
        assert [entry[key] for entry in twice] == pytest.approx(
            [entry[key] for entry in steps], abs=1e-5
        ), key
    measured, again = ([each for each in log if each["kind"] == "checkpoint"] for log in logs)
    for one, other in zip(measured, again, strict=True):
        assert one.keys() == other.keys()
        numbers = {key: value for key, value in one.items() if isinstance(value, float)}
        assert {key: other[key] for key in numbers} == pytest.approx(numbers, abs=1e-4)
    weights, expected = (
        load_file(out / "adapter" / "adapter_model.safetensors") for out in (both, alone)
    )
    assert weights.keys() == expected.keys()
    assert all(abs(weights[name] - tensor).max() < 1e-5 for name, tensor in expected.items())
    return expected


@pytest.mark.cpu_only("NCCL wants a card for each process")
@pytest.mark.slow
def test_a_mistake_ends_all_processes(tmp_path, tiny_model):
    with pytest.raises(AssertionError, match="no model at"):
        run(tmp_path, tmp_path / "missing", "none", *TWO)


def begin_again_at(out, step) -> None:
    """Leave of a finished run what an interruption after this step leaves."""
    shutil.rmtree(out / "adapter")
    for folder in out.glob("checkpoint-*"):
        if int(folder.name.split("-")[1]) > step:
            shutil.rmtree(folder)


@pytest.mark.cpu_only("NCCL wants a card for each process")
@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", ["true", "false"])
def test_a_sharded_base_trains_like_a_whole_one(tmp_path, tiny_model, checkpointing):
    """Of the passes of a step one process has more than the other, and checkpoints are measured,
    which the first process does alone. Each kind of run resumes from the other's checkpoints."""
    given = {"tokens": 30, "measured": 3}
    alone, _ = run(tmp_path, tiny_model, "alone", **given)
    options = ("--fsdp", "--gradient-checkpointing", checkpointing)
    both, printed = run(tmp_path, tiny_model, "both", *TWO, options=options, **given)
    assert printed.count("adapter:") == 1
    same_run(alone, both)
    configs = [
        json.loads((out / "adapter" / "adapter_config.json").read_text()) for out in (alone, both)
    ]
    for each in configs:
        each["target_modules"].sort()  # peft writes a set
    assert configs[0] == configs[1]
    assert sorted(p.name for p in both.iterdir()) == sorted(p.name for p in alone.iterdir())
    run(tmp_path, tiny_model, "both", *TWO, options=options, **given)  # finished: ends at once
    begin_again_at(both, 3)
    resumed, _ = run(tmp_path, tiny_model, "both", **given)
    same_run(alone, resumed)
    begin_again_at(alone, 3)
    run(tmp_path, tiny_model, "alone", *TWO, options=options, **given)
    same_run(resumed, alone)


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"quantisation": {"load_in_4bit": True}}, "quantisation.load_in_4bit"),
        ({"quantisation": {"load_in_8bit": True}}, "quantisation.load_in_8bit"),
        ({"adapter": {"use_dora": True}}, "adapter.use_dora"),
        ({"adapter": {"train_control_tokens": True}}, "adapter.train_control_tokens"),
    ],
)
def test_what_needs_whole_weights_is_refused(settings, place):
    refuse_unshardable(parse_config({"optimisation": {"fsdp": True}}))
    with pytest.raises(HarnessError, match=f"{place} and optimisation.fsdp do not go together"):
        refuse_unshardable(parse_config(settings))


def test_factors_on_experts_are_refused(tmp_path):
    base = build("qwen3_moe", tmp_path / "moe")
    for targets, refused in (("all-linear", False), (("all-linear", "experts"), True)):
        adapter = AdapterConfig(lora_target_modules=targets)
        chosen = shape_of(locate(str(base)), adapter)[1].chosen
        with pytest.raises(HarnessError, match="experts") if refused else nullcontext():
            refuse_unshardable(TrainConfig(adapter=adapter), chosen)


def test_one_process_holds_the_whole_base(tmp_path, tiny_model, capsys):
    config = small_config(tiny_model, tmp_path, optimisation={"fsdp": True, "max_steps": 1})
    train(config, quiet=True)
    assert "optimisation.fsdp: one process holds the whole base" in capsys.readouterr().err


def test_after_a_failed_pass_the_others_are_not_called_again():
    """They wait in the middle of the failed one: a message to them would never arrive."""
    shards = object.__new__(ShardedBase)
    called = []
    shards.call, shards.broken, shards.leads = lambda: called.append(1), "", True

    def forward(fail):
        if fail:
            raise RuntimeError("CUDA out of memory.\nmore")
        return "logits"

    run = shards._watched(forward)
    shards._before(None, None)
    assert run(False) == "logits"
    with pytest.raises(RuntimeError):
        run(True)
    with pytest.raises(HarnessError, match=r"base failed: CUDA out of memory\. — if memory"):
        shards._before(None, None)
    ranks = Ranks(0, 2, shards)
    with pytest.raises(HarnessError, match="sharded base failed"):
        ranks.scatter([], 1.0, [])
    with pytest.raises(HarnessError, match="sharded base failed"):
        ranks.release()
    assert called == [1]
    shards.broken, shards.leads = "", False
    with pytest.raises(RuntimeError):
        run(True)
    assert not shards.broken, "a probe that fails alike in all processes breaks nothing"
