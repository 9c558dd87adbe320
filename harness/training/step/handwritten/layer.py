"""One Llama-like decoder layer as a single function of autograd."""

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

#: The projections of a layer (q, k, v, o, gate, up, down) that read the same input.
SHARED_INPUT = (slice(0, 3), slice(3, 4), slice(4, 6), slice(6, 7))


@dataclass(frozen=True, slots=True)
class Layout:
    """The tokens' blocks of rows, their rotations [tokens, 1, width], and which outputs are wanted.

    ``wanted`` None means all.
    """

    blocks: tuple[Block, ...]
    cos: Tensor
    sin: Tensor
    wanted: Tensor | None = None


class LayerFunction(torch.autograd.Function):
    """x [tokens, hidden] → the layer's output at the wanted tokens, in the dtype of x.

    The adapter's factors are arguments so that they receive gradients.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, layer: LayerParts, layout: Layout, *_factors: Tensor
    ) -> Tensor:
        qkv, o, gates, down = stacked = [
            StackedProjection(layer.projections[part], x.dtype) for part in SHARED_INPUT
        ]
        inverse = layer.norm.inverse(x)
        qk, v = layer.heads.split(qkv.forward(layer.norm.forward(x, inverse)))
        mixed, kept = attend(rotate(qk, layout.cos, layout.sin), v, layout.blocks, layer.heads)
        rest = x
        if layout.wanted is not None:
            rest, mixed = x[layout.wanted], mixed[layout.wanted]
        middle = o.forward(mixed, add_to=rest)
        second = layer.second_norm.inverse(middle)
        opened = gates.forward(layer.second_norm.forward(middle, second))
        gated, lifted = opened.chunk(2, 1)
        out = down.forward(silu(gated).mul_(lifted), add_to=middle)
        ctx.save_for_backward(x, inverse, mixed, middle, second, opened, *kept)
        ctx.layer, ctx.layout, ctx.stacked = layer, layout, stacked
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, inverse, mixed, middle, second, opened, *kept = ctx.saved_tensors
        layer, layout = ctx.layer, ctx.layout
        qkv, o, gates, down = ctx.stacked

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
        if layout.wanted is not None:
            mixed_grad = torch.zeros(x.shape[0], mixed_grad.shape[1], dtype=x.dtype).index_copy_(
                0, layout.wanted, mixed_grad
            )
            grad = torch.zeros_like(x).index_copy_(0, layout.wanted, grad)
        qkv_grad = attend_back(mixed_grad, kept, layout.blocks, layer.heads)
        qk_grad = layer.heads.split(qkv_grad)[0]
        qk_grad.copy_(rotate(qk_grad, layout.cos, layout.sin, -1))
        needed = ctx.needs_input_grad[0]
        into, qkv_found = qkv.backward(qkv_grad, layer.norm.forward(x, inverse), needed=needed)
        back = layer.norm.backward(into, x, inverse).add_(grad).to(x.dtype) if needed else None
        return back, None, None, *qkv_found, *o_found, *gates_found, *down_found
