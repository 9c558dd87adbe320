"""The cost of the experiment before it is started: the tokens of every run at measured speeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.minisymposium.study import Study
from harness.errors import HarnessError
from harness.models import load_tokenizer, locate
from harness.models.architecture import context_window, read_config
from harness.training.data.examples import make_plan
from harness.training.preparation import prepare

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Speed:
    """Measured speeds of a model on two cores that do nothing else (docs/log.md)."""

    tokens: float
    """Tokens a second of a supervised step, of whole conversations."""
    checkpoint: float
    """(case, format) pairs a second that a checkpoint scores."""
    scored: float
    """(case, format) pairs a second that an evaluation scores."""
    answered: float
    """Answers a second, of 48 tokens."""


#: Model → its speeds. SmolLM2's tokens a second are those of the runs of 26 November without their
#: checkpoints. Gemma's are of one thread, in processor time.
SPEEDS = {
    "SmolLM2-135M-Instruct": Speed(765.0, 12.0, 25.0, 9.0),
    "gemma-3-270m": Speed(105.0, 2.2, 4.4, 0.73),
}
#: How much slower a step is: distillation reads all logits, consistency a second text as well.
SLOWER = {"supervised": 1.0, "distillation": 1.5, "consistency": 2.2}
#: Rows and controls whose answers are continued from three prefixes, in as many formats (part 2).
RECALLED, RECALL_FORMATS, CONTINUED = 24, 2, 3
#: The questions of a headline evaluation: kinds of cases that are scored and that are answered.
HEADLINE_KINDS = 2, 4


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


def costs(study: Study, parts: Sequence[int] = ()) -> list[PartCost]:
    """The parts in order. A run that several parts share is counted with the first.

    Raises HarnessError for a model whose speeds were not measured.
    """
    if study.model not in SPEEDS:
        raise HarnessError(
            f"the speeds of {study.model} were not measured",
            hint=f"known are those of {', '.join(SPEEDS)}",
        )
    speed = SPEEDS[study.model]
    source = locate(study.model)
    tokenizer, window = load_tokenizer(source), context_window(read_config(source))
    counted: set[str] = set()
    found = []
    for part in parts or study.parts:
        names = tuple(name for name in study.runs(part) if name not in counted)
        counted |= set(names)
        runs = [_run(study, name, speed, tokenizer, window) for name in names]
        steps, tokens, checkpoints, training, measuring = (
            (sum(values) for values in zip(*runs, strict=True)) if runs else (0, 0, 0, 0.0, 0.0)
        )
        scored, answered = _evaluated(study, part)
        measuring += scored / speed.scored + answered / speed.answered
        found.append(
            PartCost(
                part,
                names,
                int(steps),
                int(tokens),
                int(checkpoints),
                training / 60,
                measuring / 60,
            )
        )
    return found


def _run(
    study: Study,
    name: str,
    speed: Speed,
    tokenizer: PreTrainedTokenizerBase,
    window: int | None,
) -> tuple[int, int, int, float, float]:
    """Steps, tokens, checkpoints, seconds of training and of measuring.

    Of an automatic branch only the branches are counted, as if all rounds were needed.
    """
    config = study.config(name)
    ready = prepare(config)
    plan_cache, _ = ready.encode(tokenizer, window)
    plan = make_plan(config, plan_cache)
    tokens = sum(len(plan_cache(pair).encoded.ids) for pair in plan.pairs())
    steps = plan.total_steps
    if name == study.auto_branch:
        branches = config.auto_branch
        share = branches.branch_rounds * branches.branch_epochs
        share /= config.optimisation.num_train_epochs
        tokens, steps = round(tokens * share), round(steps * share)
    every = config.checkpoints.save_steps or max(1, -(-plan.total_steps // 4))
    checkpoints = 1 + -(-steps // every)  # the start and the end are measured too
    evaluation = config.evaluation
    native = 0 if study.native else 1  # a base model has no native format at its checkpoints
    seen, held_out = (
        min(len(group), evaluation.formats_measured) for group in (ready.trained, ready.held_out)
    )
    rows = min(evaluation.recall_rows, len(ready.conversations))
    recalled = rows + min(evaluation.recall_rows, len(ready.rows.controls))
    pairs = evaluation.references * (native + seen + held_out) + recalled * (native + 4)
    return (
        steps,
        tokens,
        checkpoints,
        tokens / speed.tokens * SLOWER[config.objective.kind],
        checkpoints * pairs / speed.checkpoint,
    )


def _evaluated(study: Study, part: int) -> tuple[float, float]:
    """(case, format) pairs that a part scores and answers, besides those of its checkpoints."""
    native = 0 if study.native in study.seen else 1  # it is measured with every set of formats
    reported = study.reference_cases * (1 + len(study.reported or study.held_out))
    every_format = 1 + len(study.seen) + len(study.held_out)
    symptoms = (1 + len(study.symptom_steps)) * (3 + native) * study.symptom_cases
    recalled = (1 + len(study.symptom_steps)) * RECALLED * RECALL_FORMATS
    if part == 6:
        each = study.reference_cases * every_format + 120
        scored, answered = (kinds * study.headline_cases * every_format for kinds in HEADLINE_KINDS)
        return (1 + len(study.formats)) * each + 3 * scored, 3 * answered
    if part == 7:
        config = study.config(study.drift)
        seen = len(study.drift_steps) or 11 if config.checkpoints.save_steps else 1
        asked = (1 + seen) * (2 + native) * study.drift_cases
        return asked, asked
    models = {
        2: 2,
        3: 4 * len(study.pairs),
        4: 2 + len(study.schedules),
        5: 1 + len(study.alpha_raw) + len(study.alpha_compensated),
        9: 2,
    }.get(part, 0)
    if part == 2:
        return symptoms + recalled + models * reported, symptoms + CONTINUED * recalled
    return models * reported, 0


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
