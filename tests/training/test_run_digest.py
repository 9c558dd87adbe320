"""A run's digest: what it depends on, and folders that an earlier version wrote."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.training.config import LossConfig
from harness.training.preparation import prepare, run_digest
from harness.training.start import resume, train
from tests.training.interrupted import interrupt

WEIGHTS = "adapter_model.safetensors"
REMOVED = {
    "schedule": {"decay_type": "1-sqrt", "midpoint": 0.5, "steepness": 10.0},
    "objective": {"hold_native": True},
    "evaluation": {"greater_is_better": False},
    "auto_branch": {"branch_margin": 1.0},
}


def with_removed_settings(config: dict) -> dict:
    """As an earlier version: with settings removed since, and without those added since."""
    earlier = {
        key: {**value, **REMOVED.get(key, {})} if isinstance(value, dict) else value
        for key, value in config.items()
        if key != "loss"
    }
    added = ("controls", "forged_turns")
    earlier["data"] = {k: v for k, v in earlier["data"].items() if k not in added}
    for key in ("teacher_folds", "teacher_epochs"):
        del earlier["objective"][key]
    return earlier


def earlier_digest(ready, base: str) -> str:
    """As version 1.0 made it, with the base's path and the settings of that time."""
    facts = with_removed_settings(json.loads(json.dumps(ready.config.as_dict())))
    for key in ("output_dir", "evaluation", "checkpoints", "auto_branch", "stopping", "tracking"):
        del facts[key]
    for key in ("max_tokens_per_batch", "gradient_checkpointing", "fsdp"):
        del facts["optimisation"][key]
    del facts["data"]["train"]
    for key in ("lora_alpha",):
        facts["adapter"][key] = float(facts["adapter"][key])
    facts["optimisation"]["num_train_epochs"] = float(facts["optimisation"]["num_train_epochs"])
    rows = [
        [c.id, c.plain, [[m.role, m.content, m.name, m.weight] for m in c.messages]]
        for c in ready.conversations
    ]
    sets = [[list(range(len(rows))), len(rows)]]
    formats = [trained.digest for trained in ready.trained]
    stamp = json.dumps([facts, rows, sets, formats, base], sort_keys=True)
    return "sha256:" + hashlib.sha256(stamp.encode()).hexdigest()[:32]


def make_earlier(run: Path, digest: str) -> None:
    """Turn a run's folder into one that an earlier version wrote."""
    for file in (run / "run.json", *run.glob("checkpoint-*/state.json")):
        record = json.loads(file.read_text())
        record["config"] = with_removed_settings(record["config"])
        file.write_text(json.dumps({**record, "digest": digest}))


def test_the_digest_depends_on_the_bases_content_and_not_on_its_path(run_config):
    ready = prepare(run_config)
    moved = replace(ready, config=replace(run_config, model="/elsewhere/model"))
    assert run_digest(ready, "sha256:same") == run_digest(moved, "sha256:same")
    assert run_digest(ready, "sha256:same") != run_digest(ready, "sha256:other")
    seeded = replace(ready, config=replace(run_config, seed=1))
    assert run_digest(ready, "sha256:same") != run_digest(seeded, "sha256:same")


def test_the_digest_depends_on_the_trained_parts_and_on_thoughts(run_config):
    ready = prepare(run_config)
    loss = replace(ready, config=replace(run_config, loss=LossConfig(("answers",))))
    first, *others = ready.conversations
    message = replace(first.messages[-1], reasoning="Because.")
    thought = replace(first, messages=(*first.messages[:-1], message))
    rows = replace(ready, rows=replace(ready.rows, conversations=(thought, *others)))
    digests = {run_digest(each, "sha256:same") for each in (ready, loss, rows)}
    assert len(digests) == 3


@pytest.mark.parametrize("by", ["train", "resume"])
def test_a_run_of_an_earlier_version_is_resumed(run_config, tmp_path, monkeypatch, by):
    whole = train(replace(run_config, output_dir=str(tmp_path / "whole")), quiet=True)
    interrupt(run_config, monkeypatch, stop_at=7)
    run = Path(run_config.output_dir)
    base = json.loads((run / "checkpoint-2" / "base.json").read_text())["digest"]
    digest = earlier_digest(prepare(run_config), base)
    make_earlier(run, digest)
    adapter = train(run_config, quiet=True) if by == "train" else resume(run, quiet=True)
    assert (adapter / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert json.loads((run / "run.json").read_text())["digest"] == digest
    assert resume(run, quiet=True) == adapter, "and it is done"


def test_a_run_of_an_earlier_version_with_other_settings_is_refused(run_config, monkeypatch):
    interrupt(run_config, monkeypatch, stop_at=7)
    run = Path(run_config.output_dir)
    make_earlier(run, "sha256:of-another-run")
    with pytest.raises(HarnessError, match="other settings, data or base"):
        train(run_config, quiet=True)


def test_a_run_resumes_on_a_base_that_was_moved(run_config, tmp_path, monkeypatch):
    whole = train(replace(run_config, output_dir=str(tmp_path / "whole")), quiet=True)
    interrupt(run_config, monkeypatch, stop_at=7)
    (tmp_path / "moved").symlink_to(run_config.model)
    moved = replace(run_config, model=str(tmp_path / "moved"))
    adapter = train(moved, quiet=True)
    assert (adapter / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    record = json.loads((adapter.parent / "run.json").read_text())
    assert record["config"]["model"] == moved.model, "harness resume finds it there"
