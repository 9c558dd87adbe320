"""The plan counts what is trained and measured, and every study fits into its two hours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.minisymposium import budget
from experiments.minisymposium.study import STUDIES, read_study
from harness.errors import HarnessError
from harness.models.packaged import PACKAGED

ROOT = Path(__file__).resolve().parents[2]
SMOLLM2, GEMMA = (read_study(ROOT / path) for path in STUDIES)


@pytest.fixture
def tiny_study(tiny_model, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(budget.SPEEDS, str(tiny_model), budget.Speed(1000.0, 10.0, 20.0, 5.0))
    every = {**GEMMA.every, "max_length": 4096, "on_refuse": "skip"}
    return replace(GEMMA, model=str(tiny_model), every=every)


def test_steps_tokens_and_measurements_are_counted(tiny_study):
    [long] = budget.costs(tiny_study, (9,))
    assert (long.runs, long.steps) == (("long",), 600)
    assert long.checkpoints == 5  # the start, and every 150th
    assert long.training == pytest.approx(long.tokens / 1000 / 60)
    references = 5 * 12 * 2  # of a checkpoint, in a trained and a held-out format
    recall = 5 * (4 + 24) * 4
    reported = 2 * 32 * 3  # of the base and the end, in two formats and the native one
    seconds = (references + recall) / 10 + reported / 20
    assert long.measuring == pytest.approx(seconds / 60)
    [symptoms] = budget.costs(tiny_study, (2,))
    assert symptoms.runs == ("rate-3e-3",) and symptoms.steps == 16
    [alone] = budget.costs(replace(tiny_study, symptom_steps=(16,)), (2,))
    answers = 2 * 3 * 32 + 2 * 3 * 24 * 2  # of two checkpoints: cases, and rows from 3 prefixes
    assert symptoms.measuring - alone.measuring == pytest.approx(
        (answers / 5 + (2 * 3 * 32 + 2 * 24 * 2) / 20) / 60
    )


def test_a_run_that_parts_share_is_counted_once(tiny_study):
    first, second = budget.costs(tiny_study, (1, 2))
    assert "rate-3e-3" in first.runs and second.runs == () and second.steps == 0


def test_a_model_whose_speed_was_not_measured_has_no_plan():
    with pytest.raises(HarnessError, match="the speeds of x were not measured"):
        budget.costs(replace(GEMMA, model="x"))


@pytest.mark.slow
@pytest.mark.parametrize("study", [SMOLLM2, GEMMA], ids=lambda study: study.model)
def test_a_study_fits_into_two_hours_on_two_cores(study, monkeypatch):
    monkeypatch.chdir(ROOT)
    pytest.importorskip(PACKAGED[study.model.lower()].module)
    minutes = sum(cost.training + cost.measuring for cost in budget.costs(study))
    assert minutes <= 120
