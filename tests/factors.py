"""LoRA factors that change a model's output: peft begins with B = 0."""

from __future__ import annotations

import torch


def stir_factors(model: torch.nn.Module, std: float = 0.1, seed: int = 0) -> None:
    """Draw every B from a normal distribution, the same numbers on each device."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * std)
