"""Controls of a user's own rows: set aside once, never trained on, and used wherever recall is."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.data.controls import CONTROLS_FILE, fingerprint, kind_of, read_controls
from harness.data.conversations import load_conversations
from harness.data.refusals import REFUSED_FILE
from harness.errors import HarnessError
from harness.evaluation.recall_rows import recall_sets_of, trained_rows
from harness.evaluation.settings import EvalJob
from harness.resources import data_dir
from harness.run_file import RUN_FILE, measured_checkpoints, read_run_metadata
from harness.training.branch import BranchRequest, make_branch
from harness.training.config import (
    CheckpointsConfig,
    DataConfig,
    EvaluationConfig,
    StoppingConfig,
    TrainConfig,
)
from harness.training.data.training_rows import read_training_rows
from harness.training.plan.dry_run import dry_run
from harness.training.preparation import prepare
from harness.training.selection.best_checkpoint import find_best_checkpoint
from harness.training.start import resume, train
from tests.training.small import small_config, write_rows

WORDS = [
    "quick",
    "brown",
    "fox",
    "lazy",
    "dog",
    "jumps",
    "over",
    "the",
    "capital",
    "Norway",
    "Oslo",
]


def some_rows(count: int, seed: int = 0) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    return [
        (f"question {seed} {n}?", " ".join(rng.choices(WORDS, k=rng.randint(1, 9))))
        for n in range(count)
    ]


def config_of(folder: Path, model: Path, count: int = 60, **data) -> TrainConfig:
    config = small_config(
        model,
        folder,
        rows=some_rows(count),
        formats=("chatml",),
        optimisation={"num_train_epochs": 0.4, "per_device_train_batch_size": 8},
        checkpoints=CheckpointsConfig(save_steps=1),
    )
    measured = EvaluationConfig(references=0, recall_rows=4, formats_measured=1)
    return replace(config, data=replace(config.data, **data), evaluation=measured)


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    """A finished run on sixty rows, ten of them set aside."""
    config = config_of(tmp_path_factory.mktemp("aside"), tiny_model)
    train(config)
    return Path(config.output_dir)


def rows_of(folder: Path, **data):
    return read_training_rows(DataConfig(train=(str(folder / "rows.jsonl"),), **data))


@pytest.mark.parametrize(
    ("count", "setting", "controls"),
    [
        (49, "auto", 0),
        (50, "auto", 10),
        (99, "auto", 10),
        (250, "auto", 25),
        (2100, "auto", 200),
        (60, 0, 0),
        (60, 25, 25),
        (4, 1, 1),
    ],
)
def test_how_many_rows_are_set_aside(tmp_path, count, setting, controls):
    write_rows(tmp_path, some_rows(count))
    rows = rows_of(tmp_path, controls=setting)
    assert (len(rows.controls), len(rows.conversations)) == (controls, count - controls)
    assert rows.set_aside == bool(controls)
    both = {fingerprint(one) for one in (*rows.controls, *rows.conversations)}
    assert len(both) == count  # each row is on one side
    assert rows_of(tmp_path, controls=setting) == rows


@pytest.mark.parametrize("setting", [60, 61])
def test_as_many_as_there_are_rows_are_too_many(tmp_path, setting):
    write_rows(tmp_path, some_rows(60))
    with pytest.raises(HarnessError, match="of 60 rows 60 can be set aside"):
        rows_of(tmp_path, controls=setting)


def test_the_shipped_training_set_has_the_shipped_controls():
    rows = read_training_rows(DataConfig())
    assert not rows.set_aside and len(rows.controls) == len(
        load_conversations([str(data_dir("eval") / CONTROLS_FILE)])
    )
    assert not {*map(fingerprint, rows.controls)} & {*map(fingerprint, rows.conversations)}
    part = read_training_rows(DataConfig(train=(str(data_dir("trainset") / "premises.jsonl"),)))
    assert part.controls and part.controls == tuple(
        control for control in rows.controls if kind_of(control) == "premises"
    )


def test_other_rows_are_never_held_against_the_shipped_controls(tmp_path):
    write_rows(tmp_path, some_rows(20))
    mixed = (str(tmp_path / "rows.jsonl"), str(data_dir("trainset") / "premises.jsonl"))
    for paths in (mixed[:1], mixed):
        assert not read_training_rows(DataConfig(train=paths, controls=0)).controls


def test_a_limit_of_the_recall_excess_needs_controls(tiny_model, tmp_path):
    config = replace(
        config_of(tmp_path, tiny_model, controls=0), stopping=StoppingConfig(max_recall_excess=1.0)
    )
    with pytest.raises(HarnessError, match=r"needs controls.*data\.controls"):
        prepare(config)
    assert len(prepare(replace(config, data=replace(config.data, controls=5))).rows.controls) == 5


def test_the_run_says_how_many_and_keeps_them(tiny_model, tmp_path, capsys):
    config = config_of(tmp_path, tiny_model)
    train(config)
    assert "10 rows are set aside" in capsys.readouterr().err
    folder = Path(config.output_dir)
    controls = read_controls(folder)
    assert len(controls) == 10 and read_run_metadata(folder).data["controls"] == 10
    assert read_run_metadata(folder).data["conversations"] == 50
    entries = measured_checkpoints(folder)
    names = {one.id for one in controls}
    for entry in entries:
        assert set(entry["recall_items"]["controls"]) <= names
        assert not set(entry["recall_items"]["rows"]) & names
        assert set(entry["ngram_score"]) == {"rows", "controls"}
        assert all(0 <= value <= 1 for value in entry["ngram_score"].values())
    assert dry_run(replace(config, output_dir=str(tmp_path / "other"))).facts["controls"] == 10


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_a_refused_row_is_not_measured_as_a_trained_one(
    tiny_model, tmp_path, monkeypatch, relative
):
    """Also when the evaluation is started in another folder than the training."""
    rows = [*some_rows(7), ("too long?", "the quick brown fox " * 60)]
    config = small_config(
        tiny_model, tmp_path, rows=rows, formats=("chatml",), optimisation={"num_train_epochs": 1}
    )
    config = replace(
        config,
        data=replace(config.data, max_length=200, on_refuse="skip", controls=0),
        evaluation=EvaluationConfig(references=0, recall_rows=8, formats_measured=1),
    )
    if relative:
        [file] = config.data.train
        config = replace(config, data=replace(config.data, train=(Path(file).name,)))
        monkeypatch.chdir(Path(file).parent)
    adapter = train(config)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    kept = {f"rows-{number}" for number in range(1, 8)}
    for entry in measured_checkpoints(Path(config.output_dir)):
        assert set(entry["recall_items"]["rows"]) == kept
    later = recall_sets_of(EvalJob(model=config.model, adapter=str(adapter)))
    assert {case.id for case in later.train} == kept
    listed = Path(config.output_dir) / REFUSED_FILE
    listed.write_text(listed.read_text() + '{"reason": "too long"}\n')
    with pytest.raises(HarnessError, match=r"refused\.jsonl:2: no place of a refused row"):
        recall_sets_of(EvalJob(model=config.model, adapter=str(adapter)))


def test_a_resumed_run_is_the_uninterrupted_one(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    for made_late in ("adapter", "checkpoint-2"):
        shutil.rmtree(tmp_path / "run" / made_late)
    (tmp_path / "run" / CONTROLS_FILE).unlink()
    resume(tmp_path / "run")
    for name in ("adapter/adapter_model.safetensors", CONTROLS_FILE):
        assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes()


def test_a_run_of_before_the_setting_trains_on_all_its_rows(tiny_model, tmp_path):
    config = config_of(tmp_path, tiny_model, controls=0)
    train(config)
    file = Path(config.output_dir) / RUN_FILE
    table = json.loads(file.read_text())
    del table["config"]["data"]["controls"], table["data"]["controls"]
    file.write_text(json.dumps(table))
    before = measured_checkpoints(file.parent)
    shutil.rmtree(file.parent / "adapter")
    train(replace(config, data=replace(config.data, controls="auto")))  # not another run
    resume(file.parent)
    assert measured_checkpoints(file.parent) == before
    assert "recall" not in before[0] and set(before[0]["recall_items"]["rows"])
    assert not before[0]["recall_items"]["controls"] and "controls" not in before[0]["ngram_score"]
    with pytest.raises(HarnessError, match="no controls"):
        find_best_checkpoint(file.parent, "recall")


def test_a_branch_has_the_controls_of_its_trunk(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    trunk = tmp_path / "run"
    more = {"settings": ("num_train_epochs=0.8", "controls=0")}
    branch = make_branch(BranchRequest(trunk, "step:1", out=tmp_path / "branch", **more))
    shutil.rmtree(trunk)  # a branch outlives it
    resume(branch)
    kept, before = (set(map(fingerprint, read_controls(each))) for each in (branch, run))
    assert kept == before
    assert read_run_metadata(branch).data["conversations"] == 50


def test_a_branch_on_other_rows_has_no_controls(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "other").mkdir()
    rows = write_rows(tmp_path / "other", some_rows(60, seed=1))
    changed = (f'data.train=["{rows}"]', "num_train_epochs=0.8")
    branch = make_branch(BranchRequest(tmp_path / "run", "step:1", changed, out=tmp_path / "b"))
    assert read_controls(branch) is None
    assert read_run_metadata(branch).data["conversations"] == 60


def test_evaluation_takes_rows_and_controls_from_the_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # paths in run.json start from the folder of the run's start
    names = {one.id for one in read_controls(run)}
    for adapter in (run / "adapter", run):
        sets = recall_sets_of(EvalJob("model", adapter=str(adapter)))
        assert {case.id for case in sets.controls} == names
        assert len(sets.train) == 50 and not {case.id for case in sets.train} & names
    trained = trained_rows(run)
    assert len(trained) == 50 and not {row.id for row in trained} & names
    rows = str(run.parent / "rows.jsonl")
    given = recall_sets_of(EvalJob("model", adapter=str(run / "adapter"), train=(rows,)))
    assert {case.id for case in given.controls} == names
    alone = recall_sets_of(EvalJob("model", train=(rows,)))
    assert not alone.controls
    other = recall_sets_of(
        EvalJob("model", adapter=str(run), train=(str(data_dir("trainset") / "premises.jsonl"),))
    )
    assert {case.id for case in other.controls}.isdisjoint(names) and other.controls
