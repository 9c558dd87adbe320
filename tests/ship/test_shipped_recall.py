"""Recall of a shipped file: the rows of the adapter's run, on both sides, or a reason."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.evaluation.run import run_job
from harness.evaluation.settings import EvalSettings
from harness.ship import ShipJob, behaviour
from harness.ship.shipped_recall import recall_scores, shipped_rows
from harness.ship.trained_model import find_trained
from harness.training.start import train
from tests.training.small import small_config, sums

ROWS = sums(24)


@pytest.fixture(scope="module")
def tuned(tiny_model, tmp_path_factory):
    """A run of twenty rows, with four set aside as controls."""
    folder = tmp_path_factory.mktemp("recalled")
    config = small_config(
        tiny_model, folder, rows=ROWS, formats=("chatml",), optimisation={"num_train_epochs": 2}
    )
    adapter = train(replace(config, data=replace(config.data, controls=4)), quiet=True)
    case = {"id": "1", "messages": [{"role": "user", "content": "q"}], "reference": "a"}
    (folder / "cases.jsonl").write_text(json.dumps(case) + "\n")
    return adapter


def job_of(tuned, **more):
    run = tuned.parent
    return ShipJob(
        str(run), run / "out", "chatml", cases=(str(run.parent / "cases.jsonl"),), **more
    )


def test_the_base_in_the_place_of_the_adapter_has_lost_the_gain(tuned, tmp_path):
    """The reference's gain is that of harness eval, and a file without the adapter has none."""
    job = job_of(tuned, formats=("chatml", "llama3"))
    trained = find_trained(job)
    asked = behaviour.eval_job(job, trained, tmp_path / "out")
    settings = replace(asked.settings, max_new_tokens=1)
    asked = replace(asked, settings=settings, out=tmp_path / "reference")
    reference = replace(asked, adapter=str(trained.adapter))
    sets, unknown = shipped_rows(trained, reference)
    assert not unknown and (len(sets.train), len(sets.controls)) == (20, 4)
    known = run_job(reference, recall=sets, quiet=True).recall
    base = run_job(replace(asked, out=tmp_path / "base"), recall=sets, quiet=True).recall
    found = {one.format: one for one in recall_scores("llamacpp F16", sets, known, base)}
    assert set(found) == {"chatml", "llama3"}
    gains = {row.format: row for row in known.rows if row.metric == "gain"}
    for name, one in found.items():
        assert (one.metric, one.n) == ("recall gain", 20)
        assert one.reference == pytest.approx(gains[name].excess)
        assert one.value == pytest.approx(0, abs=1e-3)
        assert one.difference == pytest.approx(-gains[name].excess, abs=1e-3)
    same = recall_scores("llamacpp F16", sets, known, known)
    assert [one.difference for one in same] == [0, 0] and not any(one.is_real for one in same)


def test_near_verbatim_recall_is_paired_by_trained_row(tuned, tmp_path):
    job = job_of(tuned, behaviour="full")
    trained = find_trained(job)
    asked = behaviour.eval_job(job, trained, tmp_path / "out")
    asked = replace(asked, settings=EvalSettings(max_new_tokens=1, recall_continued=3))
    reference = replace(asked, adapter=str(trained.adapter))
    sets, _ = shipped_rows(trained, reference)
    table = run_job(reference, recall=sets, quiet=True).recall
    found = {one.metric: one for one in recall_scores("llamacpp F16", sets, table, table)}
    assert set(found) == {"recall gain", "nv_recall@50%"}
    assert (found["nv_recall@50%"].n, found["nv_recall@50%"].low) == (3, None)  # too few


def test_recall_that_cannot_be_measured_says_why(tuned, tiny_model, tmp_path):
    trained = find_trained(job_of(tuned))
    reference = replace(
        behaviour.eval_job(job_of(tuned), trained, tmp_path), adapter=str(trained.adapter)
    )
    assert shipped_rows(replace(trained, adapter=None), reference) == (None, "there is no adapter")
    _, unknown = shipped_rows(replace(trained, metadata=None), reference)
    assert unknown == "no run.json says what the adapter was trained on"
    _, unknown = shipped_rows(trained, replace(reference, train=("missing.jsonl",)))
    assert "missing.jsonl" in unknown
    assert recall_scores("llamacpp F16", None, None, None) == []
