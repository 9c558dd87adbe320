from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.formats import load_formats
from harness.gate.baseline import to_baseline, with_new_entries
from harness.gate.baseline_file import write_baseline
from harness.gate.run_gate import (
    UPDATE,
    GateOptions,
    formats_to_measure,
    nothing_scored,
    run_gate,
    suggested_baseline,
)
from harness.gate.thresholds import GateTable
from harness.metrics.registry import METRICS


def test_the_command_can_be_pasted():
    options = GateOptions(
        "my models/tiny",
        adapter="lora",
        formats=("chatml", "llama*"),
        formats_dirs=("f",),
        cases=("a.jsonl", "b.jsonl"),
        limit=9,
        folder=Path("out"),
        report=True,
    )
    assert options.command(baseline=Path("base.json")) == (
        "pytest eval/ --gate-model 'my models/tiny' --gate-adapter lora --gate-limit 9 "
        "--gate-formats 'chatml,llama*' --gate-formats-dir f --gate-cases a.jsonl "
        "--gate-cases b.jsonl --gate-report-dir out --gate-baseline base.json"
    )


def test_a_command_does_not_repeat_what_is_stored():
    stored = GateTable(model="m", formats=["chatml"], limit=9, baseline="base.json", strict=True)
    options = GateOptions(
        "m", formats=("chatml",), limit=9, baseline=Path("base.json"), strict=True, stored=stored
    )
    assert options.command(UPDATE) == "pytest eval/ --gate-update-baseline"
    assert options.command(limit=20) == "pytest eval/ --gate-limit 20"
    assert options.command(model="n", formats=()) == "pytest eval/ --gate-model n"
    with_adapter = replace(options, stored=stored.model_copy(update={"adapter": "lora"}))
    assert with_adapter.command() == "pytest eval/ --gate-adapter ''"


@pytest.mark.parametrize(
    ("tests", "folder"),
    [
        ("eval/", "eval/baselines"),
        (".", "baselines"),
        ("eval/test_gate.py", "eval/baselines"),
        ("eval/test_gate.py::test_gate", "eval/baselines"),
    ],
)
def test_a_first_baseline_is_put_beside_the_tests(tests, folder):
    assert (
        suggested_baseline(GateOptions("models/tiny/", tests=(tests,)))
        == Path(folder) / "tiny.json"
    )


def test_nothing_scored_says_why():
    assert nothing_scored(["", "x"]).why == "no case was evaluated"
    assert nothing_scored(["no system role"]).why == "no system role"
    assert nothing_scored([]).fails


def test_without_formats_those_of_the_baseline_are_measured(make_evaluation, tmp_path):
    before = to_baseline(
        make_evaluation({("chatml", "stopped"): [1.0], ("gone", "stopped"): [1.0]})
    )
    (tmp_path / "mine.jinja").write_text(
        '{#---\nfamily = "toy"\n---#}\n{% for m in messages %}{{ m.content }}{% endfor %}'
    )
    assert formats_to_measure(before, load_formats(tmp_path)) == ("chatml", "mine")
    assert formats_to_measure(None, load_formats(tmp_path)) == ("common", "mine")


def test_drawn_formats_of_a_baseline_are_drawn_again(make_evaluation):
    known = load_formats()
    drawn = ("grammar:2:seed=5",)
    values = {(chosen.id, "stopped"): [1.0] for chosen in known.select([*drawn, "chatml"])}
    before = to_baseline(make_evaluation(values), ["chatml", *drawn])
    names = formats_to_measure(before, known)
    assert names == ("chatml", *drawn)
    assert {chosen.id for chosen in known.select(names)} == set(before.formats)
    added = with_new_entries(
        to_baseline(make_evaluation({("chatml", "stopped"): [1.0]}), ["chatml"]), before
    )
    assert (added.grammar, set(added.formats)) == (drawn, set(before.formats))


def test_a_baseline_of_which_no_format_is_known_is_refused(make_evaluation):
    """Such as one of drawn formats that an earlier version wrote without their names."""
    before = to_baseline(make_evaluation({("grammar-58884e55bb", "stopped"): [1.0]}))
    with pytest.raises(HarnessError, match="no format of the baseline is known"):
        formats_to_measure(before, load_formats())


@pytest.mark.parametrize(
    ("thresholds", "outcome"),
    [
        (None, "failed"),
        ("[tolerances]\nshouts = 0.9", "passed"),
        ("[tolerances]\nshouts = false", None),
    ],
)
def test_a_metric_of_the_users_is_gated(
    make_evaluation, tmp_path, monkeypatch, thresholds, outcome
):
    """With the tolerance that it declares, unless the thresholds say otherwise."""
    list(METRICS)
    for name in ("_scorers", "_metrics", "_files"):
        monkeypatch.setattr(METRICS, name, getattr(METRICS, name).copy())
    file = tmp_path / "shouts.py"
    file.write_text(
        "from harness.metrics.registry import Metric, scorer\n"
        "@scorer(Metric('shouts', 'answer', 'capitals', 'lower', tolerance=0.05))\n"
        "def shouts(item): return 0.0\n"
    )
    METRICS.load_file(file)
    before, after = (
        make_evaluation({("chatml", "shouts"): [value] * 80, ("chatml", "leak"): [0.0] * 80})
        for value in (0.0, 0.5)
    )
    monkeypatch.setattr("harness.evaluation.run.run_job", lambda job: after)
    write_baseline(to_baseline(before), tmp_path / "base.json")
    if thresholds:
        (tmp_path / "eval").mkdir()
        (tmp_path / "eval" / "thresholds.toml").write_text(thresholds)
    result = run_gate(
        GateOptions("m", baseline=tmp_path / "base.json", metrics=(str(file),), root=tmp_path)
    )
    outcomes = {check.metric: check.outcome for check in result.checks}
    assert outcomes == {"leak": "inconclusive"} | ({"shouts": outcome} if outcome else {})
