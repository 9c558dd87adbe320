"""A new run from a checkpoint of another, with some settings changed and the weights' function as it was.

A checkpoint under another lora_alpha: B divided by what the scale is multiplied with, so that the adapter computes the same.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from harness.errors import HarnessError
from harness.files import whole
from harness.models import ADAPTER_FILE, BASE_FILE
from harness.run_file import Branch, require_run_metadata, write_run_metadata
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
from harness.training.runs.metrics_log import METRICS_FILE, measured_checkpoints
from harness.training.runs.overrides import differences, read_setting, short_name, with_settings
from harness.training.runs.run_tree import mark_branch
from harness.training.selection.best_checkpoint import find_best_checkpoint

#: What the function of a checkpoint's weights rests on; the two that may change are dealt with below.
_FIXED = ("model", "adapter.", "quantisation.")
_FREE = ("adapter.lora_alpha", "adapter.lora_dropout")


@dataclass(frozen=True, slots=True)
class BranchRequest:
    """What to branch and how. ``at`` is step:N, epoch:E, before-turn or last; ``settings`` are name=value.

    ``schedule`` "restart" begins the schedule at the branch, over the branch's own steps; "continue" goes on where the
    trunk's was. ``epochs`` is the branch's own length, over what ``settings`` say of num_train_epochs.
    """

    run: Path
    at: str
    settings: tuple[str, ...] = ()
    optimizer: Literal["keep", "reset"] = "keep"
    schedule: Literal["restart", "continue"] = "restart"
    rescale_b: bool = False
    epochs: float = 0.0
    out: Path | None = None


def make_branch(request: BranchRequest) -> Path:
    """Write the new run's folder, ready to be trained with ``resume``, and return it.

    It holds its own copy of the checkpoint, so it lives when the trunk is removed. Raises HarnessError for a checkpoint that is not there,
    for settings under which the weights would mean something else, and when no step would be left to train.
    """
    run = request.run
    checkpoint = find_checkpoint(run, request.at)
    trunk = config_of_run(run)
    state = read_state(checkpoint)
    config = with_settings(
        trunk, dict(read_setting(text, trunk) for text in request.settings), where="--set"
    )
    if request.epochs:
        config = replace(
            config,
            optimisation=replace(
                config.optimisation, num_train_epochs=state["epoch"] + request.epochs
            ),
        )
    changed = differences(trunk, config)
    factor = _check(trunk, config, changed, request.rescale_b)
    out = request.out or run / "branches" / "_".join(
        filter(None, [f"step-{state['step']}", short_name(changed)])
    )
    if out.exists():
        raise HarnessError(
            "there is something already",
            where=str(out),
            hint="resume it with harness resume, or give --out",
        )
    config = replace(config, output_dir=str(out))
    ready = prepare(config)
    start = _start(ready, run, state)
    note = require_run_metadata(run)
    origin = note.branch.schedule_from if note.branch else 0
    branch = Branch(
        os.path.relpath(run, out),
        note.digest,
        int(state["step"]),
        start,
        start if request.schedule == "restart" else origin,
        request.optimizer,
        changed,
        factor,
    )
    with whole(out, what="branch", hint="free some space and branch again") as folder:
        _fill(folder, ready, checkpoint, branch, state)
        from harness.training.distill.self_answers import ANSWERS_FILE

        if (
            run / ANSWERS_FILE
        ).is_file() and config.objective == trunk.objective:  # the very same texts
            shutil.copyfile(run / ANSWERS_FILE, folder / ANSWERS_FILE)
        _copy_measured(folder, run, trunk, branch, config)
    if checkpoint.is_dir():
        mark_branch(run, checkpoint, out)
    return out


def find_checkpoint(run: Path, at: str) -> Path:
    """The checkpoint that step:N, epoch:E (the newest up to there), before-turn or last means. Raises HarnessError when there is none."""
    require_run_metadata(run)
    found = checkpoint_dirs(run)
    if not found:
        raise HarnessError("no checkpoint", where=str(run))
    kind, _, number = at.partition(":")
    if at == "last":
        return found[-1]
    if at == "before-turn":
        picked = find_best_checkpoint(run)
        if picked.checkpoint is None:
            raise HarnessError(f"no checkpoint before the turn. {picked.reason}", where=str(run))
        return Path(picked.checkpoint)
    try:
        if kind == "step":
            return next(path for path in found if step_of(path) == int(number))
        if kind == "epoch":
            return [path for path in found if read_state(path)["epoch"] <= float(number) + 1e-9][-1]
    except (StopIteration, IndexError):
        raise HarnessError(
            f"no checkpoint at {at}",
            where=str(run),
            hint="there are steps " + ", ".join(str(step_of(path)) for path in found),
        ) from None
    except ValueError:
        pass
    raise HarnessError(
        f"--from {at!r} is no place", hint="give step:N, epoch:E, before-turn or last"
    )


def _check(
    trunk: TrainConfig, config: TrainConfig, changed: dict[str, Any], rescale: bool
) -> float:
    """The factor for B under which the function stays what it was. Raises HarnessError for a change that cannot keep it."""
    for name in changed:
        if name.startswith(_FIXED) and name not in _FREE:
            raise HarnessError(
                f"--set {name}: the checkpoint's weights would mean something else",
                hint="start a new run",
            )
    factor = trunk.adapter.lora_alpha / config.adapter.lora_alpha
    if factor != 1 and not rescale:
        raise HarnessError(
            f"lora_alpha {trunk.adapter.lora_alpha:g} → {config.adapter.lora_alpha:g} would multiply what the adapter adds by {1 / factor:g}",
            hint="--rescale-b keeps the function and changes only how fast it is learnt on",
        )
    if factor == 1 and rescale:
        raise HarnessError("--rescale-b: lora_alpha is not changed", hint="--set lora_alpha=…")
    return factor


def _start(ready: Preparation, run: Path, state: dict[str, Any]) -> int:
    """The branch's step at the place, in epochs, where its checkpoint was written."""
    plan = plan_of(ready, run)
    start: int = max(1, round(state["epoch"] * plan.steps_per_epoch))
    if start >= plan.total_steps:
        raise HarnessError(
            f"nothing is left to train: the checkpoint stands at epoch {state['epoch']:g} of {ready.config.optimisation.num_train_epochs:g}",
            hint=f"--set num_train_epochs={state['epoch'] + 1:g} or more",
        )
    return start


