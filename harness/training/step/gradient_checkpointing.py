"""Gradient checkpointing: keep only the input of each layer, and recompute the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError
from harness.models.architecture import context_window
from harness.models.device import free_bytes

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from harness.models import LoadedModel

#: Fraction of the free memory that activations may take before they are recomputed.
_LARGEST_FRACTION = 0.7
#: Tokens of the longer of two probes, if the model's window is not shorter.
_LONGEST_PROBE = 128


def enable_checkpointing(
    setting: bool | Literal["auto"], loaded: LoadedModel, model: PeftModel, tokens: int
) -> None:
    """Switch gradient checkpointing on where it is needed.

    ``tokens`` is the size of the largest forward pass. "auto" measures what a token keeps for the
    backward pass and compares it with the free memory. The result of a step is the same either way.
    """
    if setting == "auto":
        free = free_bytes(loaded.device)
        setting = activation_bytes(loaded, model, tokens) > _LARGEST_FRACTION * free
    if setting:
        _enable(model)


def _enable(model: PeftModel) -> None:
    """Use non-reentrant checkpointing.

    The reentrant kind leaves factors inside a layer without gradient unless the embedding's output
    requires one. transformers adds a hook for that; here it would only cost a backward pass through
    the first layer.
    """
    base: Any = model.get_base_model()
    recent = getattr(base, "activation_checkpointing_enable", None)
    enable = recent or base.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise HarnessError(
            f"gradient_checkpointing = true: {error}",
            hint="leave it out; a smaller max_tokens_per_batch saves memory too",
        ) from None
    base.disable_input_require_grads()


def activation_bytes(loaded: LoadedModel, model: PeftModel, tokens: int) -> int:
    """Bytes that a forward pass of ``tokens`` tokens keeps for the backward pass, with all logits.

    Measured on two short passes and extrapolated linearly: attention without a mask keeps only its
    inputs and output, so everything grows with the tokens.
    """
    window = context_window(model.get_base_model().config)
    long = min(_LONGEST_PROBE, window or _LONGEST_PROBE)
    short = long // 2
    first, second = (kept_bytes(loaded, model, count) for count in (short, long))
    each = (second - first) / (long - short)
    return round(first + each * (tokens - short))


def kept_bytes(loaded: LoadedModel, model: PeftModel, tokens: int) -> int:
    """Bytes that autograd keeps of one pass over one row, without the model's weights."""
    import torch

    tensors = [*model.parameters(), *model.buffers()]
    weights = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    sizes: dict[int, int] = {}

    def record(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    was_training = model.training
    vocabulary = model.get_base_model().config.get_text_config().vocab_size
    ids = (torch.arange(tokens, device=loaded.device) % vocabulary).unsqueeze(0)
    with (
        torch.random.fork_rng(),
        torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor),
        loaded.autocast(),
    ):
        model.train()
        logits = model(input_ids=ids, use_cache=False).logits[0].float()
        loss = torch.nn.functional.cross_entropy(logits, ids[0], reduction="sum")
    model.train(was_training)
    del loss
    return sum(sizes.values())
