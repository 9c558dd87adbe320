"""A new run from a checkpoint of another, with some settings changed.

The function of the weights stays. Under another lora_alpha, B is divided by the factor that the
scale is multiplied with, so that the adapter computes the same.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from harness.data.controls import write_controls
from harness.errors import HarnessError
from harness.files import atomic_folder, read_json_object
from harness.models import ADAPTER_FILE, require_base
from harness.models.tensor_files import read_tensors
from harness.run_file import (
    ADAPTER_CONFIG,
    METRICS_FILE,
    Branch,
    measured_checkpoints,
    require_run_metadata,
    write_run_metadata,
)
from harness.training.config import TrainConfig
from harness.training.preparation import (
    Preparation,
    config_of_run,
    metadata_of_run,
    plan_of,
    prepare,
    run_digest,
)
from harness.training.runs.checkpoints import (
    BRANCHES_FILE,
    OPTIMIZER_FILE,
    STATE_FILE,
    checkpoint_dirs,
    read_state,
    step_of,
    write_state,
)
from harness.training.runs.overrides import differences, read_setting, short_name, with_settings
from harness.training.runs.run_tree import mark_branch
from harness.training.selection.best_checkpoint import find_best_checkpoint

#: Settings that the function of the weights depends on, and those of them that may still change.
_FIXED = ("model", "adapter.", "quantisation.")
_FREE = ("adapter.lora_alpha", "adapter.lora_dropout")


@dataclass(frozen=True, slots=True)
class BranchRequest:
    """What to branch and how."""

    run: Path
    at: str
    """step:N, epoch:E, before-turn or last."""
    settings: tuple[str, ...] = ()
    """Changed settings, as name=value."""
    optimizer: Literal["keep", "reset"] = "keep"
    schedule: Literal["restart", "continue"] = "restart"
    """Whether the schedule starts over, over the branch's own steps, or continues the trunk's."""
    rescale_b: bool = False
    epochs: float = 0.0
    """The branch's own length; overrides num_train_epochs in ``settings``."""
    out: Path | None = None


class NothingLeftError(HarnessError):
    """The checkpoint lies at the end of the run that is asked for."""


def make_branch(request: BranchRequest) -> Path:
    """Write the new run's folder, ready for ``resume``, and return it.

    It has its own copy of the checkpoint, so the trunk can be removed. Raises HarnessError for a
    checkpoint that does not exist and for settings under which the weights would have another
    meaning, and NothingLeftError when no step would be left to train.
    """
    run = request.run
    checkpoint = find_checkpoint(run, request.at)
    trunk = config_of_run(run)
    state = read_state(checkpoint)
    settings = dict(read_setting(text, trunk) for text in request.settings)
    config = with_settings(trunk, settings, where="--set")
    if request.epochs:
        epochs = state["epoch"] + request.epochs
        config = replace(config, optimisation=replace(config.optimisation, num_train_epochs=epochs))
    changed = differences(trunk, config)
    factor = _check(trunk, config, changed, request.rescale_b)
    name = "_".join(filter(None, [f"step-{state['step']}", short_name(changed)]))
    out = request.out or run / "branches" / name
    if out.exists():
        raise HarnessError(
            "the folder exists already",
            where=str(out),
            hint="resume it with harness resume, or give --out",
        )
    ready = prepare(replace(config, output_dir=str(out)), trunk=run)
    start = _start(ready, run, state)
    parent = require_run_metadata(run)
    trunk_start = parent.branch.schedule_from if parent.branch else 0
    branch = Branch(
        os.path.relpath(run, out),
        parent.digest,
        int(state["step"]),
        start,
        start if request.schedule == "restart" else trunk_start,
        request.optimizer,
        changed,
        factor,
    )
    with atomic_folder(out, what="branch", hint="free some space and branch again") as folder:
        _fill(folder, ready, checkpoint, branch, state)
        _copy_lessons(folder, run, trunk, config)
        _copy_measured(folder, run, trunk, branch, config)
    if checkpoint.is_dir():
        mark_branch(run, checkpoint, out)
    return out


def find_checkpoint(run: Path, at: str) -> Path:
    """The checkpoint at step:N, epoch:E (the newest up to there), before-turn or last.

    Raises HarnessError when there is none.
    """
    require_run_metadata(run)
    checkpoints = checkpoint_dirs(run)
    if not checkpoints:
        raise HarnessError("no checkpoint", where=str(run))
    kind, _, number = at.partition(":")
    if at == "last":
        return checkpoints[-1]
    if at == "before-turn":
        best = find_best_checkpoint(run)
        if best.checkpoint is None:
            raise HarnessError(
                f"no checkpoint before the turning point. {best.reason}", where=str(run)
            )
        return Path(best.checkpoint)
    try:
        if kind == "step":
            matches = [path for path in checkpoints if step_of(path) == int(number)]
        else:
            epoch = {"epoch": float}[kind](number) + 1e-9
            matches = [path for path in checkpoints if read_state(path)["epoch"] <= epoch]
    except (ValueError, KeyError):
        raise HarnessError(
            f"invalid --from {at!r}", hint="give step:N, epoch:E, before-turn or last"
        ) from None
    if not matches:
        steps = ", ".join(str(step_of(path)) for path in checkpoints)
        raise HarnessError(
            f"no checkpoint at {at}", where=str(run), hint=f"there are steps {steps}"
        )
    return matches[-1]


