"""Teachers for out-of-fold distillation: what teaches a row was trained on other rows.

The rows are cut into folds. The teacher of a fold is an adapter that was trained, with the answers
and in the native format, on all rows outside it. A student that learns from it learns what the rows
have in common: neither ever had one of the row's own answers as its target where the teacher speaks
(Split-AI and SELENA, Tang et al. 2022, arXiv 2110.08324).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.models.adapters import attach_adapter, remove_adapter
from harness.models.architecture import context_window
from harness.run_file import ADAPTER_CONFIG
from harness.training.config import (
    AutoBranchConfig,
    EvaluationConfig,
    FormatsConfig,
    ObjectiveConfig,
    StoppingConfig,
    TrackingConfig,
    TrainConfig,
)
from harness.training.data.folds import cut_into_folds
from harness.training.data.training_rows import encoded_rows
from harness.training.distill.teacher import (
    TEACHERS_DIR,
    Teacher,
    TeacherDistribution,
    teacher_distributions,
)
from harness.training.loop import Trainer
from harness.training.objective import native_format_of

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.records import Encoded
    from harness.training.preparation import Preparation


def fold_teacher(
    ready: Preparation, loaded: LoadedModel, digest: str, *, quiet: bool = False
) -> Teacher:
    """A teacher that trains one adapter for each fold when it is asked, or resumes their training.

    Afterwards ``loaded`` carries no adapter. ``digest`` is that of the run.
    """

    def teach(rows: Mapping[str, Encoded]) -> dict[str, TeacherDistribution]:
        goal = ready.config.objective
        distributions: dict[str, TeacherDistribution] = {}
        folds = cut_into_folds(ready.conversations, goal.teacher_folds, ready.config.seed)
        for number, fold in enumerate(folds, 1):
            if not quiet:
                print(f"teacher {number} of {len(folds)}:", file=sys.stderr)
            _train(ready, loaded, fold, number, f"{digest}-{number}", quiet=quiet)
            own = [name for name in rows if name in fold]
            made = teacher_distributions(
                loaded, [rows[name] for name in own], goal.top_k, goal.temperature, adapted=True
            )
            distributions.update(zip(own, made, strict=True))
            remove_adapter(loaded)
        return distributions

    return teach


def teacher_config(config: TrainConfig, native: str, number: int) -> TrainConfig:
    """A teacher's settings: those of the run, but with the answers, in the native format alone."""
    return replace(
        config,
        output_dir=str(Path(config.output_dir) / TEACHERS_DIR / str(number)),
        adapter=replace(config.adapter, train_control_tokens=False),
        data=replace(config.data, on_refuse="skip", forged_turns=0.0),
        formats=FormatsConfig(train=(native,)),
        objective=ObjectiveConfig(),
        optimisation=replace(
            config.optimisation, num_train_epochs=config.objective.teacher_epochs, max_steps=0
        ),
        evaluation=EvaluationConfig(references=0, recall_rows=0),
        stopping=StoppingConfig(),
        auto_branch=AutoBranchConfig(),
        tracking=TrackingConfig(),
    )


def _train(
    ready: Preparation,
    loaded: LoadedModel,
    fold: frozenset[str],
    number: int,
    digest: str,
    *,
    quiet: bool,
) -> None:
    """Train the teacher of a fold, or resume it. ``loaded`` then carries its adapter.

    One that is trained is taken as it is: a branch has those of its trunk, whatever its own rate.
    """
    native = native_format_of(ready, loaded)
    config = teacher_config(ready.config, native.id, number)
    adapter = Path(config.output_dir) / "adapter"
    if (adapter / ADAPTER_CONFIG).is_file():
        attach_adapter(loaded, str(adapter))
        return
    others = tuple(row for row in ready.conversations if row.id not in fold)
    rows = replace(ready.rows, conversations=others, controls=(), set_aside=False)
    window = context_window(loaded.model.config)
    cache, _ = encoded_rows(config, rows, (native,), loaded.tokenizer, window)
    Trainer(config, loaded, cache, digest).run(quiet=quiet)
    loaded.model.eval()
