"""What the experiment will take, before it is started: tokens of every run at measured speeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.minisymposium.study import PARTS, Study, read_run
from harness.models import load_tokenizer, locate
from harness.training.config import TrainConfig
from harness.training.data.examples import make_plan
from harness.training.data.training_rows import encoded_rows
from harness.training.preparation import prepare

#: Measured on two cores on 2026-11-26 (docs/log.md), SmolLM2-135M in bfloat16: tokens a second of a step, cells a second of a checkpoint.
TOKENS_PER_SECOND, CELLS_PER_SECOND = 295.0, 12.0
#: Another objective reads the logits, and the consistency loss a second text.
SLOWER = {"supervised": 1.0, "distillation": 1.5, "consistency": 2.2}
#: Seconds of an evaluation of each kind, of the base.
EVALUATIONS = {
    "references": 19.0,
    "choices": 5.0,
    "symptoms": 24.0,
    "drift": 12.0,
    "headline": 75.0,
}


@dataclass(frozen=True, slots=True)
class PartCost:
    """What one part adds to those before it: runs that are not trained yet, their steps and tokens, and estimated minutes."""

    part: int
    runs: tuple[str, ...]
    steps: int
    tokens: int
    checkpoints: int
    training: float
    measuring: float


def costs(study: Study, folder: Path, parts: tuple[int, ...] = PARTS) -> list[PartCost]:
    """The parts in order; a run that several share is counted with the first."""
    counted: set[str] = set()
    found = []
    for part in parts:
        names = tuple(name for name in study.runs(part) if name not in counted)
        counted |= set(names)
        runs = [
            _run(read_run(folder, name, Path()), branch=name == study.auto_branch) for name in names
        ]
        steps, tokens, checkpoints, training, measuring = (
            (sum(values) for values in zip(*runs, strict=True)) if runs else (0, 0, 0, 0.0, 0.0)
        )
        found.append(
            PartCost(
                part,
                names,
                int(steps),
                int(tokens),
                int(checkpoints),
                training / 60,
                (measuring + _evaluations(study, folder, part)) / 60,
            )
        )
    return found


def _run(config: TrainConfig, *, branch: bool) -> tuple[int, int, int, float, float]:
    """Steps, tokens, checkpoints, seconds of training and of measuring. Of an automatic branch only the branches, at most all of its rounds."""
    ready = prepare(config)
    plan_cache = encoded_rows(
        config, ready.rows, ready.trained, load_tokenizer(locate(config.model))
    )[0]
    plan = make_plan(config, plan_cache)
    tokens = sum(len(plan_cache(pair).encoded.ids) for pair in plan.pairs())
    steps = plan.total_steps
    if branch:
        share = (
            config.auto_branch.branch_rounds
            * config.auto_branch.branch_epochs
            / config.optimisation.num_train_epochs
        )
        tokens, steps = round(tokens * share), round(steps * share)
    every = config.checkpoints.save_steps or max(1, -(-plan.total_steps // 4))
    checkpoints = 1 + -(-steps // every)  # the start and the end are measured too
    evaluation = config.evaluation
    cells = evaluation.references * (
        1
        + min(len(ready.trained), evaluation.formats_measured)
        + min(len(ready.held_out), evaluation.formats_measured)
    )
    cells += 2 * evaluation.recall_rows * 5
    return (
        steps,
        tokens,
        checkpoints,
        tokens / TOKENS_PER_SECOND * SLOWER[config.objective.kind],
        checkpoints * cells / CELLS_PER_SECOND,
    )


def _evaluations(study: Study, folder: Path, part: int) -> float:
    e = EVALUATIONS
    if part == 2:
        return (1 + len(study.symptom_steps)) * e["symptoms"]
    if part == 3:
        return 3 * len(study.pairs) * e["references"]
    if part == 6:
        return (1 + len(study.formats)) * (e["references"] + e["choices"]) + 3 * e["headline"]
    if part == 7:
        config = read_run(folder, study.drift, Path())
        return 11 * e["drift"] if config.checkpoints.save_steps else e["drift"]
    return 0.0


def table(found: list[PartCost]) -> list[str]:
    """The costs as lines of a Markdown table, with their sum."""
    lines = [
        "| part | runs | steps | tokens | checkpoints | training, min | measuring, min |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {cost.part} | {', '.join(cost.runs) or '–'} | {cost.steps} | {cost.tokens} | {cost.checkpoints} | {cost.training:.1f} | {cost.measuring:.1f} |"
        for cost in found
    ]
    training, measuring = (
        sum(cost.training for cost in found),
        sum(cost.measuring for cost in found),
    )
    total = f"| all | {sum(len(cost.runs) for cost in found)} runs | {sum(cost.steps for cost in found)} | {sum(cost.tokens for cost in found)} | {sum(cost.checkpoints for cost in found)} | {training:.1f} | {measuring:.1f} |"
    return [*lines, total, "", f"estimated: {training + measuring:.0f} minutes"]
