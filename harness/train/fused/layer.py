"""One Llama-like decoder layer: norm, attention, norm, gated MLP, with residuals, as a single step of autograd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from harness.train.fused.attention import Heads, attend, attend_back
from harness.train.fused.projection import Passed, Projection
from harness.train.fused.rows import Block

NAMES = ("q", "k", "v", "o", "gate", "up", "down")


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
    """The parts of one layer. ``projections`` are in the order of ``NAMES``."""

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
    """x [tokens, hidden] → the layer's output at the tokens asked for. The adapter's factors are given to receive gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Layer, place: Place, *_factors: Tensor) -> Tensor:
        q, k, v, o, gate, up, down = passed = [Passed(projection) for projection in layer.projections]
        inverse = layer.norm.inverse(x)
        normed = layer.norm.forward(x, inverse)
        turned_q, turned_k = (rotate(part.forward(normed), place.cos, place.sin) for part in (q, k))
        mixed, kept = attend(turned_q, turned_k, v.forward(normed), place.blocks, layer.heads)
        rest = x
        if place.asked is not None:
            rest, mixed = x[place.asked], mixed[place.asked]
        middle = o.forward(mixed, add_to=rest)
        second = layer.second_norm.inverse(middle)
        normed = layer.second_norm.forward(middle, second)
        gated, lifted = gate.forward(normed), up.forward(normed)
        opened = silu(gated)
        out = down.forward(opened * lifted, add_to=middle)
        ctx.save_for_backward(x, inverse, mixed, middle, second, gated, lifted, opened, *kept)
        ctx.layer, ctx.place, ctx.passed = layer, place, passed
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, inverse, mixed, middle, second, gated, lifted, opened, *kept = ctx.saved_tensors
        layer, place = ctx.layer, ctx.place
        q, k, v, o, gate, up, down = ctx.passed
        found: dict[str, tuple[Tensor, ...]] = {}

        inner, found["down"] = down.backward(grad, opened * lifted, None)
        normed = layer.second_norm.forward(middle, second)
        lifted_grad = inner * opened
        gated_grad = torch.ops.aten.silu_backward(inner.mul_(lifted), gated)
        into, found["gate"] = gate.backward(gated_grad, normed, None)
        into, found["up"] = up.backward(lifted_grad, normed, into)
        grad = layer.second_norm.backward(into, middle, second).add_(grad).to(x.dtype)

        mixed_grad, found["o"] = o.backward(grad, mixed, None)
        if place.asked is not None:
            mixed_grad = torch.zeros(x.shape[0], mixed_grad.shape[1], dtype=x.dtype).index_copy_(0, place.asked, mixed_grad)
            grad = torch.zeros_like(x).index_copy_(0, place.asked, grad)
        dq, dk, dv = attend_back(mixed_grad, kept, place.blocks, layer.heads)
        normed = layer.norm.forward(x, inverse)
        wanted = ctx.needs_input_grad[0]
        into, found["q"] = q.backward(rotate(dq, place.cos, place.sin, -1), normed, None, wanted=wanted)
        into, found["k"] = k.backward(rotate(dk, place.cos, place.sin, -1), normed, into, wanted=wanted)
        into, found["v"] = v.backward(dv, normed, into, wanted=wanted)
        back = layer.norm.backward(into, x, inverse).add_(grad).to(x.dtype) if wanted else None
        return back, None, None, *(part for name in NAMES for part in found[name])
