"""Logits at chosen positions only: the head is by far the widest matrix of a small model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@contextmanager
def only_at(model: PreTrainedModel, positions: torch.Tensor) -> Iterator[None]:
    """Make the model compute logits at ``positions`` only, with shape [1, positions, vocabulary].

    ``positions`` are a bool mask [batch, length], read row by row, or indices into batch × length.
    A hook before the output embedding selects them, so everything that the model does to its
    logits afterwards (scaling, soft caps) still happens, in the arithmetic of the full projection.
    """
    import torch

    def gather(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = inputs[0]
        chosen = positions.to(hidden.device)  # the head may be on another device than the ids
        if chosen.dtype == torch.long:
            return (hidden.flatten(0, 1)[chosen].unsqueeze(0), *inputs[1:])
        return (hidden[chosen].unsqueeze(0), *inputs[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()
