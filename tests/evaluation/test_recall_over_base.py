"""Recall of an adapter is its gain over the base, which is scored on the same rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.evaluation.analysis.recall_table import ALL_FORMATS
from harness.evaluation.recall_rows import recall_sets
from harness.evaluation.run import run_job
from harness.evaluation.settings import EvalJob, EvalSettings
from harness.training.start import train
from tests.training.small import small_config, sums

ROWS = sums(24)


@pytest.fixture(scope="module")
def job(tiny_model, tmp_path_factory):
    """An evaluation of an adapter that was trained on twenty rows, with four set aside."""
    folder = tmp_path_factory.mktemp("over-base")
    config = small_config(
        tiny_model, folder, rows=ROWS, formats=("chatml",), optimisation={"num_train_epochs": 2}
    )
    adapter = train(replace(config, data=replace(config.data, controls=4)), quiet=True)
    case = {"id": "1", "messages": [{"role": "user", "content": "q"}], "reference": "a"}
    (folder / "cases.jsonl").write_text(json.dumps(case) + "\n")
    return EvalJob(
        str(tiny_model),
        adapter=str(adapter),
        formats=("chatml", "llama3"),
        cases=(str(folder / "cases.jsonl"),),
        out=folder / "out",
        recall=True,
        settings=EvalSettings(max_new_tokens=1),
    )


def levels(table):
    return {row.format: row.train for row in table.rows if row.metric == "token_logprob"}


def gains(table):
    return {row.format: row for row in table.rows if row.metric == "gain"}


@pytest.fixture(scope="module")
def base(job):
    """The base on the same rows and controls, into the same results file."""
    run = Path(job.adapter).parent
    train, controls = (str(run.parent / "rows.jsonl"),), (str(run / "controls.jsonl"),)
    return run_job(replace(job, adapter=None, train=train, controls=controls), quiet=True)


def test_the_gain_is_that_over_the_base(job, base):
    table = run_job(job, quiet=True).recall
    found, after, before = gains(table), levels(table), levels(base.recall)
    assert set(found) == {ALL_FORMATS, "chatml", "llama3"} and not gains(base.recall)
    assert (found["chatml"].n_train, found["chatml"].n_null) == (20, 4)
    for name in ("chatml", "llama3"):
        assert found[name].train == pytest.approx(after[name] - before[name], abs=2e-3)
    assert found["chatml"].train > 0.2
    assert {each.metric for each in table.separations} == {"gain"}


def test_what_the_results_file_has_of_the_base_is_not_computed_again(job, base):
    first = run_job(replace(job, label="again"), quiet=True).computed
    alone = run_job(replace(job, out=job.out / "alone"), quiet=True).computed
    assert (first, alone - base.computed) == (0, 24 * 2)  # a score of each row in each format


def test_the_terminal_says_what_was_gained(job, capsys):
    args = ["--adapter", job.adapter, "--formats", "chatml", "--cases", *job.cases, "--recall"]
    assert main(["eval", job.model, *args, "--out", str(job.out), "--max-new-tokens", "1"]) == 0
    out = capsys.readouterr().out
    assert "recall of the training set: its answers gained +" in out
    assert "controls never trained on" in out and "only 4 controls (under 100)" in out


def test_controls_of_other_kinds_are_left_out():
    """They share no stratum with a trained row, and the shipped ones hold long texts."""

    def row(name, *tags):
        messages = (Message("user", f"{name}?"), Message("assistant", f"Yes, {name}."))
        return Conversation(name, messages, tags)

    rows = [row(f"a{at}", "code", "sql") for at in range(3)]
    controls = [row("b0", "code"), row("b1", "reading"), row("b2", "code"), row("b3", "everyday")]
    sets = recall_sets(rows, controls, 100)
    assert [case.id for case in sets.controls] == ["b0", "b2"]
    assert len(recall_sets(rows, controls[1:2], 100).controls) == 1
