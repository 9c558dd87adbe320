"""Train one recipe, and measure it against the base on the evaluation's cases."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from experiments.before_after import (
    before_and_after,
    change_of,
    prepared,
    with_changes,
    write_numbers,
)
from harness.demo import recipe
from harness.evaluation.analysis.recall_table import ALL_FORMATS, GAIN
from harness.evaluation.analysis.summary import gap_closed
from harness.evaluation.results import Evaluation
from harness.evaluation.settings import EvalJob, EvalSettings
from harness.run_file import read_metrics
from harness.training.config import TrainConfig, parse_config
from harness.training.data.folds import TEACHERS_DIR

RECIPES = Path(__file__).with_name("recipes.toml")
#: The families that the demo's recipe holds out, and random formats of the grammar's test half.
#: Take a new seed of these for each reported number.
HELD_OUT = ("gemma3", "llama2-chat", "llama3", "mistral-v1", "openchat-3.5", "roleplay-names")
MADE_UP = ("grammar:3:seed={seed}:split=test", "grammar:3:seed={seed}:split=test:style=tags")
#: Changes since the base that are reported: metric and group of formats.
CHANGES = (
    ("nll", "native"),
    ("nll", "held-out"),
    ("choice", "native"),
    ("nll_excess", "held-out"),
    ("on_task", "held-out"),
    ("stopped", "held-out"),
)


@dataclass(frozen=True)
class Plan:
    """What every run shares. ``limit`` is the largest number of cases of each kind."""

    out: Path
    formats_seed: int
    limit: int = 48
    recall_examples: int = 200
    model: str = ""
    smoke: bool = False

    @property
    def formats(self) -> tuple[str, ...]:
        """Held-out ones; the native one is added by the evaluation."""
        return (*HELD_OUT, *(each.format(seed=self.formats_seed) for each in MADE_UP))


def read_recipes(file: Path = RECIPES) -> dict[str, dict[str, Any]]:
    """What each recipe changes, by name."""
    return tomllib.loads(file.read_text(encoding="utf-8"))


def config_of(changes: Mapping[str, Mapping[str, Any]], seed: int) -> TrainConfig:
    """The demo's settings with these changes. Raises HarnessError for unknown ones."""
    table = recipe().as_dict()
    table["data"]["train"] = []  # the whole shipped set, which all shipped controls belong to
    unmeasured = {"evaluation": {"references": 0, "recall_rows": 0}}
    table = with_changes(with_changes(table, changes), unmeasured)
    return parse_config({**table, "seed": seed}, str(RECIPES))


def measure(name: str, changes: Mapping[str, Mapping[str, Any]], seed: int, plan: Plan) -> Path:
    """Train the recipe unless that is done, evaluate it, and write its numbers to a file."""
    folder = plan.out / f"{name}-{seed}"
    config = prepared(config_of(changes, seed), plan.model, smoke=plan.smoke)
    config = replace(config, output_dir=str(folder / "train"))
    before, after = before_and_after(config, _job(config, plan), folder.name)
    numbers = {
        "recipe": name,
        "seed": seed,
        "formats_seed": plan.formats_seed,
        "changes": changes,
        "seconds": round(step_seconds(folder / "train"), 1),
        **numbers_of(before, after),
    }
    return write_numbers(folder, numbers)


def step_seconds(run: Path) -> float:
    """The time of a run's optimiser steps and of its teachers', also where it was resumed."""
    runs = (run, *sorted((run / TEACHERS_DIR).glob("*")))
    entries = (entry for each in runs for entry in read_metrics(each))
    return sum(float(entry["seconds"]) for entry in entries if entry["kind"] == "step")


def _job(config: TrainConfig, plan: Plan) -> EvalJob:
    return EvalJob(
        model=config.model,
        formats=plan.formats,
        limit=plan.limit,
        out=plan.out / "eval",  # one store for all, so that the base is scored once
        recall=True,
        train=tuple(source.path for source in config.data.sources()),
        settings=EvalSettings(
            recall_formats=2, recall_continued=0, recall_examples=plan.recall_examples
        ),
    )


def numbers_of(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """Each change with its 95 % interval, and the gain of the training answers over controls.

    A change is None where nothing was scored in both runs.
    """
    found: dict[str, Any] = {
        f"{group} {metric}": change_of(before, after, metric, group) for metric, group in CHANGES
    }
    closed = gap_closed(before, after)
    found["held-out gap closed"] = closed and asdict(closed)
    rows = after.recall.rows if after.recall else ()
    gain = next((row for row in rows if row.format == ALL_FORMATS and row.metric == GAIN), None)
    found["recall"] = gain and asdict(gain)
    return found
