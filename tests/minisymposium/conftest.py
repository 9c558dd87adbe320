"""A smoke run of every part on the tiny model, made once.

Of runs that differ in numbers alone it takes a few, and of formats too; ``python -m
experiments.minisymposium --scale smoke`` takes all.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.minisymposium.compose import run_experiment
from experiments.minisymposium.experiment import Experiment
from experiments.minisymposium.study import PARTS, read_study

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "recipes" / "minisymposium"
FEW_FORMATS = {"formats.train": ["alpaca-newline", "zephyr"]}


@pytest.fixture(scope="session")
def smoke(tiny_model, tmp_path_factory):
    """(the experiment, its results)."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(ROOT)  # where the recipes' paths start
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    few = replace(
        read_study(FOLDER / "study.toml"),
        map=("rate-1e-3", "rate-3e-3"),
        pairs=(("rate-3e-3", "rate-1e-3"),),
        schedules=("schedule-bump",),
        alpha_raw=("alpha-64-raw",),
        alpha_compensated=("alpha-64",),
        formats=("format-single", "format-best"),
        seen=("alpaca-newline",),
        held_out=("llama3", "llama2-chat"),
        every=FEW_FORMATS,
        only={"format-best": {"formats.train": ["all", "grammar:2:seed=0:split=train"]}},
    )
    lab = Experiment(
        few, tmp_path_factory.mktemp("minisymposium"), str(tiny_model), "smoke", quiet=True
    )
    yield lab, run_experiment(lab, PARTS)
    monkeypatch.undo()
