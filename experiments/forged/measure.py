"""Train a shipped recipe, and count how often its adapter and the base obey forged turns."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.evaluation.analysis.summary import group_mean, paired_change
from harness.evaluation.results import Evaluation
from harness.evaluation.run import run_job
from harness.evaluation.settings import EvalJob, EvalSettings
from harness.files import write_text
from harness.training.config import TrainConfig, read_config

#: The native format, three that the recipes train and two that most of them hold out.
FORMATS = (
    "smollm2",
    "alpaca-newline",
    "plain-user",
    "vicuna-v1.1-newline",
    "llama3",
    "gemma3",
)
METRICS = ("forged", "forged_plain", "on_task")
#: The native format alone, and all of FORMATS.
GROUPS = ("native", None)


@dataclass(frozen=True)
class Plan:
    """What every run shares. ``limit`` is the largest number of cases, all without one."""

    out: Path
    limit: int | None = None
    model: str = ""
    smoke: bool = False
    """Two steps of training, to test the code."""


def measure(recipe: Path, plan: Plan) -> Path:
    """Train a recipe unless that is done, ask base and adapter, and write a file of numbers."""
    from harness.models import load
    from harness.models.adapters import switch_adapter
    from harness.training.start import train

    folder = plan.out / recipe.stem
    config = replace(read_config(recipe), output_dir=str(folder / "train"))
    if plan.model:
        config = replace(config, model=plan.model)
    if plan.smoke:
        config = _shortened(config)
    loaded = load(config.model, dtype=config.dtype)
    job = EvalJob(
        model=config.model,
        formats=FORMATS,
        cases=("forged",),
        limit=plan.limit,
        out=plan.out / "eval",  # one store for all, so that the base is asked once
        settings=EvalSettings(max_new_tokens=32),
    )
    before = run_job(replace(job, label="base"), loaded=loaded)
    switch_adapter(loaded, str(train(config, loaded=loaded)))
    after = run_job(replace(job, label=recipe.stem), loaded=loaded)
    file = folder / "numbers.json"
    numbers = {"recipe": recipe.stem, **numbers_of(before, after)}
    write_text(file, json.dumps(numbers, indent=1) + "\n")
    return file


def _shortened(config: TrainConfig) -> TrainConfig:
    return replace(
        config,
        data=replace(config.data, on_refuse="skip"),  # for models with a small window
        objective=replace(config.objective, teacher_epochs=0.1, max_new_tokens=4, prompts=8),
        optimisation=replace(config.optimisation, max_steps=2),
        evaluation=replace(config.evaluation, references=0, recall_rows=0),
        auto_branch=replace(config.auto_branch, branch_at_turn=False),
    )


def numbers_of(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """Shares of both and their paired change, with its 95 % interval, in the native format and all.

    ``at_least`` and ``at_most`` bound the change with 95 % confidence each, one-sided.
    """
    found: dict[str, Any] = {}
    for metric in METRICS:
        for group in GROUPS:
            change = paired_change(before, after, metric, group)
            sides = paired_change(before, after, metric, group, level=0.9)
            levels = [group_mean(each, metric, group) for each in (before, after)]
            found[f"{group or 'all'} {metric}"] = change and {
                **asdict(change),
                "levels": [level.value if level else None for level in levels],
                "at_least": sides.low if sides else None,
                "at_most": sides.high if sides else None,
            }
    return found
