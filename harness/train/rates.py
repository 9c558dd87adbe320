"""The two factors of LoRA learn at rates of their own: LoRA+, and a sweep over alpha that is a fair one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.train.config import OptimisationConfig

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True, slots=True)
class Rates:
    """How a step's learning rate reaches the factors of s · B · A, where s is alpha / r (alpha / √r with rsLoRA).

    Adam divides a gradient by its own size, so a larger s does not lengthen the steps of B; they only weigh more: with
    B = 0 at the start, (alpha, lr_A, lr_B) and (k · alpha, lr_A, lr_B / k) walk the same path in s · B · A, step by
    step. ``compensate_alpha`` therefore divides B's rate by k = alpha / compensate_alpha. For the paths to be equal
    to the last digit, what else in Adam knows sizes goes along: B's epsilon and weight decay are multiplied by k, and the norm at
    which gradients are clipped is read with B's divided by k.
    """

    b_over_a: float
    k: float
    scaling: float

    @classmethod
    def of(cls, model: PeftModel, config: OptimisationConfig) -> Rates:
        """The rates of a model with one adapter."""
        adapter: Any = model.peft_config[model.active_adapter]
        k = adapter.lora_alpha / config.compensate_alpha if config.compensate_alpha else 1.0
        return cls(config.loraplus_lr_ratio / k, k, adapter.lora_alpha / (math.sqrt(adapter.r) if adapter.use_rslora else adapter.r))

    def groups(self, model: PeftModel, config: OptimisationConfig) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser, by name: factors B, and all else that is trained. ``factor`` multiplies a step's rate, ``k`` is as above."""
        trained = [(name, parameter) for name, parameter in sorted(model.named_parameters()) if parameter.requires_grad]
        parts = {"a": [p for name, p in trained if "lora_B" not in name], "b": [p for name, p in trained if "lora_B" in name]}
        b: dict[str, Any] = {"factor": self.b_over_a, "k": self.k, "eps": config.adam_epsilon * self.k, "weight_decay": config.weight_decay * self.k}
        a: dict[str, Any] = {"factor": 1.0, "k": 1.0, "eps": config.adam_epsilon, "weight_decay": config.weight_decay}
        return [{"params": parts[name], "lr": config.learning_rate * rest["factor"], **rest} for name, rest in (("a", a), ("b", b)) if parts[name]]


def clip(groups: list[dict[str, Any]], most: float) -> float:
    """Scale the gradients down to the norm ``most`` (0: never) and return the norm they had, B's read as at the reference alpha."""
    import torch

    norms = [torch.nn.utils.get_total_norm([p.grad for p in group["params"] if p.grad is not None]) / group["k"] for group in groups]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    if most:
        for group in groups:
            torch.nn.utils.clip_grads_with_norm_(group["params"], most, norm)
    return float(norm)
