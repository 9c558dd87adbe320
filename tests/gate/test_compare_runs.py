"""Two evaluations → the comparison document, with the samples of the reports beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from harness.gate.baseline import to_baseline
from harness.gate.compare_baselines import compare_baselines
from harness.gate.compare_runs import MAX_PAIRS, build_comparison, paired_samples, run_samples
from harness.gate.thresholds import Tolerance
from harness.report import document
from harness.report.json_document import to_json
from harness.report.sample_document import ReportSample
from tests.gate.conftest import build_evaluation
from tests.report.fixture import make, make_sample

GOOD = {
    ("format-00", "stopped"): [1.0] * 60,
    ("format-01", "stopped"): [1.0] * 60,
    ("format-02", "stopped"): [1.0] * 60,
}
WORSE = {**GOOD, ("format-01", "stopped"): [0.0] * 30 + [1.0] * 30}


@pytest.fixture
def two(tmp_path):
    """Folders of two runs with their reports, and a function that compares them."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(make(formats=3, runs=1)))
    before, after = (
        to_baseline(build_evaluation(values, native="format-00")) for values in (GOOD, WORSE)
    )
    checks = compare_baselines(before, after, {"stopped": Tolerance("stopped", 0.05)})
    return tmp_path, lambda: build_comparison(
        before, after, checks, (tmp_path / "one", tmp_path / "two"), ("one", "two")
    )


def test_the_document_holds_every_check_and_follows_its_schema(two):
    found = two[1]()
    schema = json.loads(Path(document.__file__).with_name("schema.json").read_text())
    Draft202012Validator({"$ref": "#/$defs/Comparison", "$defs": schema["$defs"]}).validate(
        json.loads(to_json(found))
    )
    cells = {(cell.format, cell.metric): cell for cell in found.cells}
    assert set(cells) == {
        (name, "stopped") for name in ("format-00", "format-01", "format-02", "held-out formats")
    }
    lost = cells["format-01", "stopped"]
    assert (lost.outcome, lost.before, lost.after, lost.delta, lost.n) == (
        "failed",
        1.0,
        0.5,
        -0.5,
        60,
    )
    assert lost.low < -0.5 < lost.high < 0
    # without the mean over a group
    assert [facts.id for facts in found.formats] == ["format-00", "format-01", "format-02"]
    assert found.note == "" and {sample.run for sample in found.samples} == {"one", "two"}


def test_samples_are_paired_and_a_run_without_a_report_is_named(two):
    folder, make_it = two
    samples = make_it().samples
    assert [
        (a.format, a.case, a.run, b.run)
        for a, b in zip(samples[::2], samples[1::2], strict=True)
        if (a.format, a.case) == (b.format, b.case)
    ] == [(sample.format, sample.case, "one", "two") for sample in samples[::2]]
    (folder / "two" / "report.json").unlink()
    found = make_it()
    assert found.samples == () and found.note == "No samples: there is no report.json beside two."


def test_one_adapter_of_several_is_found_in_the_report_above(tmp_path):
    table = make(formats=1)
    table["runs"][0]["label"] = "a/x"
    for sample in table["samples"]:
        sample["run"] = {"before": "a/x", "after": "b/x"}[sample["run"]]
    (tmp_path / "report.json").write_text(json.dumps(table))
    (tmp_path / "a" / "x").mkdir(parents=True)
    (tmp_path / "a" / "x" / "scores.json").write_text("{}")
    assert {sample.run for sample in run_samples(tmp_path / "a" / "x")} == {"a/x"}
    assert run_samples(tmp_path / "a" / "x" / "scores.json") == run_samples(tmp_path / "a" / "x")
    assert run_samples(tmp_path / "a") == []  # no run of this name


def test_what_became_worse_comes_first_and_each_format_has_its_share():
    before = [
        ReportSample(**make_sample("x", f"f{at:02}", n, "yes"))
        for at in range(60)
        for n in range(6)
    ]
    after = [
        replace(sample, scores={"on_task": 0.0 if sample.case == "case-4" else 1.0, "leak": None})
        for sample in before
    ]
    found = paired_samples(before, after, ("one", "two"))
    assert len(found) == 2 * 60 * (MAX_PAIRS // 60) <= 2 * MAX_PAIRS
    assert all(found[at].case == "case-4" for at in range(0, len(found), 2 * (MAX_PAIRS // 60)))
    assert paired_samples(before[:6], after[6:], ("one", "two")) == []
