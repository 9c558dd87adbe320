"""Scores of shipped artefacts beside transformers: real losses are findings, noise is none."""

from __future__ import annotations

import random

import pytest

from harness.records import Score
from harness.ship import ShipJob, behaviour
from harness.ship.behaviour import by_case, check_behaviour, paired_scores, real_losses
from harness.ship.made import Made


def values(metric, rates, form="chatml"):
    return {(form, metric): {f"c{number}": rate for number, rate in enumerate(rates)}}


def losses(before, after):
    return [
        (one.format, one.metric)
        for one in real_losses([*paired_scores("llamacpp Q4_K_M", before, after)])
    ]


def test_a_loss_is_paired_by_case_and_has_its_interval():
    before = values("choice", [1.0] * 40 + [0.0] * 40)
    after = values("choice", [0.0] * 20 + [1.0] * 20 + [0.0] * 40)
    [(one, differences)] = paired_scores("llamacpp Q4_K_M", before, after)
    assert (one.reference, one.value, one.difference, one.n) == (0.5, 0.25, -0.25, 80)
    assert one.low < -0.25 < one.high < 0 and one.is_real
    assert sorted(differences) == [-1.0] * 20 + [0.0] * 60
    assert losses(before, after) == [("chatml", "choice")]
    assert losses(after, before) == []


def test_a_metric_of_which_less_is_better_is_lost_upwards():
    before, after = values("nll", [2.0] * 40), values("nll", [2.2 + 0.001 * n for n in range(40)])
    assert losses(before, after) == [("chatml", "nll")] and losses(after, before) == []


def test_a_real_but_tolerable_loss_is_no_finding():
    before, after = values("nll", [2.0] * 40), values("nll", [2.001 + 1e-5 * n for n in range(40)])
    [(one, _)] = paired_scores("x", before, after)
    assert one.is_real and losses(before, after) == []


def test_artefacts_that_differ_by_chance_are_not_reported():
    """Two draws of one rate, 200 times with three formats and two metrics each."""
    draws = random.Random(0)
    false = 0
    for _ in range(200):
        before, after = {}, {}
        for form in ("chatml", "llama3", "alpaca"):
            for metric in ("choice", "stopped"):
                for side in (before, after):
                    rates = [float(draws.random() < 0.6) for _ in range(32)]
                    side.update(values(metric, rates, form))
        false += bool(losses(before, after))
    assert false <= 4


def test_cases_that_one_side_did_not_score_are_left_out():
    before = values("choice", [1.0, 0.0, 1.0])
    after = {("chatml", "choice"): {"c1": 0.0, "c9": 1.0}, ("llama3", "choice"): {"c1": 1.0}}
    [(one, _)] = paired_scores("x", before, after)
    assert one.n == 1 and one.format == "chatml"
    scores = [Score("c1", "chatml", "choice", None, "no"), Score("c2", "chatml", "choice", 1.0)]
    assert by_case(scores) == {("chatml", "choice"): {"c2": 1.0}}


@pytest.fixture
def made(tmp_path):
    def of(**more):
        job = ShipJob("m", tmp_path, "chatml", **more)
        files = {"Q8_0": tmp_path / "a-Q8_0.gguf", "Q4_K_M": tmp_path / "a-Q4_K_M.gguf"}
        return Made(job, None, tmp_path, None, files, {}, {}, ())

    return of


def test_what_is_not_run_is_not_checked(made, monkeypatch):
    every = ("hf", "vllm", "llamacpp", "ollama")
    monkeypatch.setattr(behaviour, "is_installed", lambda package: False)
    found = check_behaviour(made(to=every), quiet=True)
    assert {one.runtime for one in found.checks} == {
        "hf",
        "vllm",
        "ollama",
        "llamacpp Q8_0",
        "llamacpp Q4_K_M",
    }
    assert {one.state for one in found.checks} == {"not checked"}
    reasons = {one.runtime: one.reason for one in found.checks}
    assert "log-probabilities" in reasons["ollama"] and "pip install" in reasons["llamacpp Q8_0"]
    found = check_behaviour(made(to=("llamacpp",), behaviour="none"), quiet=True)
    assert {one.reason for one in found.checks} == {"not asked for: --behaviour quick or full"}


def test_each_artefact_is_compared_with_transformers(made, monkeypatch):
    monkeypatch.setattr(behaviour, "is_installed", lambda package: True)
    monkeypatch.setattr(behaviour, "_reference", lambda made, out: "reference")
    monkeypatch.setattr(behaviour, "_artefact", lambda made, path, out: path.stem)
    right = [1.0] * 30 + [0.0] * 10
    answers = {"reference": right, "a-Q8_0": right, "a-Q4_K_M": [0.0] * 30 + [1.0] * 10}
    monkeypatch.setattr(behaviour, "_values", lambda job, quiet: values("choice", answers[job]))
    found = check_behaviour(made(to=("llamacpp",)), quiet=True)
    assert [(one.runtime, one.state) for one in found.checks] == [
        ("llamacpp Q8_0", "equal"),
        ("llamacpp Q4_K_M", "differs"),
    ]
    [finding] = found.checks[1].findings
    assert finding.kind == "score-lost"
    assert finding.message.startswith(
        "Q4_K_M loses 0.50 of choice in chatml: 0.25, and 0.75 in transformers, over 40 cases (95 % interval of the difference -0."
    )
    assert [one.difference for one in found.scores] == [0.0, -0.5]
