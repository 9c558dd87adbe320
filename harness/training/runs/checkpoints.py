"""Checkpoints: adapter, optimiser, step, random state and digests, as safetensors and JSON.

No pickle is ever loaded.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.files import atomic_folder, read_json_object, remove
from harness.models import ADAPTER_FILE, BASE_FILE
from harness.models.completeness import some_names
from harness.models.tensor_files import read_tensors
from harness.training.step.optimisers import load_optimizer_tensors, optimizer_tensors

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from harness.training.config import CheckpointsConfig

STATE_FILE = "state.json"
OPTIMIZER_FILE = "optimizer.safetensors"
#: In a checkpoint that others branched from: their folders. It is never removed.
BRANCHES_FILE = "branches.json"


def checkpoint_dirs(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    complete = [
        path
        for path in run.glob("checkpoint-*")
        if path.name.removeprefix("checkpoint-").isdecimal() and (path / STATE_FILE).is_file()
    ]
    return sorted(complete, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The optimiser step after which a checkpoint was written."""
    return int(checkpoint.name.split("-")[1])


def read_state(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's step, Σ learning rate, digest, settings and random state.

    Raises HarnessError when the file is damaged.
    """
    state = read_json_object(checkpoint / STATE_FILE)
    number = int | float
    kinds: dict[str, Any] = {
        "step": int,
        "sum_lr": number,
        "epoch": number,
        "digest": str,
        "rng": dict,
    }
    for name, kind in kinds.items():
        if not isinstance(state.get(name), kind):
            raise HarnessError(f"no {name}", where=str(checkpoint / STATE_FILE))
    return state


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint's state, its last file: a folder without it is not a checkpoint."""
    text = json.dumps(state, indent=1, sort_keys=True) + "\n"
    (folder / STATE_FILE).write_text(text, encoding="utf-8")


def save_adapter(
    model: PeftModel,
    target: Path,
    base: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Write the adapter as plain peft reads it, with the facts of its base.

    A ``tokenizer`` with added tokens is written too: plain peft needs it to know how far to resize
    the embeddings. Raises HarnessError when the disk is full.
    """
    with atomic_folder(target, what="adapter") as folder:
        _fill(model, folder, base)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)


def save_checkpoint(
    run: Path,
    step: int,
    model: PeftModel,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    base: dict[str, Any],
) -> Path:
    """Write ``checkpoint-<step>``. Raises HarnessError when the disk is full.

    Adam's moments are stored by the parameter's name, so that they are found again when the
    optimiser groups the parameters differently.
    """
    from safetensors.torch import save_file

    target = run / f"checkpoint-{step}"
    order = _parameter_names(model, optimizer)
    moments = {}
    for key, value in optimizer_tensors(optimizer).items():
        index, field = key.split(".", 1)
        moments[f"{order[int(index)]}|{field}"] = value
    with atomic_folder(target, what="checkpoint") as folder:
        _fill(model, folder, base)
        save_file(moments, folder / OPTIMIZER_FILE)
        write_state(folder, {**state, "step": step, "rng": random_state()})
    return target


def load_checkpoint(
    folder: Path, model: PeftModel, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Restore weights, moments and random state exactly. Returns the saved state.

    Raises HarnessError for a damaged checkpoint, and changes nothing then.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    state = read_state(folder)
    generators = _generator_states(state["rng"], str(folder / STATE_FILE))
    weights = read_tensors(folder / ADAPTER_FILE)
    if weights.keys() != get_peft_model_state_dict(model, save_embedding_layers=False).keys():
        raise HarnessError("other tensors than the adapter has", where=str(folder / ADAPTER_FILE))
    index = {name: at for at, name in enumerate(_parameter_names(model, optimizer))}
    saved = {}
    for key, value in read_tensors(folder / OPTIMIZER_FILE).items():
        name, _, field = key.rpartition("|")
        if name not in index:
            raise HarnessError(f"no parameter {name!r}", where=str(folder / OPTIMIZER_FILE))
        saved[f"{index[name]}.{field}"] = value
    if unknown := set_peft_model_state_dict(model, weights).unexpected_keys:
        raise HarnessError(
            f"peft found no place for {some_names(unknown)}", where=str(folder / ADAPTER_FILE)
        )
    load_optimizer_tensors(optimizer, saved)
    set_random_state(generators)
    return state


def _parameter_names(model: PeftModel, optimizer: torch.optim.Optimizer) -> list[str]:
    """The names of the optimiser's parameters, in its order."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def random_state() -> dict[str, Any]:
    """The state of torch's generators, of the CPU and of each CUDA device, as text."""
    import torch

    states = {
        "cpu": torch.get_rng_state(),
        **{f"cuda:{at}": state for at, state in enumerate(torch.cuda.get_rng_state_all())},
    }
    return {
        device: base64.b64encode(state.numpy().tobytes()).decode()
        for device, state in states.items()
    }


def _generator_states(saved: dict[str, Any], where: str) -> dict[str, str]:
    """The generators' states, checked. Raises HarnessError."""
    import torch

    expected = len(torch.get_rng_state())
    for device, text in saved.items():
        try:
            size = len(base64.b64decode(text, validate=True))
        except (ValueError, TypeError):
            size = 0
        if not size or (device == "cpu" and size != expected):
            raise HarnessError(f"rng.{device}: no state of a generator", where=where)
    return saved


def set_random_state(saved: dict[str, str]) -> None:
    """Restore the generators. That of a device that is missing here is left out."""
    import torch

    for device, text in saved.items():
        state = torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
        if device == "cpu":
            torch.set_rng_state(state)
        elif int(device.split(":")[1]) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, device)


def removable(
    steps: Sequence[int],
    keep: CheckpointsConfig,
    scores: dict[int, float],
    branch_points: Collection[int] = (),
) -> list[int]:
    """The checkpoints to remove: not among the last, not every k-th, not the best, no branch point.

    ``scores`` are those of ``keep_best`` by step, lower is better; of equal ones the earliest is
    the best.
    """
    if not keep.save_total_limit:
        return []
    ordered = sorted(steps)
    kept = {*ordered[-keep.save_total_limit :], *branch_points}
    if keep.keep_every:
        kept |= {step for step in ordered if step % keep.keep_every == 0}
    known = [step for step in ordered if step in scores]
    if known:
        kept.add(min(known, key=lambda step: (scores[step], step)))
    return [step for step in ordered if step not in kept]


def prune(run: Path, keep: CheckpointsConfig, scores: dict[int, float]) -> None:
    """Remove the checkpoints that need not be kept, each in one step."""
    folders = {step_of(folder): folder for folder in checkpoint_dirs(run)}
    branch_points = [step for step, folder in folders.items() if (folder / BRANCHES_FILE).is_file()]
    for step in removable(list(folders), keep, scores, branch_points):
        remove(folders[step])


def _fill(model: PeftModel, folder: Path, base: dict[str, Any]) -> None:
    from harness.models import quiet

    # The model card would hold only placeholders, and take longer than everything else.
    model.create_or_update_model_card = lambda _folder: None
    with quiet():
        model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / BASE_FILE).write_text(json.dumps(base, indent=1) + "\n", encoding="utf-8")
