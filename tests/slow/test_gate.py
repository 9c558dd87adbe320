"""The gate's level and power on simulated models, and a planted loss on the real SmolLM2-135M."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.gate import LOSSES, UNCHANGED, Change, any_fails, runs_of, seen_where_planted
from harness.evaluation.run import run_job
from harness.evaluation.settings import EvalJob
from harness.gate.baseline import Baseline, to_baseline
from harness.gate.compare_baselines import compare_baselines
from harness.gate.decide import decide, family
from harness.gate.power import power
from harness.gate.thresholds import read_thresholds
from harness.resources import data_dir
from tests.gate.test_power import pairs_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", UNCHANGED)
@pytest.mark.parametrize("cases", [24, 200])
def test_at_most_one_run_in_a_hundred_fails_where_nothing_was_lost(name, cases):
    """A rate of 1 % gives 5 or fewer of 200 in 98 % of simulations; all ten gave fewer."""
    assert sum(map(any_fails, runs_of(200, cases, UNCHANGED[name]))) <= 5


@pytest.mark.parametrize("name", ["choice, 5 points, 5 % turned", "stopped, 10 points, 5 % turned"])
def test_what_is_documented_as_seen_is_seen(name):
    change = LOSSES[name]
    assert sum(map(seen_where_planted(change), runs_of(60, 200, change))) >= 48


@pytest.mark.parametrize(
    ("metric", "points", "turned", "cases"),
    [("choice", 0.05, 0.10, 120), ("choice", 0.05, 0.10, 200), ("on_task", 0.05, 0.05, 200)],
)
def test_the_printed_power_is_what_the_gate_finds(metric, points, turned, cases):
    """Said of runs without the loss, found in other runs of the same models with it: 5 points."""
    change, seeds = Change(turned, metric=metric, points=points), range(250)
    said = []
    for seed in seeds:
        pairs = pairs_of(seed, cases, Change(turned))
        own = [p for p in pairs if p.metric == metric and not p.format.endswith(" formats")]
        said.append(power(own, family(pairs)[1], draws=30, seed=seed))
    found = [
        any(c.fails and (c.metric, c.format) == (metric, "new-2") for c in decide(pairs))
        for pairs in (pairs_of(seed, cases, change) for seed in seeds)
    ]
    assert sum(said) / len(said) == pytest.approx(sum(found) / len(found), abs=0.05)


FORMATS = ("smollm2", "chatml", "alpaca-newline", "llama3", "zephyr", "vicuna-v1.1-newline")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """200 choices in six formats and in ChatML without any header of the user: 1400 questions."""
    folder = tmp_path_factory.mktemp("formats")
    text = (data_dir("formats") / "chatml.jinja").read_text(encoding="utf-8")
    header = "'<|im_start|>' + message['role'] + '\\n' + message['content']"
    assert header in text
    (folder / "chatml-damaged.jinja").write_text(text.replace(header, "'\\n' + message['content']"))
    job = EvalJob(
        model="SmolLM2-135M-Instruct",
        formats=(*FORMATS, "chatml-damaged"),
        formats_dirs=(str(folder),),
        cases=(str(data_dir("eval") / "cases" / "choice.jsonl"),),
        limit=200,
        out=tmp_path_factory.mktemp("out"),
    )
    return to_baseline(run_job(job, quiet=True))


def in_place_of_chatml(run: Baseline, name: str) -> Baseline:
    """The run in six formats, with the values of a format as those of ChatML."""
    entries = [
        replace(entry, format="chatml" if entry.format == name else entry.format)
        for entry in run.entries
        if entry.format not in {"chatml", "chatml-damaged"} - {name}
    ]
    return replace(run, formats={id: run.formats[id] for id in FORMATS}, entries=tuple(entries))


def test_a_loss_in_one_format_of_a_real_model_fails_there_and_nowhere_else(real):
    before, after = (in_place_of_chatml(real, name) for name in ("chatml", "chatml-damaged"))
    tolerances = read_thresholds(data_dir("eval") / "thresholds.toml").tolerances
    assert not any(check.fails for check in compare_baselines(before, before, tolerances))
    checks = compare_baselines(before, after, tolerances)
    [lost] = [check for check in checks if (check.format, check.metric) == ("chatml", "choice")]
    assert lost.fails and lost.n == 200
    assert {check.format for check in checks if check.fails} <= {"chatml", "held-out formats"}
