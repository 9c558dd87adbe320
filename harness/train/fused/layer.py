"""One Llama-like decoder layer: norm, attention, norm, gated MLP, with residuals, as a single step of autograd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from harness.train.fused.attention import Heads, attend, attend_back
from harness.train.fused.projection import Joint, Projection
from harness.train.fused.rows import Block

#: Which of a layer's projections (q, k, v, o, gate, up, down) read the same input.
JOINED = (slice(0, 3), slice(3, 4), slice(4, 6), slice(6, 7))


@dataclass(frozen=True, slots=True)
class Norm:
    """Root-mean-square norm (Zhang and Sennrich 2019, arXiv 1910.07467), with float32 inside as transformers has it."""

    weight: Tensor
    epsilon: float

    def inverse(self, x: Tensor) -> Tensor:
        """1 / root mean square of each row, [tokens, 1] float32."""
        length: Tensor = torch.linalg.vector_norm(x, 2, -1, True, dtype=torch.float32)
        return length.square_().div_(x.shape[-1]).add_(self.epsilon).rsqrt_()

    def forward(self, x: Tensor, inverse: Tensor) -> Tensor:
        return (x * inverse).to(x.dtype).mul_(self.weight)

    def backward(self, grad: Tensor, x: Tensor, inverse: Tensor) -> Tensor:
        """The gradient of x, in float32."""
        unit = x * inverse
        scaled = (grad * self.weight).float()
        along = (scaled * unit).mean(-1, keepdim=True)
        return scaled.addcmul_(unit, along, value=-1).mul_(inverse)


@dataclass(frozen=True, slots=True)
class Layer:
    """The parts of one layer. ``projections`` are q, k, v, o, gate, up and down."""

    norm: Norm
    second_norm: Norm
    projections: tuple[Projection, ...]
    heads: Heads

    def parameters(self) -> list[torch.nn.Parameter]:
        """What is trained in this layer, in the order in which ``Decode`` takes it."""
        return [parameter for projection in self.projections for parameter in projection.parameters()]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tokens stand: blocks of rows, the rotation of each token [tokens, 1, width], and the tokens that are asked for (None: all)."""

    blocks: tuple[Block, ...]
    cos: Tensor
    sin: Tensor
    asked: Tensor | None = None


def rotate(x: Tensor, cos: Tensor, sin: Tensor, sign: int = 1) -> Tensor:
    """Rotary positions (Su 2021, arXiv 2104.09864) in transformers' half-and-half layout; ``sign=-1`` turns back."""
    heads = x.view(x.shape[0], -1, cos.shape[-1])
    half = cos.shape[-1] // 2
    out = heads * cos
    out[..., :half].addcmul_(heads[..., half:], sin[..., :half], value=-sign)
    out[..., half:].addcmul_(heads[..., :half], sin[..., half:], value=sign)
    return out.view(x.shape)


class Decode(torch.autograd.Function):
    """x [tokens, hidden] → the layer's output at the tokens asked for, in the dtype of x. The adapter's factors are given to receive gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Layer, place: Place, *_factors: Tensor) -> Tensor:
        qkv, o, gates, down = joints = [Joint(layer.projections[part], x.dtype) for part in JOINED]
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
            mixed_grad = torch.zeros(x.shape[0], mixed_grad.shape[1], dtype=x.dtype).index_copy_(0, place.asked, mixed_grad)
            grad = torch.zeros_like(x).index_copy_(0, place.asked, grad)
        qkv_grad = attend_back(mixed_grad, kept, place.blocks, layer.heads)
        turned = layer.heads.split(qkv_grad)[0]
        turned.copy_(rotate(turned, place.cos, place.sin, -1))
        wanted = ctx.needs_input_grad[0]
        into, qkv_found = qkv.backward(qkv_grad, layer.norm.forward(x, inverse), wanted=wanted)
        back = layer.norm.backward(into, x, inverse).add_(grad).to(x.dtype) if wanted else None
        return back, None, None, *qkv_found, *o_found, *gates_found, *down_found
