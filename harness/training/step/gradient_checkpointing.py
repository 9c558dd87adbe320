"""Gradient checkpointing: keep what enters each layer, and compute the rest again in the backward pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from harness.models import LoadedModel

#: Share of the free memory that activations may take before they are computed twice.
_ROOM = 0.7
_PROBES = (64, 128)


def set_up(
    setting: bool | Literal["auto"], loaded: LoadedModel, model: PeftModel, tokens: int
) -> bool:
    """Switch gradient checkpointing on where it is wanted, and return whether it is on.

    ``tokens`` is the largest forward pass. "auto" measures what a token leaves for the backward pass and compares it
    with the free memory. The result of a step is the same either way.
    """
    wanted = (
        setting
        if isinstance(setting, bool)
        else activation_bytes(loaded, model, tokens) > _ROOM * free_bytes(loaded.device)
    )
    if wanted:
        _enable(model)
    return wanted


def _enable(model: PeftModel) -> None:
    """Non-reentrant checkpointing, which sees gradients of factors inside a layer whose input has none.

    The reentrant kind would leave all factors without gradient unless the embedding's output asked for one, so
    transformers adds a hook for that; here the hook would only cost a backward pass through the first layer.
    """
    base: Any = model.get_base_model()
    enable = (
        getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
    )
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise HarnessError(
            f"gradient_checkpointing = true: {error}",
            hint="leave it out; a smaller max_tokens_per_batch saves memory too",
        ) from None
    base.disable_input_require_grads()


def activation_bytes(loaded: LoadedModel, model: PeftModel, tokens: int) -> int:
    """What a forward pass of so many tokens leaves for the backward pass, in bytes, logits at every position included.

    Measured on two short passes and extended in a straight line: attention without a mask keeps its inputs and
    output only, so all that is kept grows with the tokens.
    """
    short, long = _PROBES
    first, second = (kept_bytes(loaded, model, count) for count in _PROBES)
    each = (second - first) / (long - short)
    return round(first + each * (tokens - short))


def kept_bytes(loaded: LoadedModel, model: PeftModel, tokens: int) -> int:
    """Bytes that autograd keeps of one pass over one row, without the model's own weights."""
    import torch

    own = {
        tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]
    }
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    was_training = model.training
    ids = (
        torch.arange(tokens, device=loaded.device) % model.get_base_model().config.vocab_size
    ).unsqueeze(0)
    with (
        torch.random.fork_rng(),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        loaded.autocast(),
    ):
        model.train()
        logits = model(input_ids=ids, use_cache=False).logits[0].float()
        loss = torch.nn.functional.cross_entropy(logits, ids[0], reduction="sum")
    model.train(was_training)
    del loss
    return sum(kept.values())


def free_bytes(device: str) -> int:
    """Memory that is free on a device, in bytes."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    if device == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    table = Path("/proc/meminfo")
    if table.is_file():
        rows = dict(line.split(":", 1) for line in table.read_text(encoding="ascii").splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    import os

    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
