"""Frozen linear layers with their LoRA factors, forward and backward, on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from harness.models.llama.parts import Projection, affine, stacked_bias


class StackedProjection:
    """One use of projections that read the same input, as one: y = x Wᵀ + b + (x Aᵀ) Bᵀ.

    W, b and A are those of all, stacked; B is block-diagonal, times the scaling. So q, k and v take
    two small products forward and four backward instead of six and twelve; the zeros of B cost less
    than the calls. Everything is in the dtype of x. W is cast at each use: kept, it would be a
    second model in memory, and casting takes a twentieth of the products of 1000 tokens
    (docs/log.md).
    """

    __slots__ = ("bias", "blocks", "down", "inner", "parts", "up")

    def __init__(self, parts: Sequence[Projection], dtype: torch.dtype) -> None:
        self.parts = parts
        self.inner: Tensor | None = None
        self.down = self.up = None
        self.bias = stacked_bias(parts, dtype)
        # the projections with an adapter, their outputs, and their part of the inner width
        self.blocks: list[tuple[Projection, slice, slice]] = []
        out = rank = 0
        for part in parts:
            if part.down is not None:
                self.blocks.append(
                    (part, slice(out, out + part.outputs), slice(rank, rank + len(part.down)))
                )
                rank += len(part.down)
            out += part.outputs
        if self.blocks:
            self.down = torch.cat(
                [part.down.detach() for part, _, _ in self.blocks if part.down is not None]
            ).to(dtype)
            self.up = torch.zeros(out, rank, dtype=dtype)
            for part, outputs, inner in self.blocks:
                if part.up is not None:
                    self.up[outputs, inner] = part.up.detach() * part.scaling

    def forward(self, x: Tensor, add_to: Tensor | None = None) -> Tensor:
        """[tokens, in] → [tokens, out of all], plus ``add_to`` if given."""
        out = affine(x, self._weight(x.dtype), self.bias, add_to)
        if self.down is not None and self.up is not None:
            self.inner = linear(x, self.down)
            out.addmm_(self.inner, self.up.t())
        return out

    def backward(
        self, grad: Tensor, x: Tensor, *, needed: bool = True
    ) -> tuple[Tensor | None, list[Tensor]]:
        """The gradients of x, unless it is not ``needed``, and of each factor, in float32."""
        found: list[Tensor] = []
        into = grad @ self._weight(x.dtype) if needed else None
        if self.down is not None and self.up is not None and self.inner is not None:
            inner_grad = grad @ self.up
            down_grad, up_grad = (inner_grad.t() @ x).float(), (grad.t() @ self.inner).float()
            for part, outputs, inner in self.blocks:
                found += [down_grad[inner], up_grad[outputs, inner] * part.scaling]
            if into is not None:
                into.addmm_(inner_grad, self.down)
        return into, found

    def _weight(self, dtype: torch.dtype) -> Tensor:
        weights = [part.weight for part in self.parts]
        if len(weights) == 1:
            return weights[0].to(dtype)
        whole = weights[0].new_empty(sum(map(len, weights)), weights[0].shape[1], dtype=dtype)
        return torch.cat(weights, out=whole)
