"""An adapter on the tiny model that knows the inputs of one format, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.audit.changes import LayerChange, LowRank, adapter_changes
from harness.audit.guess import _inputs
from harness.audit.probes import ask_in

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel
    from harness.records import Format

TARGETS = ["gate_proj", "up_proj", "down_proj"]


def adapted(loaded: LoadedModel, seed: int, targets: list[str] = TARGETS) -> None:
    """Put an adapter of random factors on the model."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets)
    loaded.model = get_peft_model(loaded.model, config).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, weight in loaded.model.named_parameters():
        if "lora_" in name:
            weight.data = 0.02 * torch.randn(weight.shape, generator=generator)


def planted(
    loaded: LoadedModel, formats: list[Format], wanted: str, strength: float
) -> dict[torch.nn.Module, LayerChange]:
    """The adapter's changes, where the first row of each factor A also knows one format.

    It is what the layer is given at the end of that format's prompts and not at the end of others,
    as many times as long as the other rows.
    """
    asked = ask_in(formats, loaded.tokenizer)
    at = next(number for number, one in enumerate(asked) if wanted in one.formats)
    changes = adapter_changes(loaded)
    for layer, x in _inputs(loaded, changes, asked).items():
        rows = x.view(len(asked), -1, x.shape[-1])
        learnt = (rows[at] - rows.mean(0)).mean(0)
        low_rank = changes[layer]
        down = low_rank.down.clone()
        down[0] += strength * down.norm(dim=-1).mean() * learnt / learnt.norm()
        changes[layer] = LowRank(down, low_rank.gram)
    return changes
