"""The gate's level and power on simulated models, and a planted loss on the real SmolLM2-135M."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gate import LOSSES, UNCHANGED, Change, any_fails, runs_of, seen_where_planted
from harness.evaluation.run import run_job
from harness.evaluation.settings import EvalJob
from harness.gate.baseline import Baseline, to_baseline
from harness.gate.compare_baselines import compare_baselines
from harness.gate.decide import decide, family
from harness.gate.power import PLANTED, power
from harness.gate.thresholds import read_thresholds
from harness.models import LoadedModel, load
from harness.resources import data_dir
from tests.gate.test_power import pairs_of

pytestmark = pytest.mark.slow


OTHERS_GAIN = list(UNCHANGED)[-1]


def test_a_format_that_gains_nothing_where_all_others_do_fails_in_one_run_of_twenty_at_most():
    """A rate of 5 % gives 16 or fewer of 200 in 96 % of simulations."""
    assert sum(map(any_fails, runs_of(200, 200, UNCHANGED[OTHERS_GAIN]))) <= 16


@pytest.mark.parametrize("name", list(UNCHANGED)[:-1])
@pytest.mark.parametrize("cases", [24, 200])
def test_at_most_one_run_in_a_hundred_fails_where_nothing_was_lost(name, cases):
    """A rate of 1 % gives 5 or fewer of 200 in 98 % of simulations."""
    assert sum(map(any_fails, runs_of(200, cases, UNCHANGED[name]))) <= 5


@pytest.mark.parametrize("name", ["choice, 5 points, 5 % turned", "stopped, 10 points, 5 % turned"])
def test_what_is_documented_as_seen_is_seen(name):
    change = LOSSES[name]
    assert sum(map(seen_where_planted(change), runs_of(60, 200, change))) >= 48


@pytest.mark.parametrize(
    ("change", "cases"),
    [
        (Change(0.10, metric="choice", points=PLANTED), 120),
        (Change(0.10, metric="choice", points=PLANTED), 200),
        (Change(0.05, metric="on_task", points=PLANTED, broken=True), 200),
        (Change(0.05, metric="stopped", points=PLANTED, broken=True), 200),
    ],
)
def test_the_printed_power_is_what_the_gate_finds(change, cases):
    said, found = said_and_found(change, cases)
    assert said == pytest.approx(found, abs=0.05)


def test_the_printed_power_of_answers_promises_no_more_than_a_loss_of_another_kind_gives():
    """It loses answers at random; a loss that moves all answers a little is found more often."""
    said, found = said_and_found(Change(0.05, metric="on_task", points=PLANTED), 200)
    assert said <= found + 0.05


def said_and_found(change, cases):
    """Said of runs without the loss, found in other runs of the same models with it."""
    turned, metric, seeds = change.turned, change.metric, range(250)
    said = []
    for seed in seeds:
        pairs = pairs_of(seed, cases, Change(turned))
        own = [p for p in pairs if p.metric == metric and not p.format.endswith(" formats")]
        said.append(power(own, family(pairs)[1], draws=30, seed=seed))
    found = [
        any(c.fails and (c.metric, c.format) == (metric, "new-2") for c in decide(pairs))
        for pairs in (pairs_of(seed, cases, change) for seed in seeds)
    ]
    return sum(said) / len(said), sum(found) / len(found)


FORMATS = ("smollm2", "chatml", "alpaca-newline", "llama3", "zephyr", "vicuna-v1.1-newline")


def choices_of_smollm2(loaded: LoadedModel, formats: tuple[str, ...], out: Path) -> Baseline:
    """200 choices in each format."""
    job = EvalJob(
        model="SmolLM2-135M-Instruct",
        formats=formats,
        native="smollm2",
        cases=(str(data_dir("eval") / "cases" / "choice.jsonl"),),
        limit=200,
        out=out,
    )
    return to_baseline(run_job(job, loaded=loaded, quiet=True))


def test_a_loss_in_one_format_of_a_real_model_fails_there_and_nowhere_else(tmp_path):
    """Noise of 15 % on the weights, in ChatML alone, costs 9 points of 200 choices."""
    import torch

    loaded = load("SmolLM2-135M-Instruct")
    before = choices_of_smollm2(loaded, FORMATS, tmp_path / "before")
    tolerances = read_thresholds(data_dir("eval") / "thresholds.toml").tolerances
    again = compare_baselines(before, before, tolerances)
    assert {check.outcome for check in again} == {"passed"}

    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in loaded.model.parameters():
            if weights.dim() == 2:
                noise = torch.randn(weights.shape, generator=draw) * weights.float().std() * 0.15
                weights.add_(noise.to(weights.dtype))
    noisy = choices_of_smollm2(loaded, ("chatml",), tmp_path / "after")
    of_chatml = [entry for entry in noisy.entries if entry.format == "chatml"]
    others = [entry for entry in before.entries if entry.format != "chatml"]
    checks = compare_baselines(before, replace(before, entries=(*of_chatml, *others)), tolerances)
    [lost] = [check for check in checks if (check.format, check.metric) == ("chatml", "choice")]
    assert lost.fails and lost.n == 200 and lost.delta < -0.05
    assert {check.format for check in checks if check.fails} <= {"chatml", "held-out formats"}
