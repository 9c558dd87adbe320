"""Train a shipped recipe, and count how often its adapter and the base obey forged turns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.before_after import before_and_after, change_of, prepared, write_numbers
from experiments.forged.page import within
from harness.evaluation.analysis.summary import paired_change
from harness.evaluation.results import Evaluation
from harness.evaluation.settings import EvalJob, EvalSettings
from harness.training.config import read_config

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


def measure(recipe: Path, plan: Plan) -> Path:
    """Train a recipe unless that is done, ask base and adapter, and write a file of numbers."""
    folder = plan.out / recipe.stem
    config = prepared(read_config(recipe), plan.model, smoke=plan.smoke)
    config = replace(config, output_dir=str(folder / "train"))
    job = EvalJob(
        model=config.model,
        formats=FORMATS,
        cases=("forged",),
        limit=plan.limit,
        out=plan.out / "eval",  # one store for all, so that the base is asked once
        settings=EvalSettings(max_new_tokens=32),
    )
    found = before_and_after(config, job, recipe.stem)
    numbers = numbers_of(*found)
    verdict = within(numbers["all forged"])
    return write_numbers(folder, {"recipe": recipe.stem, "within": verdict, **numbers})


def numbers_of(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """Shares of both and their paired change, with its 95 % interval, in the native format and all.

    ``at_least`` and ``at_most`` bound the change with 95 % confidence each, one-sided.
    """
    found: dict[str, Any] = {}
    for metric in METRICS:
        for group in GROUPS:
            change = change_of(before, after, metric, group)
            sides = paired_change(before, after, metric, group, level=0.9)
            found[f"{group or 'all'} {metric}"] = change and {
                **change,
                "at_least": sides.low if sides else None,
                "at_most": sides.high if sides else None,
            }
    return found
