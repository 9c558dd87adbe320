"""Teachers for out-of-fold distillation: what teaches a row was trained on other rows.

The rows are cut into folds. The teacher of a fold is an adapter that was trained on the answers of
all other rows, in the native format. So it predicts the answers of its own fold from what the rows
have in common, and not from memory, and the student learns these predictions (Split-AI and SELENA,
Tang et al. 2022, arXiv 2110.08324).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.models.adapters import attach_adapter, remove_adapter
from harness.models.architecture import context_window
from harness.run_file import ADAPTER_CONFIG
from harness.training.data.folds import cut_into_folds, teacher_config, teacher_examples
from harness.training.distill.teacher import Teacher, TeacherDistribution, teacher_distributions
from harness.training.loop import Trainer
from harness.training.objective import native_format_of

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.records import Encoded
    from harness.training.preparation import Preparation


def fold_teacher(
    ready: Preparation, loaded: LoadedModel, digest: str, *, quiet: bool = False
) -> Teacher | None:
    """A teacher that trains one adapter for each fold when it is asked, or resumes their training.

    Afterwards ``loaded`` carries no adapter. ``digest`` is that of the run. Returns None if the run
    has no folds.
    """
    if not ready.config.objective.teacher_folds:
        return None

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

    A trained one is used as it is: a branch has its trunk's teachers, whatever its own rate.
    """
    native = native_format_of(ready, loaded)
    config = teacher_config(ready.config, native.id, number)
    adapter = Path(config.output_dir) / "adapter"
    if (adapter / ADAPTER_CONFIG).is_file():
        attach_adapter(loaded, str(adapter))
        return
    window = context_window(loaded.model.config)
    cache = teacher_examples(config, ready.rows, fold, native, loaded.tokenizer, window)
    Trainer(config, loaded, cache, digest).run(quiet=quiet)
