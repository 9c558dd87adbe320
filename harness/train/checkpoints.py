"""Checkpoints: adapter, optimiser, step, random state and digests, in safetensors and JSON. No pickle is ever loaded."""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.train.adapters import BASE_FILE
from harness.train.optimisers import load_optimizer_tensors, optimizer_tensors

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

STATE_FILE = "state.json"
OPTIMIZER_FILE = "optimizer.safetensors"


def checkpoint_dirs(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [path for path in run.glob("checkpoint-*") if (path / STATE_FILE).is_file()]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def save_adapter(model: PeftModel, folder: Path, base: dict[str, Any]) -> None:
    """Write the adapter as plain peft reads it, with a note of its base."""
    from harness.models import quiet

    with quiet():
        model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's model card holds only placeholders
    (folder / BASE_FILE).write_text(json.dumps(base, indent=1) + "\n", encoding="utf-8")


def save_checkpoint(run: Path, step: int, model: PeftModel, optimizer: torch.optim.Optimizer, state: dict[str, Any], base: dict[str, Any]) -> Path:
    """Write ``checkpoint-<step>`` whole or not at all. Raises HarnessError when the disk is full."""
    import torch
    from safetensors.torch import save_file

    target = run / f"checkpoint-{step}"
    partial = run / f".partial-{step}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_adapter(model, partial, base)
        save_file(optimizer_tensors(optimizer), partial / OPTIMIZER_FILE)
        state = {**state, "step": step, "rng": base64.b64encode(torch.get_rng_state().numpy().tobytes()).decode()}
        (partial / STATE_FILE).write_text(json.dumps(state, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        _sync(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise HarnessError(
            f"cannot write the checkpoint: {error.strerror or error}", where=str(target), hint="free some space and start the same command again: it resumes"
        ) from None
    return target


def load_checkpoint(folder: Path, model: PeftModel, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put weights, moments and random state back, bit for bit. Returns the saved state."""
    import torch
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    load_optimizer_tensors(optimizer, load_file(folder / OPTIMIZER_FILE))
    torch.set_rng_state(torch.frombuffer(bytearray(base64.b64decode(state["rng"])), dtype=torch.uint8))
    return state


def prune(run: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints. 0 keeps all."""
    for old in checkpoint_dirs(run)[:-keep] if keep else []:
        shutil.rmtree(old)


def _sync(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
