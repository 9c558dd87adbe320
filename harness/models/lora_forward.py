"""A lean LoRA forward: what peft computes, in fewer passes over memory and fewer kernels.

peft computes base(x) + scaling · B(A(x)) (LoRA, arXiv 2106.09685) with casts of x and two more
passes over the output. Here the matrix product itself adds in place, in the base's dtype, and B has
the scaling in it. The factors stay float32. In training they are cast once a step, and a layer
keeps its input and A(x) alone for its backward pass.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Frozen layers whose weight can be read: torch's, and that of bitsandbytes in four bits.
_READABLE = ("Linear", "Linear4bit")
#: Where a layer keeps the factors of a step.
_FACTORS = "_harness_factors"


@dataclass(frozen=True, slots=True)
class Factors:
    """A [rank, in] and B [out, rank], in the dtype of the base."""

    down: torch.Tensor
    up: torch.Tensor


def install_lean_lora(model: torch.nn.Module) -> bool:
    """Give every plain LoRA layer of peft a lean forward. Returns whether all layers got it.

    Layers with DoRA, biases, dropout in use, several active adapters or offloaded weights keep
    peft's forward.
    """
    from peft.tuners.lora.layer import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    plain = [layer for layer in layers if _has_readable_base(layer) and is_plain(layer)]
    for layer in plain:
        layer.forward = types.MethodType(_forward, layer)
    return len(plain) == len(layers)


def trains_lean(model: torch.nn.Module) -> bool:
    """Whether all that is trained are factors of layers with the lean forward.

    Then training needs no autocast, as inference does not.
    """
    trained = {id(weight) for weight in model.parameters() if weight.requires_grad}
    known = {
        id(weight)
        for layer in lean_layers(model)
        if not _drops(layer)
        for name in layer.active_adapters
        for weight in (layer.lora_A[name].weight, layer.lora_B[name].weight)
    }
    return trained == known


@contextmanager
def cast_factors(model: torch.nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Cast the factors of all lean layers now, for every pass inside.

    They must not change inside: the passes would not see it.
    """
    import torch

    layers = [layer for layer in lean_layers(model) if is_plain(layer)]
    with torch.no_grad():
        downs = [layer.lora_A[layer.active_adapters[0]].weight for layer in layers]
        ups = [layer.lora_B[layer.active_adapters[0]].weight for layer in layers]
        for layer, *factors in zip(layers, _cast(downs, dtype), _cast(ups, dtype), strict=True):
            setattr(layer, _FACTORS, Factors(*factors))
    try:
        yield
    finally:
        for layer in layers:
            delattr(layer, _FACTORS)


