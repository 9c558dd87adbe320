"""Which objective a run's settings ask for, and which conversations it learns from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.evaluation.format_groups import native_format_id
from harness.formats import load_formats
from harness.records import Format
from harness.training.step.loss import Objective, supervised_loss

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.training.preparation import Preparation


def native_format_of(ready: Preparation, loaded: LoadedModel) -> Format:
    """The format that a run's drawn ones are held against."""
    return native_format(ready.known, ready.config.objective.native, loaded)


def native_format(formats: Iterable[Format], name: str, loaded: LoadedModel) -> Format:
    """The format of that name, or the one that equals the model's own template. Raises HarnessError when there is none."""
    known = {format.id: format for format in formats}
    wanted = name or native_format_id(loaded.tokenizer, load_formats().values()) or ""
    if wanted not in known:
        problem = (
            f"unknown format {wanted!r}"
            if wanted
            else "no known format equals the model's own chat template"
        )
        raise HarnessError(
            f"native: {problem}",
            hint="name the format that the model was tuned in: harness formats list",
        )
    return known[wanted]


def check_objective(ready: Preparation, loaded: LoadedModel) -> None:
    """Raise HarnessError for what would fail later, before a file is written: no native format, a prompt that the evaluation asks."""
    goal = ready.config.objective
    if goal.kind != "supervised" or goal.answers != "given":
        native_format_of(ready, loaded)
    if goal.answers != "given":
        from harness.training.distill.self_answers import check_prompts, spread

        check_prompts(spread(ready.conversations, goal.prompts))


def with_answers(ready: Preparation, loaded: LoadedModel) -> Preparation:
    """The run with the conversations that it really learns from: given ones, the model's own answers, or both."""
    from harness.training.distill.self_answers import ANSWERS_FILE, kept_answers, spread

    goal = ready.config.objective
    if goal.answers == "given":
        return ready
    prompts = spread(ready.conversations, goal.prompts)
    file, native = Path(ready.config.output_dir) / ANSWERS_FILE, native_format_of(ready, loaded)
    own = kept_answers(
        file, loaded, prompts, native, goal.max_new_tokens, unfinished=goal.kind == "distillation"
    )
    learnt = (*own,) if goal.answers == "self" else (*ready.conversations, *own)
    return replace(ready, rows=replace(ready.rows, conversations=learnt))


def make_objective(ready: Preparation, loaded: LoadedModel) -> Objective:
    """The objective over these conversations. A teacher reads them all here, so that no step waits and the bits never depend on the order of steps."""
    from harness.training.distill.self_answers import SELF_ANSWERED, UNFINISHED

    goal = ready.config.objective
    if goal.kind == "supervised":
        return supervised_loss
    from harness.training.distill.alignment import NativeRows

    rows = NativeRows(
        ready.conversations, native_format_of(ready, loaded), ready.trained, loaded.tokenizer
    )
    if goal.kind == "consistency":
        from harness.training.distill.consistency import Consistency

        return Consistency(rows, goal)
    from harness.training.distill.distillation import Distillation

    given = frozenset(
        conversation.id
        for conversation in ready.conversations
        if SELF_ANSWERED not in conversation.tags
    )
    unfinished = frozenset(
        conversation.id for conversation in ready.conversations if UNFINISHED in conversation.tags
    )
    return Distillation(loaded, rows, goal, given, unfinished)
