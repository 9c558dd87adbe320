"""The optimiser by name, and its state as plain tensors."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.quantisation import EXTRA
from harness.train.config import OptimisationConfig

if TYPE_CHECKING:
    import torch

#: Where bitsandbytes has the optimisers of these names.
_BITSANDBYTES = {"adamw_8bit": "AdamW8bit", "paged_adamw_32bit": "PagedAdamW32bit", "paged_adamw_8bit": "PagedAdamW8bit"}


def make_optimizer(parameters: Iterable[Any], config: OptimisationConfig, device: str) -> torch.optim.Optimizer:
    """AdamW over parameters or groups of them, as ``config.optim`` names it.

    The parameters stay float32 in all of them; adamw_8bit and the paged kinds store the moments of large tensors in
    eight bits or in memory that CUDA may page out. Raises HarnessError for what the device cannot do.
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

    made: torch.optim.Optimizer = getattr(eight_bit, _BITSANDBYTES[config.optim])(parameters, **settings)
    return made


def check_optimizer(optim: str, kind: str) -> None:
    """Raise HarnessError when this kind of device cannot run an optimiser, or its package is missing."""
    if optim not in _BITSANDBYTES:
        return
    if kind != "cuda" and (optim.startswith("paged") or kind != "cpu"):
        works = '"adamw_torch" or "adamw_8bit"' if kind == "cpu" else '"adamw_torch"'
        raise HarnessError(f"optimisation.optim = {optim!r} needs CUDA, and this run is on {kind}", hint=f"take {works}")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise HarnessError(f"optimisation.optim = {optim!r} needs bitsandbytes, which is not installed", hint=EXTRA)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state of every parameter as ``<index>.<key>`` → tensor, ready for safetensors."""
    import torch

    found = {}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            inner = value if isinstance(value, dict) else {key: value}  # bitsandbytes hides its tensors from FSDP in a dictionary
            for name, tensor in inner.items():
                found[f"{index}.{name}"] = torch.as_tensor(tensor).clone().contiguous()
    return found


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what ``optimizer_tensors`` gave, bit for bit. Rates and groups stay those of the optimiser."""
    saved = optimizer.state_dict()
    saved["state"] = {}
    counts_in_python = type(optimizer).__module__.startswith("bitsandbytes")
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        saved["state"].setdefault(int(index), {})[key] = int(tensor) if key == "step" and counts_in_python else tensor
    optimizer.load_state_dict(saved)
