"""What experiments share: a recipe that is trained once, and its base and adapter compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.evaluation.analysis.summary import group_mean, paired_change
from harness.evaluation.results import Evaluation
from harness.evaluation.run import run_job
from harness.evaluation.settings import EvalJob
from harness.files import write_text
from harness.training.config import TrainConfig

NUMBERS_FILE = "numbers.json"


@dataclass(frozen=True)
class ExperimentOptions:
    model: str = ""
    """A model in place of the recipes' own."""
    smoke: bool = False
    """A few steps and cases of everything, to test the code. Its numbers mean nothing."""
    page: str = ""
    """Only write the results in --out into this page, and their numbers into the folder next to it.
    What has no results in --out keeps its own."""


def with_changes(
    table: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """A recipe as a table, with some keys of its sections changed."""
    changed = {section: {**table.get(section, {}), **keys} for section, keys in changes.items()}
    return {**table, **changed}


def prepared(config: TrainConfig, model: str, *, smoke: bool) -> TrainConfig:
    """The settings with ``model``, if given; for a smoke run with two steps, each a checkpoint."""
    config = replace(config, model=model or config.model)
    if not smoke:
        return config
    rows = min(4, config.evaluation.recall_rows)
    return replace(
        config,
        data=replace(config.data, on_refuse="skip"),  # for models with a small window
        objective=replace(config.objective, teacher_epochs=0.1, max_new_tokens=4, prompts=8),
        optimisation=replace(config.optimisation, max_steps=2),
        evaluation=replace(config.evaluation, references=0, recall_rows=rows),
        checkpoints=replace(config.checkpoints, save_steps=1),
        auto_branch=replace(config.auto_branch, branch_at_turn=False),
    )


def before_and_after(
    config: TrainConfig, job: EvalJob, label: str
) -> tuple[Evaluation, Evaluation]:
    """Evaluate the base, train the recipe unless that is done, and evaluate its adapter."""
    from harness.models import load
    from harness.models.adapters import switch_adapter
    from harness.training.start import train

    loaded = load(config.model, dtype=config.dtype)
    before = run_job(replace(job, label="base"), loaded=loaded)
    switch_adapter(loaded, str(train(config, loaded=loaded)))
    return before, run_job(replace(job, label=label), loaded=loaded)


def change_of(
    before: Evaluation, after: Evaluation, metric: str, group: str | None
) -> dict[str, Any] | None:
    """A metric's paired change with its 95 % interval, and both ``levels``.

    None where nothing was scored in both. ``group`` None: in all formats.
    """
    change = paired_change(before, after, metric, group)
    if change is None:
        return None
    levels = [group_mean(each, metric, group) for each in (before, after)]
    return {**asdict(change), "levels": [level.value if level else None for level in levels]}


def write_numbers(folder: Path, numbers: Mapping[str, Any]) -> Path:
    """Write the numbers of a run into its folder. Returns the file."""
    file = folder / NUMBERS_FILE
    write_text(file, json.dumps(numbers, indent=1) + "\n")
    return file


def read_numbers(out: Path) -> dict[str, dict[str, Any]]:
    """The numbers of all finished runs, by the name of the run's folder."""
    files = out.glob(f"*/{NUMBERS_FILE}")
    return {file.parent.name: json.loads(file.read_text("utf-8")) for file in files}
