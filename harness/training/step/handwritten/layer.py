"""One Llama-like decoder layer as a single function of autograd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import silu

from harness.models.llama.parts import LayerParts, rotate
from harness.training.step.handwritten.attention import attend, attend_back
from harness.training.step.handwritten.packed_rows import Block
from harness.training.step.row_attention import Bounds, flash_rows, flash_rows_back

#: The projections of a layer (q, k, v, o, gate, up, down) that read the same input.
SHARED_INPUT = (slice(0, 3), slice(3, 4), slice(4, 6), slice(6, 7))


class LinearGroup(Protocol):
    """Projections that read the same input: StackedProjection or GroupProjection."""

    def forward(self, x: Tensor, add_to: Tensor | None = None) -> Tensor: ...

    def backward(
        self, grad: Tensor, x: Tensor, *, needed: bool = True
    ) -> tuple[Tensor | None, list[Tensor]]: ...


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tokens' rows are, their rotations [tokens, 1, width], and which outputs are wanted.

    Rows are blocks of equal width on a CPU, and by bounds where FlashAttention's kernel runs.
    ``wanted`` None means all.
    """

    rows: tuple[Block, ...] | Bounds
    cos: Tensor
    sin: Tensor
    wanted: Tensor | None = None


class LayerFunction(torch.autograd.Function):
    """x [tokens, hidden] → the layer's output at the wanted tokens, in the dtype of x.

    ``make`` gives the layer's groups of projections. With ``recompute`` the layer keeps x alone and
    computes the rest again in its backward pass (gradient checkpointing). The adapter's factors are
    arguments so that they receive gradients.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        layer: LayerParts,
        layout: Layout,
        groups: Sequence[LinearGroup],
        recompute: bool,
        *_factors: Tensor,
    ) -> Tensor:
        out, kept = _forward(x, layer, layout, groups)
        ctx.save_for_backward(x, *([] if recompute else kept))
        ctx.layer, ctx.layout, ctx.groups = layer, layout, groups
        if recompute:
            for group in groups:
                group.inner = None  # type: ignore[attr-defined]
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *kept = ctx.saved_tensors
        layer, layout, groups = ctx.layer, ctx.layout, ctx.groups
        if not kept:
            _, kept = _forward(x, layer, layout, groups)
        inverse, mixed, middle, second, opened, *of_attention = kept
        qkv, o, gates, down = groups

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
            mixed_grad = x.new_zeros(x.shape[0], mixed_grad.shape[1]).index_copy_(
                0, layout.wanted, mixed_grad
            )
            grad = torch.zeros_like(x).index_copy_(0, layout.wanted, grad)
        qkv_grad = _attend_back(mixed_grad, of_attention, layout.rows, layer)
        qk_grad = layer.heads.split(qkv_grad)[0]
        qk_grad.copy_(rotate(qk_grad, layout.cos, layout.sin, -1))
        needed = ctx.needs_input_grad[0]
        into, qkv_found = qkv.backward(qkv_grad, layer.norm.forward(x, inverse), needed=needed)
        back = layer.norm.backward(into, x, inverse).add_(grad).to(x.dtype) if needed else None
        return back, None, None, None, None, *qkv_found, *o_found, *gates_found, *down_found


def _forward(
    x: Tensor, layer: LayerParts, layout: Layout, groups: Sequence[LinearGroup]
) -> tuple[Tensor, list[Tensor]]:
    """The layer's output, and what its backward pass needs besides x."""
    qkv, o, gates, down = groups
    hidden, inverse = layer.norm.apply(x)
    qk, v = layer.heads.split(qkv.forward(hidden))
    mixed, of_attention = _attend(rotate(qk, layout.cos, layout.sin), v, layout.rows, layer)
    rest = x
    if layout.wanted is not None:
        rest, mixed = x[layout.wanted], mixed[layout.wanted]
    middle = o.forward(mixed, add_to=rest)
    hidden, second = layer.second_norm.apply(middle)
    opened = gates.forward(hidden)
    gated, lifted = opened.chunk(2, 1)
    out = down.forward(silu(gated).mul_(lifted), add_to=middle)
    return out, [inverse, mixed, middle, second, opened, *of_attention]


def _attend(
    qk: Tensor, v: Tensor, rows: tuple[Block, ...] | Bounds, layer: LayerParts
) -> tuple[Tensor, list[Tensor]]:
    if not isinstance(rows, Bounds):
        return attend(qk, v, rows, layer.heads)
    heads = layer.heads
    both = qk.view(len(qk), -1, heads.width)
    q, k = both[:, : heads.query], both[:, heads.query :]
    v = v.view(len(v), heads.key, heads.width)
    out, *rest = flash_rows(q, k, v, rows, heads.scale)
    return out.view(len(out), -1), [q, k, v, out, *rest]


def _attend_back(
    grad: Tensor, kept: list[Tensor], rows: tuple[Block, ...] | Bounds, layer: LayerParts
) -> Tensor:
    """The gradients of q, k and v side by side, [tokens, (query + 2 key)·width]."""
    if not isinstance(rows, Bounds):
        return attend_back(grad, kept, rows, layer.heads)
    shaped = grad.view(len(grad), layer.heads.query, layer.heads.width)
    return torch.cat(
        [part.flatten(1) for part in flash_rows_back(shaped, kept, rows, layer.heads.scale)], 1
    )
