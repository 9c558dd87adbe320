"""Scores of shipped artefacts against transformers: a real loss is a finding, noise is not."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from harness.formats import load_formats
from harness.models import ModelSource
from harness.records import Score
from harness.run_file import RunMetadata
from harness.ship import ShipJob, behaviour
from harness.ship.behaviour import (
    Measured,
    by_case,
    check_behaviour,
    decide_artefacts,
    score_of,
)
from harness.ship.made import Made
from harness.ship.model_folder import ModelFolder
from harness.ship.trained_model import Trained
from tests.training.small import NF4


def values(metric, rates, form="chatml"):
    return {(form, metric): {f"c{number}": rate for number, rate in enumerate(rates)}}


def scores(before, after):
    return [score_of(*one) for one in decide_artefacts(before, {"llamacpp Q4_K_M": after})]


def losses(before, after):
    decided = decide_artefacts(before, {"llamacpp Q4_K_M": after})
    return [(one.format, one.metric) for _, one in decided if one.fails]


def test_a_loss_is_paired_by_case_and_has_its_interval():
    before = values("choice", [1.0] * 40 + [0.0] * 40)
    after = values("choice", [0.0] * 20 + [1.0] * 20 + [0.0] * 40)
    [one] = scores(before, after)
    assert one.artefact == "llamacpp Q4_K_M"
    assert (one.reference, one.value, one.difference, one.n) == (0.5, 0.25, -0.25, 80)
    assert one.low < -0.25 < one.high < 0 and one.is_real
    assert losses(before, after) == [("chatml", "choice")]
    assert losses(after, before) == []


def test_a_metric_of_which_less_is_better_is_lost_upwards():
    before, after = values("nll", [2.0] * 40), values("nll", [2.2 + 0.001 * n for n in range(40)])
    assert losses(before, after) == [("chatml", "nll")] and losses(after, before) == []


def test_a_real_but_tolerable_loss_is_no_finding():
    before, after = values("nll", [2.0] * 40), values("nll", [2.001 + 1e-5 * n for n in range(40)])
    [one] = scores(before, after)
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
    [one] = scores(before, after)
    assert one.n == 1 and one.format == "chatml"
    rows = [Score("c1", "chatml", "choice", None, "no"), Score("c2", "chatml", "choice", 1.0)]
    assert by_case(rows, "chatml") == {("chatml", "choice"): {"c2": 1.0}}


def test_the_excess_is_scored_outside_the_native_format():
    rows = [
        Score("c1", form, metric, value)
        for form, value in (("chatml", 0.0), ("llama3", 0.5))
        for metric in ("nll", "nll_excess", "chars")
    ]
    found = by_case(rows, "chatml")
    assert set(found) == {("chatml", "nll"), ("llama3", "nll"), ("llama3", "nll_excess")}


@pytest.mark.parametrize("metric", ["nll", "nll_excess"])
@pytest.mark.parametrize(("rise", "lost"), [(0.14, False), (0.16, True)])
def test_nll_and_its_excess_have_one_tolerance(metric, rise, lost):
    before = values(metric, [0.01 * n for n in range(40)])
    after = values(metric, [0.01 * n + rise + 1e-4 * (n % 5 - 2) for n in range(40)])
    assert bool(losses(before, after)) == lost


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


def test_both_sides_are_asked_the_same(made, tmp_path):
    """Only the engine and the storage of the weights differ."""
    source = ModelSource("m", "m", None, "")
    adapter = Path("runs/a/adapter")
    run = RunMetadata("sha256:1", ("hermes",), ("chatml",), (), {})
    trained = Trained("m", source, adapter, NF4, load_formats()["chatml"], ("own",), run)
    model = ModelFolder(tmp_path / "hf", "bfloat16", "", (), (), (), "", "")
    job = made(to=("llamacpp",), cases=("mine.jsonl",), device="cuda")
    whole = replace(job, trained=trained, model=model)
    reference, own = (
        behaviour._reference(whole, tmp_path / "out"),
        behaviour._artefact(whole, tmp_path / "a.gguf", tmp_path / "out"),
    )
    assert (reference.model, reference.adapter) == ("m", str(adapter))
    assert (reference.quantisation, reference.device, reference.engine) == (NF4, "cuda", "local")
    assert (own.model, own.engine) == (str(tmp_path / "a.gguf"), "llamacpp")
    assert own.engine_options == {"tokenizer": str(tmp_path / "hf")}
    base = behaviour.eval_job(whole.job, trained, tmp_path / "out")
    assert (base.formats, base.native, base.formats_dirs) == (("chatml",), "chatml", ("own",))
    assert (base.cases, base.limit) == (("mine.jsonl",), 32)
    assert base.trained_families == ("chatml",)  # a GGUF file has no run that says so
    for side in (reference, own):
        assert side == replace(
            base,
            model=side.model,
            adapter=side.adapter,
            quantisation=side.quantisation,
            device=side.device,
            engine=side.engine,
            engine_options=side.engine_options,
        )
    recall = base.settings
    assert (recall.recall_examples, recall.recall_continued) == (32, 0)
    assert recall.recall_formats > 1000
    full = replace(whole.job, behaviour="full", formats=("llama3", "chatml"))
    asked = behaviour.eval_job(full, trained, tmp_path / "out")
    assert (asked.limit, asked.formats) == (None, ("llama3", "chatml"))
    recall = asked.settings
    assert (recall.recall_examples, recall.recall_continued) == (100, 32)
    assert recall.recall_formats > 1000


def test_each_artefact_is_compared_with_transformers(made, monkeypatch):
    monkeypatch.setattr(behaviour, "is_installed", lambda package: True)
    monkeypatch.setattr(behaviour, "_reference", lambda made, out: "reference")
    monkeypatch.setattr(behaviour, "_artefact", lambda made, path, out: path.stem)
    right = [1.0] * 30 + [0.0] * 10
    answers = {"reference": right, "a-Q8_0": right, "a-Q4_K_M": [0.0] * 30 + [1.0] * 10}
    monkeypatch.setattr(behaviour, "shipped_rows", lambda *given: (None, "no run says so"))
    monkeypatch.setattr(
        behaviour, "_measured", lambda job, sets, quiet: Measured(values("choice", answers[job]))
    )
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
    first, second = (one.reason for one in found.checks)
    begun = "quick: up to 40 cases a metric in 1 format"
    unknown = "recall is not measured: no run says so"
    assert first == f"{begun}; {unknown}"
    assert second == f"{begun}; changed by their intervals: choice -0.50 in chatml; {unknown}"
