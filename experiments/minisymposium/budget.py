"""The cost of the experiment before it is started: the tokens of every run at measured speeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.minisymposium.study import PARTS, Study, read_run
from harness.models import load_tokenizer, locate
from harness.models.architecture import context_window, read_config
from harness.training.config import TrainConfig
from harness.training.data.examples import make_plan
from harness.training.preparation import prepare

#: Measured on two cores on 2026-11-26 (docs/log.md), SmolLM2-135M in bfloat16: tokens a second of a
#: step, (case, format) pairs a second of a checkpoint.
TOKENS_PER_SECOND, PAIRS_PER_SECOND = 295.0, 12.0
#: How much slower a step is: distillation reads all logits, consistency a second text as well.
SLOWER = {"supervised": 1.0, "distillation": 1.5, "consistency": 2.2}
#: Seconds of an evaluation of the base, by kind.
EVALUATIONS = {
    "references": 19.0,
    "choices": 5.0,
    "symptoms": 24.0,
    "drift": 12.0,
    "headline": 75.0,
}


@dataclass(frozen=True, slots=True)
class PartCost:
    """The cost that one part adds to those before it: its new runs, and estimated minutes."""

    part: int
    runs: tuple[str, ...]
    steps: int
    tokens: int
    checkpoints: int
    training: float
    measuring: float


def costs(study: Study, folder: Path, parts: tuple[int, ...] = PARTS) -> list[PartCost]:
    """The parts in order. A run that several parts share is counted with the first."""
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
    """Steps, tokens, checkpoints, seconds of training and of measuring.

    Of an automatic branch only the branches are counted, as if all rounds were needed.
    """
    ready = prepare(config)
    source = locate(config.model)
    plan_cache, _ = ready.encode(load_tokenizer(source), context_window(read_config(source)))
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
        checkpoints * cells / PAIRS_PER_SECOND,
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
    counts = [(c.steps, c.tokens, c.checkpoints, c.training, c.measuring) for c in found]
    rows = [
        (str(cost.part), ", ".join(cost.runs) or "–", *count)
        for cost, count in zip(found, counts, strict=True)
    ]
    sums = [sum(column) for column in zip(*counts, strict=True)]
    rows.append(("all", f"{sum(len(cost.runs) for cost in found)} runs", *sums))
    lines += [
        f"| {part} | {runs} | {steps} | {tokens} | {checkpoints} | {train:.1f} | {measure:.1f} |"
        for part, runs, steps, tokens, checkpoints, train, measure in rows
    ]
    return [*lines, "", f"estimated: {sums[3] + sums[4]:.0f} minutes"]
