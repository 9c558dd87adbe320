"""One Llama-like decoder layer: norm, attention, norm, gated MLP, with residuals, as a single step of autograd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from harness.models.llama.parts import LayerParts, rotate
from harness.training.step.handwritten.attention import attend, attend_back
from harness.training.step.handwritten.packed_rows import Block
from harness.training.step.handwritten.projection import StackedProjection

#: Which of a layer's projections (q, k, v, o, gate, up, down) read the same input.
SHARED_INPUT = (slice(0, 3), slice(3, 4), slice(4, 6), slice(6, 7))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tokens stand: blocks of rows, the rotation of each token [tokens, 1, width], and the tokens that are asked for (None: all)."""

    blocks: tuple[Block, ...]
    cos: Tensor
    sin: Tensor
    asked: Tensor | None = None


class LayerFunction(torch.autograd.Function):
    """x [tokens, hidden] → the layer's output at the tokens asked for, in the dtype of x. The adapter's factors are given to receive gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: LayerParts, place: Layout, *_factors: Tensor) -> Tensor:
        qkv, o, gates, down = joints = [StackedProjection(layer.projections[part], x.dtype) for part in SHARED_INPUT]
        inverse = layer.norm.inverse(x)
        turned, v = layer.heads.split(qkv.forward(layer.norm.forward(x, inverse)))
        mixed, kept = attend(rotate(turned, place.cos, place.sin), v, place.blocks, layer.heads)
        rest = x
        if place.asked is not None:
            rest, mixed = x[place.asked], mixed[place.asked]
        middle = o.forward(mixed, add_to=rest)
        second = layer.second_norm.inverse(middle)
        opened = gates.forward(layer.second_norm.forward(middle, second))
        gated, lifted = opened.chunk(2, 1)
        out = down.forward(silu(gated).mul_(lifted), add_to=middle)
        ctx.save_for_backward(x, inverse, mixed, middle, second, opened, *kept)
        ctx.layer, ctx.place, ctx.joints = layer, place, joints
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, inverse, mixed, middle, second, opened, *kept = ctx.saved_tensors
        layer, place = ctx.layer, ctx.place
        qkv, o, gates, down = ctx.joints

        gated, lifted = opened.chunk(2, 1)
        activated = silu(gated)
        product = activated * lifted
        inner, down_found = down.backward(grad, product)
        torch.mul(inner, lifted, out=product)
        torch.mul(inner, activated, out=lifted)  # from here on ``opened`` holds its gradient
        torch.ops.aten.silu_backward.grad_input(product, gated, grad_input=gated)
        into, gates_found = gates.backward(opened, layer.second_norm.forward(middle, second))
        grad = layer.second_norm.backward(into, middle, second).add_(grad).to(x.dtype)

        mixed_grad, o_found = o.backward(grad, mixed)
        if place.asked is not None:
            mixed_grad = torch.zeros(x.shape[0], mixed_grad.shape[1], dtype=x.dtype).index_copy_(
                0, place.asked, mixed_grad
            )
            grad = torch.zeros_like(x).index_copy_(0, place.asked, grad)
        qkv_grad = attend_back(mixed_grad, kept, place.blocks, layer.heads)
        turned = layer.heads.split(qkv_grad)[0]
        turned.copy_(rotate(turned, place.cos, place.sin, -1))
        wanted = ctx.needs_input_grad[0]
        into, qkv_found = qkv.backward(qkv_grad, layer.norm.forward(x, inverse), wanted=wanted)
        back = layer.norm.backward(into, x, inverse).add_(grad).to(x.dtype) if wanted else None
        return back, None, None, *qkv_found, *o_found, *gates_found, *down_found
