"""A model's shapes from its configuration alone: built on torch's meta device, where tensors have no content."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.train.footprint import ModelShape

if TYPE_CHECKING:
    from harness.models import ModelSource


def shape_of(source: ModelSource, targets: str | tuple[str, ...]) -> ModelShape:
    """The shape of a located model. Raises HarnessError when its configuration cannot be read."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source.path, **({"gguf_file": source.gguf} if source.gguf else {}))
    except (OSError, ValueError) as error:
        raise HarnessError(f"cannot read the model's configuration: {str(error).splitlines()[0]}", where=source.path) from None
    return shape_from(config, targets)


def mistral_7b(targets: str | tuple[str, ...] = "all-linear") -> ModelShape:
    """The shape of a 7B model: transformers' own defaults for Mistral, which are those of Mistral-7B-v0.1."""
    from transformers import MistralConfig

    return shape_from(MistralConfig(), targets)


def shape_from(config: Any, targets: str | tuple[str, ...]) -> ModelShape:
    """Count a configuration's weights. As peft does, "all-linear" leaves the output embedding out."""
    import torch
    from transformers import AutoModelForCausalLM

    from harness.models import quiet

    with quiet(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not head}
    chosen = [module for name, module in linear.items() if targets == "all-linear" or name.rsplit(".", 1)[-1] in _names(targets)]
    weights = sum(module.weight.numel() for module in linear.values())
    text = config.get_text_config()
    hidden, heads = text.hidden_size, text.num_attention_heads
    return ModelShape(
        linear_weights=weights,
        other_weights=sum(parameter.numel() for parameter in model.parameters()) - weights,
        adapted=tuple((module.in_features, module.out_features) for module in chosen),
        layers=text.num_hidden_layers,
        hidden=hidden,
        query=heads * (getattr(text, "head_dim", None) or hidden // heads),
        intermediate=getattr(text, "intermediate_size", None) or 4 * hidden,
        vocabulary=text.vocab_size,
    )


def _names(targets: str | tuple[str, ...]) -> tuple[str, ...]:
    return (targets,) if isinstance(targets, str) else targets


def memory_of(device: str) -> int | None:
    """Bytes that a device has in all, or None where it does not say."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(0).total_memory)
    limit = Path("/sys/fs/cgroup/memory.max")  # a container may have less than its machine
    held = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
    return min(whole, int(held)) if held.isdigit() else whole