def _check(
    trunk: TrainConfig, config: TrainConfig, changed: dict[str, Any], rescale: bool
) -> float:
    """The factor for B that keeps the function. Raises HarnessError for changes that cannot."""
    for name in changed:
        if name.startswith(_FIXED) and name not in _FREE:
            raise HarnessError(
                f"--set {name}: the checkpoint's weights would have another meaning",
                hint="start a new run",
            )
    before, after = trunk.adapter.lora_alpha, config.adapter.lora_alpha
    factor = before / after
    if factor != 1 and not rescale:
        raise HarnessError(
            f"lora_alpha {before:g} → {after:g} would multiply the adapter's output by "
            f"{1 / factor:g}",
            hint="--rescale-b keeps the function and changes only how fast it is learnt on",
        )
    if factor == 1 and rescale:
        raise HarnessError("--rescale-b: lora_alpha is not changed", hint="--set lora_alpha=…")
    return factor


def _start(ready: Preparation, run: Path, state: dict[str, Any]) -> int:
    """The branch's step at the epoch where its checkpoint was written."""
    plan = plan_of(ready, run)
    epoch, epochs = state["epoch"], ready.config.optimisation.num_train_epochs
    start = max(1, round(plan.step_at(epoch)))
    if start >= plan.total_steps:
        raise NothingLeftError(
            f"nothing is left to train: the checkpoint is at epoch {epoch:g} of {epochs:g}",
            hint=f"--set num_train_epochs={epoch + 1:g} or more",
        )
    return start


def _copy_lessons(folder: Path, run: Path, trunk: TrainConfig, config: TrainConfig) -> None:
    """Copy what the trunk's model and teachers made, where the branch would make the same."""
    from harness.training.data.folds import TEACHERS_DIR
    from harness.training.distill.self_answers import ANSWERS_FILE

    if config.objective != trunk.objective:
        return
    if (run / ANSWERS_FILE).is_file():
        shutil.copyfile(run / ANSWERS_FILE, folder / ANSWERS_FILE)
    same_rows = (config.data, config.seed) == (trunk.data, trunk.seed)
    if same_rows and (run / TEACHERS_DIR).is_dir():
        adapters_alone = shutil.ignore_patterns("checkpoint-*")
        shutil.copytree(run / TEACHERS_DIR, folder / TEACHERS_DIR, ignore=adapters_alone)


def _fill(
    folder: Path, ready: Preparation, checkpoint: Path, branch: Branch, state: dict[str, Any]
) -> None:
    base = require_base(checkpoint)
    digest = run_digest(ready, base["digest"], branch)
    write_run_metadata(folder, metadata_of_run(ready, digest, branch))
    write_controls(folder, ready.rows.controls)  # the tree's first run may be removed
    start = folder / f"checkpoint-{branch.step}"
    start.mkdir()
    for file in checkpoint.iterdir():
        if file.is_file() and file.name not in (STATE_FILE, BRANCHES_FILE):
            shutil.copyfile(file, start / file.name)
    if branch.rescaled_b != 1:
        alpha, moments = ready.config.adapter.lora_alpha, branch.optimizer == "keep"
        rescale_b(start, branch.rescaled_b, alpha, moments=moments)
    if branch.optimizer == "reset":
        from safetensors.torch import save_file

        save_file({}, start / OPTIMIZER_FILE)
    state = {**state, "digest": digest, "step": branch.step, "config": ready.config.as_dict()}
    write_state(start, state)


def _copy_measured(
    folder: Path, run: Path, trunk: TrainConfig, branch: Branch, config: TrainConfig
) -> None:
    """Copy the trunk's metrics of the checkpoint if the branch would measure the same.

    The function of the weights has not changed.
    """
    parts = ("model", "dtype", "data", "formats", "evaluation")
    if any(getattr(trunk, part) != getattr(config, part) for part in parts):
        return
    for entry in measured_checkpoints(run):
        if entry["step"] == branch.parent_step:
            text = json.dumps({**entry, "step": branch.step}) + "\n"
            (folder / METRICS_FILE).write_text(text, encoding="utf-8")


#: How Adam's moments change when B is multiplied by f: its gradient is divided by f.
_POWERS = {"step": 0, "exp_avg": -1, "exp_avg_sq": -2, "max_exp_avg_sq": -2}


def rescale_b(checkpoint: Path, factor: float, lora_alpha: float, *, moments: bool) -> None:
    """Multiply every B of a checkpoint by ``factor`` and set its lora_alpha.

    The adapter adds (alpha / r) · B(A(x)). With alpha divided by the factor the sum is the same.
    The gradient of B is divided by it, so Adam's first moment is too, and the second twice. Raises
    HarnessError for the moments of another optimiser.
    """
    from safetensors.torch import save_file

    weights = read_tensors(checkpoint / ADAPTER_FILE)
    save_file(
        {name: weight * factor if _is_b(name) else weight for name, weight in weights.items()},
        checkpoint / ADAPTER_FILE,
        {"format": "pt"},
    )
    config_file = checkpoint / ADAPTER_CONFIG
    config = {**read_json_object(config_file), "lora_alpha": lora_alpha}
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if not moments:
        return
    scaled = {}
    for name, value in read_tensors(checkpoint / OPTIMIZER_FILE).items():
        parameter, field = name.rsplit("|", 1)
        if _is_b(parameter) and field not in _POWERS:
            raise HarnessError(
                f"the optimiser's {field!r} cannot be rescaled", hint="--optimizer reset"
            )
        power = _POWERS[field] if _is_b(parameter) else 0
        scaled[name] = value * factor**power if power else value
    save_file(scaled, checkpoint / OPTIMIZER_FILE)


def _is_b(name: str) -> bool:
    return "lora_B" in name or "lora_embedding_B" in name