def _fill(
    folder: Path, ready: Preparation, checkpoint: Path, branch: Branch, state: dict[str, Any]
) -> None:
    base = json.loads((checkpoint / BASE_FILE).read_text(encoding="utf-8"))
    digest = run_digest(ready, base["digest"], branch)
    write_run_metadata(folder, metadata_of_run(ready, digest, branch))
    start = folder / f"checkpoint-{branch.step}"
    start.mkdir()
    for file in checkpoint.iterdir():
        if file.is_file() and file.name not in (STATE_FILE, BRANCHES_FILE):
            shutil.copyfile(file, start / file.name)
    if branch.rescaled_b != 1:
        rescale_b(
            start,
            branch.rescaled_b,
            ready.config.adapter.lora_alpha,
            moments=branch.optimizer == "keep",
        )
    if branch.optimizer == "reset":
        from safetensors.torch import save_file

        save_file({}, start / OPTIMIZER_FILE)
    write_state(
        start, {**state, "digest": digest, "step": branch.step, "config": ready.config.as_dict()}
    )


def _copy_measured(
    folder: Path, run: Path, trunk: TrainConfig, branch: Branch, config: TrainConfig
) -> None:
    """The trunk's measures of the checkpoint, where the branch would measure the same: the function has not changed."""
    if any(
        getattr(trunk, part) != getattr(config, part)
        for part in ("model", "dtype", "data", "formats", "evaluation")
    ):
        return
    found = [entry for entry in measured_checkpoints(run) if entry["step"] == branch.parent_step]
    if found:
        (folder / METRICS_FILE).write_text(
            json.dumps({**found[-1], "step": branch.step}) + "\n", encoding="utf-8"
        )


#: How Adam's moments follow when B is multiplied by f: its gradient is divided by f.
_POWERS = {"step": 0, "exp_avg": -1, "exp_avg_sq": -2, "max_exp_avg_sq": -2}


def rescale_b(checkpoint: Path, factor: float, lora_alpha: float, *, moments: bool) -> None:
    """Multiply every B of a checkpoint by ``factor``, and Adam's moments with it, and note the new lora_alpha.

    The adapter adds (alpha / r) · B(A(x)). With alpha divided by the factor the sum is the same; the gradient of B is
    divided by it, its first moment so too, its second twice. Raises HarnessError for the moments of another optimiser.
    """
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / ADAPTER_FILE)
    save_file(
        {name: weight * factor if _is_b(name) else weight for name, weight in weights.items()},
        checkpoint / ADAPTER_FILE,
        {"format": "pt"},
    )
    config_file = checkpoint / "adapter_config.json"
    config = {**json.loads(config_file.read_text(encoding="utf-8")), "lora_alpha": lora_alpha}
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if not moments:
        return
    scaled = {}
    for name, value in load_file(checkpoint / OPTIMIZER_FILE).items():
        parameter, field = name.rsplit("|", 1)
        if _is_b(parameter) and field not in _POWERS:
            raise HarnessError(
                f"the optimiser's {field!r} cannot be rescaled", hint="--optimizer reset"
            )
        scaled[name] = (
            value * factor ** _POWERS[field] if _is_b(parameter) and _POWERS[field] else value
        )
    save_file(scaled, checkpoint / OPTIMIZER_FILE)


def _is_b(name: str) -> bool:
    return "lora_B" in name or "lora_embedding_B" in name
