"""The optimiser by name, learning rates of LoRA's two factors, and the state as plain tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.extras import require
from harness.training.config import OptimisationConfig

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


@dataclass(frozen=True, slots=True)
class Rates:
    """How a step's learning rate reaches the factors of s · B · A; s is alpha / r or alpha / √r.

    Adam divides a gradient by its own size. So a larger s does not lengthen the steps of B, but
    weighs them more: with B = 0 at the start, (alpha, lr_A, lr_B) and (k · alpha, lr_A, lr_B / k)
    walk the same path in s · B · A, step by step. ``compensate_alpha`` therefore divides B's rate
    by k = alpha / compensate_alpha. The other constants that have a scale follow, so that the paths
    are equal to the last digit: B's epsilon and weight decay are multiplied by k, and the norm for
    clipping divides B's part by k.
    """

    b_over_a: float
    k: float
    scaling: float

    @classmethod
    def of(cls, model: PeftModel, config: OptimisationConfig) -> Rates:
        """The rates of a model with one adapter."""
        adapter: Any = model.peft_config[model.active_adapter]
        k = adapter.lora_alpha / config.compensate_alpha if config.compensate_alpha else 1.0
        rank = math.sqrt(adapter.r) if adapter.use_rslora else adapter.r
        return cls(config.loraplus_lr_ratio / k, k, adapter.lora_alpha / rank)

    def groups(self, model: PeftModel, config: OptimisationConfig) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser, by name: all but factors B, then factors B.

        ``factor`` multiplies a step's rate; ``k`` is as above.
        """
        named = sorted(model.named_parameters())
        trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
        a = [parameter for name, parameter in trained if "lora_B" not in name]
        b = [parameter for name, parameter in trained if "lora_B" in name]
        return [
            {
                "params": parameters,
                "lr": config.learning_rate * factor,
                "factor": factor,
                "k": k,
                "eps": config.adam_epsilon * k,
                "weight_decay": config.weight_decay * k,
            }
            for parameters, factor, k in ((a, 1.0, 1.0), (b, self.b_over_a, self.k))
            if parameters
        ]


def clip(groups: list[dict[str, Any]], most: float) -> float:
    """Scale the gradients down to the norm ``most`` (0: never) and return the norm before.

    B's part counts as at the reference alpha.
    """
    import torch

    norms = [
        torch.nn.utils.get_total_norm([p.grad for p in group["params"] if p.grad is not None])
        / group["k"]
        for group in groups
    ]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    if most:
        for group in groups:
            torch.nn.utils.clip_grads_with_norm_(group["params"], most, norm)
    return float(norm)


#: Where bitsandbytes has the optimisers of these names.
_BITSANDBYTES = {"adamw_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit"}


def make_optimizer(
    parameters: Iterable[Any], config: OptimisationConfig, device: str
) -> torch.optim.Optimizer:
    """AdamW over parameters or groups of them, as ``config.optim`` names it.

    The parameters stay float32. The 8-bit optimisers store the moments of large tensors in eight
    bits; the paged one stores them in memory that CUDA may page out. Raises HarnessError for what
    the device cannot do.
    """
    import torch

    settings = {
        "lr": config.learning_rate,
        "betas": (config.adam_beta1, config.adam_beta2),
        "eps": config.adam_epsilon,
        "weight_decay": config.weight_decay,
    }
    kind = device.split(":", maxsplit=1)[0]
    if config.optim not in _BITSANDBYTES:
        return torch.optim.AdamW(parameters, **settings, fused=kind in ("cpu", "cuda"))  # type: ignore[arg-type]  # one table for both
    check_optimizer(config.optim, kind)
    from harness.models import quiet

    with quiet():
        import bitsandbytes.optim as eight_bit

    made: torch.optim.Optimizer = getattr(eight_bit, _BITSANDBYTES[config.optim])(
        parameters, **settings
    )
    return made


def check_optimizer(optim: str, kind: str) -> None:
    """Raise HarnessError when the device cannot run an optimiser, or its package is missing."""
    if optim not in _BITSANDBYTES:
        return
    if kind != "cuda" and (optim.startswith("paged") or kind != "cpu"):
        works = '"adamw_torch" or "adamw_8bit"' if kind == "cpu" else '"adamw_torch"'
        raise HarnessError(
            f"optimisation.optim = {optim!r} needs CUDA, and this run is on {kind}",
            hint=f"take {works}",
        )
    require("bitsandbytes", f"optimisation.optim = {optim!r}")


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state of every parameter as ``<index>.<key>`` → tensor, ready for safetensors."""
    import torch

    tensors = {}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            # bitsandbytes hides its tensors from FSDP in a dictionary
            inner = value if isinstance(value, dict) else {key: value}
            for name, tensor in inner.items():
                tensors[f"{index}.{name}"] = torch.as_tensor(tensor).clone().contiguous()
    return tensors


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    """Put back what ``optimizer_tensors`` gave, exactly. Rates and groups stay the optimiser's."""
    state = optimizer.state_dict()
    state["state"] = {}
    counts_in_python = type(optimizer).__module__.startswith("bitsandbytes")
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        value = int(tensor) if key == "step" and counts_in_python else tensor
        state["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(state)
