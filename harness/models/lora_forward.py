"""A lean LoRA forward for inference: one addition into the base's output instead of four."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def install_lean_lora(model: torch.nn.Module) -> bool:
    """Give every plain LoRA layer of peft a lean forward for inference. Returns whether all got it.

    peft computes base(x) + scaling · B(A(x)) (LoRA, arXiv 2106.09685) with a cast of x and two more
    passes over the output; here the matrix product itself adds in place, in the base's dtype. The
    factors stay float32 and are cast at each call, so changes of them are seen. Layers with DoRA,
    biases or several active adapters keep peft's forward.
    """
    from peft.tuners.lora.layer import Linear, LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    plain = [
        layer
        for layer in layers
        if isinstance(layer, Linear)
        and type(layer.base_layer).__name__ == "Linear"
        and is_plain(layer)
    ]
    for layer in plain:
        layer.forward = types.MethodType(_forward, layer)
    return len(plain) == len(layers)


def leave_casts_to_autocast(model: torch.nn.Module) -> None:
    """Let autocast alone cast the inputs of the factors; peft would copy each to float32 first."""
    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False  # type: ignore[assignment]  # peft's own


def _forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    import torch

    if self.training or torch.is_grad_enabled() or args or kwargs or not is_plain(self):
        return type(self).forward(self, x, *args, **kwargs)  # type: ignore[no-any-return]  # peft
    [name] = self.active_adapters
    base = self.base_layer
    out = torch.nn.functional.linear(x, base.weight, base.bias)
    down = torch.nn.functional.linear(x, self.lora_A[name].weight.to(x.dtype))
    up = (self.lora_B[name].weight * self.scaling[name]).to(x.dtype)
    out.view(-1, out.shape[-1]).addmm_(down.reshape(-1, down.shape[-1]), up.t())
    return out


def is_plain(layer: Any) -> bool:
    """Whether a LoRA layer is base(x) + scaling · B(A(x)) of one adapter and nothing else."""
    if layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
        return False
    [name] = layer.active_adapters
    return (
        name in layer.lora_A
        and not layer.lora_variant
        and layer.lora_A[name].bias is None
        and layer.lora_B[name].bias is None
    )
