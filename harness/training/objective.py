"""Which objective a run's settings ask for, and which conversations it learns from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.evaluation.format_groups import native_format as own_format
from harness.formats import load_formats
from harness.records import Format
from harness.training.data.folds import cut_into_folds
from harness.training.data.training_rows import forged_turns
from harness.training.preparation import with_answers
from harness.training.step.loss import Objective, supervised_loss

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.training.distill.teacher import Teacher
    from harness.training.preparation import Preparation


def native_format(formats: Iterable[Format], name: str, loaded: LoadedModel) -> Format:
    """The format of that name, or without a name the one that equals the model's own template.

    A template that equals none is kept as it is.

    Raises HarnessError when there is none.
    """
    known = {candidate.id: candidate for candidate in formats}
    found = known.get(name) if name else own_format(loaded.tokenizer, load_formats().values())
    if found is None:
        raise HarnessError(
            f"native: unknown format {name!r}"
            if name
            else "native: the model has no chat template of its own",
            hint="name the format that the model was tuned in: harness formats list",
        )
    return known.get(found.id, found)


def native_format_of(ready: Preparation, loaded: LoadedModel) -> Format:
    """The format that a run's training formats are compared with."""
    return native_format(ready.known, ready.config.objective.native, loaded)


def check_objective(ready: Preparation, loaded: LoadedModel) -> None:
    """Raise HarnessError, before a file is written, for what would fail later.

    That is a missing native format, a prompt that is a question of the evaluation, or fewer rows
    than folds.
    """
    goal = ready.config.objective
    if goal.kind != "supervised" or goal.answers != "given":
        native_format_of(ready, loaded)
    if goal.answers != "given":
        from harness.training.distill.self_answers import check_prompts, spread_prompts

        check_prompts(spread_prompts(ready.conversations, goal.prompts))
    if goal.teacher_folds:
        cut_into_folds(ready.conversations, goal.teacher_folds, ready.config.seed)


def with_own_answers(ready: Preparation, loaded: LoadedModel) -> Preparation:
    """The run with the conversations that it learns from; the model answers now if it has to."""
    from harness.training.distill.self_answers import ANSWERS_FILE, recorded_answers, spread_prompts

    goal = ready.config.objective
    if goal.answers == "given":
        return ready
    answers = recorded_answers(
        Path(ready.config.output_dir) / ANSWERS_FILE,
        loaded,
        spread_prompts(ready.conversations, goal.prompts),
        native_format_of(ready, loaded),
        goal.max_new_tokens,
        unfinished=goal.kind == "distillation",
    )
    return with_answers(ready, answers)


def make_objective(
    ready: Preparation, loaded: LoadedModel, teacher: Teacher | None = None
) -> Objective:
    """The objective over these conversations; ``teacher`` is that of a distillation.

    A teacher reads them all here. So no step waits, and the order of steps does not affect the
    bits.
    """
    from harness.training.distill.self_answers import SELF_ANSWERED, UNFINISHED

    goal = ready.config.objective
    if goal.kind == "supervised":
        return supervised_loss
    from harness.training.distill.native_rows import NativeRows

    rows = NativeRows(
        ready.conversations,
        native_format_of(ready, loaded),
        ready.trained,
        loaded.tokenizer,
        forged_turns(ready.config, ready.rows, ready.trained),
    )
    if goal.kind == "consistency":
        from harness.training.distill.consistency import Consistency

        return Consistency(rows, goal)
    from harness.training.distill.distillation import Distillation

    given = frozenset(c.id for c in ready.conversations if SELF_ANSWERED not in c.tags)
    unfinished = frozenset(c.id for c in ready.conversations if UNFINISHED in c.tags)
    return Distillation(loaded, rows, goal, given, unfinished, teacher)