def _cast(weights: list[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
    import torch

    if not weights or weights[0].dtype == dtype:
        return weights
    narrow = [torch.empty_like(weight, dtype=dtype) for weight in weights]
    torch._foreach_copy_(narrow, weights)
    return narrow


def leave_casts_to_autocast(model: torch.nn.Module) -> None:
    """Let autocast alone cast the inputs of the factors; peft would copy each to float32 first."""
    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False  # type: ignore[assignment]  # peft's own


def _forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    import torch

    if args or kwargs or not is_plain(self) or _drops(self):
        return type(self).forward(self, x, *args, **kwargs)  # type: ignore[no-any-return]  # peft
    if torch.is_grad_enabled():
        if torch.is_autocast_enabled(x.device.type):  # other layers need it
            return type(self).forward(self, x)  # type: ignore[no-any-return]  # peft
        [name] = self.active_adapters
        return _training().apply(  # type: ignore[no-any-return]  # torch
            x, self, self.lora_A[name].weight, self.lora_B[name].weight
        )
    out = self.base_layer(x)
    factors = _factors(self, x.dtype)
    inner = torch.nn.functional.linear(x, factors.down).view(-1, len(factors.down))
    out.view(-1, out.shape[-1]).addmm_(inner, factors.up.t(), alpha=_scaling(self))
    return out  # type: ignore[no-any-return]  # torch


def _factors(layer: Any, dtype: torch.dtype) -> Factors:
    """The factors of this step, or where no step runs those of now."""
    cast: Factors | None = getattr(layer, _FACTORS, None)
    if cast is not None and cast.down.dtype == dtype:
        return cast
    [name] = layer.active_adapters
    down, up = layer.lora_A[name].weight.detach(), layer.lora_B[name].weight.detach()
    return Factors(down.to(dtype), up.to(dtype))


def _scaling(layer: Any) -> float:
    return float(layer.scaling[layer.active_adapters[0]])


def dense_weight(base: Any) -> torch.Tensor:
    """The weight [out, in] of a frozen layer; one of four bits is dequantised at each call."""
    state = getattr(base.weight, "quant_state", None)
    if state is None:
        return base.weight  # type: ignore[no-any-return]  # torch
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(base.weight.data, state)  # type: ignore[no-any-return]


def product(left: torch.Tensor, right: torch.Tensor, scale: float) -> torch.Tensor:
    """scale · left right, in one kernel."""
    import torch

    return torch.addmm(left.new_empty(()), left, right, beta=0, alpha=scale)


def wide_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Left right in float32, of matrices in float32 or 16 bits.

    cuBLAS writes the sums that it holds in float32 anyway; elsewhere they are rounded first.
    """
    import torch

    if left.dtype == torch.float32 or not _writes_wide(str(left.device), left.dtype):
        return (left @ right).float()
    return torch.mm(left, right, out_dtype=torch.float32)


@functools.cache
def _writes_wide(device: str, dtype: torch.dtype) -> bool:
    """Whether a product of 16 bits can be written in float32 on this device (CUDA, torch 2.8)."""
    import torch

    if not device.startswith("cuda"):
        return False
    try:
        ones = torch.ones(16, 16, device=device, dtype=dtype)
        return bool((torch.mm(ones, ones, out_dtype=torch.float32) == 16).all())
    except (RuntimeError, TypeError):
        return False


@functools.cache
def _training() -> Any:
    """The function of autograd, made when torch is there."""
    import torch

    class LoraFunction(torch.autograd.Function):
        """x, layer, A, B → base(x) + scaling · B(A(x)).

        A and B are arguments so that they receive gradients, in their own dtype.
        """

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, layer: Any, *_trained: torch.Tensor) -> torch.Tensor:
            factors = _factors(layer, x.dtype)
            rows = x.reshape(-1, x.shape[-1])
            out = layer.base_layer(x)
            inner = product(rows, factors.down.t(), _scaling(layer))
            out.view(-1, out.shape[-1]).addmm_(inner, factors.up.t())
            ctx.save_for_backward(rows, inner, factors.down, factors.up)
            ctx.layer, ctx.shape = layer, x.shape
            return out  # type: ignore[no-any-return]  # torch

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            rows, inner, down, up = ctx.saved_tensors
            grad = grad.reshape(-1, grad.shape[-1])
            inner_grad = product(grad, up, _scaling(ctx.layer))
            down_grad, up_grad = wide_product(inner_grad.t(), rows), wide_product(grad.t(), inner)
            if not ctx.needs_input_grad[0]:
                return None, None, down_grad, up_grad
            back = grad @ dense_weight(ctx.layer.base_layer).to(grad.dtype)
            back.addmm_(inner_grad, down)
            return back.view(ctx.shape), None, down_grad, up_grad

    return LoraFunction


def lean_layers(model: torch.nn.Module) -> list[Any]:
    """The layers that ``install_lean_lora`` changed."""
    return [
        layer
        for layer in model.modules()
        if getattr(layer.__dict__.get("forward"), "__func__", None) is _forward
    ]


def _has_readable_base(layer: Any) -> bool:
    base = layer.base_layer
    return (
        type(layer).__name__ == type(base).__name__
        and type(base).__name__ in _READABLE
        and not hasattr(base, "_hf_hook")  # accelerate's, which brings the weights
        and not getattr(layer, "fan_in_fan_out", False)
        and not any(weight.requires_grad for weight in base.parameters())
    )


def _drops(layer: Any) -> bool:
    """Whether dropout is in use."""
    import torch

    dropouts = (layer.lora_dropout[name] for name in layer.active_adapters)
    return bool(layer.training) and not all(
        isinstance(each, torch.nn.Identity) for each in dropouts
    )


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
