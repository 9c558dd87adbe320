"""Frozen linear layers with their LoRA factors, forward and backward, in few kernels on a GPU.

A GPU waits for its kernels to be launched as long as the model or the pass is small. So the factors
of all layers are cast together, once a step; nothing is scaled or rounded by a kernel of its own;
weights are multiplied where they lie, and those of four bits are dequantised one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn.functional import linear

from harness.models.llama.parts import LayerParts, Projection
from harness.models.llama.stacked_weights import adjacent
from harness.models.lora_forward import product, wide_product


@dataclass(frozen=True, slots=True)
class Factor:
    """One projection's B [out, rank], and its place among the outputs and the inner width."""

    part: Projection
    up: Tensor
    outputs: slice
    inner: slice


class GroupProjection:
    """One use of projections that read the same input: y = x Wᵀ + b + s (x Aᵀ) Bᵀ for each.

    ``down`` are all A stacked, [ranks, in]. It has the interface of StackedProjection.
    """

    __slots__ = ("down", "factors", "inner", "parts", "scaling")

    def __init__(self, parts: Sequence[Projection], down: Tensor, factors: list[Factor]) -> None:
        self.parts = parts
        self.down = down
        self.factors = factors
        self.scaling = factors[0].part.scaling if factors else 1.0
        self.inner: Tensor | None = None

    def forward(self, x: Tensor, add_to: Tensor | None = None) -> Tensor:
        """[tokens, in] → [tokens, out of all], plus ``add_to`` if given."""
        out = self._base(x, add_to)
        if self.factors:
            self.inner = product(x, self.down.t(), self.scaling)
            for factor in self.factors:
                out[:, factor.outputs].addmm_(self.inner[:, factor.inner], factor.up.t())
        return out

    def backward(
        self, grad: Tensor, x: Tensor, *, needed: bool = True
    ) -> tuple[Tensor | None, list[Tensor]]:
        """The gradients of x, unless it is not ``needed``, and of each factor, in float32."""
        found: list[Tensor] = []
        into = self._into(grad) if needed else None
        if self.factors and self.inner is not None:
            inner_grad = torch.empty_like(self.inner)
            for factor in self.factors:
                torch.addmm(
                    inner_grad[:, factor.inner],
                    grad[:, factor.outputs],
                    factor.up,
                    beta=0,
                    alpha=self.scaling,
                    out=inner_grad[:, factor.inner],
                )
            down_grad = wide_product(inner_grad.t(), x)
            for factor in self.factors:
                up_grad = wide_product(grad[:, factor.outputs].t(), self.inner[:, factor.inner])
                found += [down_grad[factor.inner], up_grad]
            if into is not None:
                into.addmm_(inner_grad, self.down)
        return into, found

    def _base(self, x: Tensor, add_to: Tensor | None) -> Tensor:
        """x Wᵀ + b, plus ``add_to``."""
        weights = self._weights()
        whole = adjacent(weights) if weights else None
        biases = [part.bias for part in self.parts]
        if whole is not None and add_to is None and len(biases) == 1:
            return linear(x, whole, biases[0])
        if whole is not None:
            out = x @ whole.t() if add_to is None else torch.addmm(add_to, x, whole.t())
        else:
            out = x.new_empty(len(x), sum(part.outputs for part in self.parts))
            for part, place in zip(self.parts, _places(self.parts), strict=True):
                torch.mm(x, part.weight.to(x.dtype).t(), out=out[:, place])
            if add_to is not None:
                out += add_to
        for bias, place in zip(biases, _places(self.parts), strict=True):
            if bias is not None:
                out[:, place] += bias
        return out

    def _into(self, grad: Tensor) -> Tensor:
        """grad W."""
        weights = self._weights()
        whole = adjacent(weights) if weights else None
        if whole is not None:
            return grad @ whole
        first, *others = zip(self.parts, _places(self.parts), strict=True)
        into = grad[:, first[1]] @ first[0].weight.to(grad.dtype)
        for part, place in others:
            into.addmm_(grad[:, place], part.weight.to(grad.dtype))
        return into

    def _weights(self) -> list[Tensor]:
        """The weights that are there as they are; [] where one has to be dequantised."""
        bases = [part.base.weight for part in self.parts]
        if any(getattr(weight, "quant_state", None) is not None for weight in bases):
            return []
        return [part.weight for part in self.parts]


def group_projections(
    layers: Sequence[LayerParts], groups: Sequence[slice], dtype: torch.dtype
) -> list[list[GroupProjection]]:
    """For each layer its projections by group, with the factors of all layers cast together."""
    wide: list[Tensor] = []
    narrow: list[Tensor] = []
    found = []
    for layer in layers:
        of_layer = []
        for group in groups:
            parts = layer.projections[group]
            adapted = [part for part in parts if part.down is not None]
            ranks = sum(part.parameters()[0].shape[0] for part in adapted)
            down = torch.empty(0)
            factors = []
            if adapted:
                first = adapted[0].parameters()[0]
                down = first.new_empty(ranks, first.shape[1], dtype=dtype)
            start = 0
            for part, place in zip(parts, _places(parts), strict=True):
                if not part.parameters():
                    continue
                a, b = part.parameters()
                inner = slice(start, start + len(a))
                start += len(a)
                up = torch.empty_like(b, dtype=dtype)
                wide += [a.detach(), b.detach()]
                narrow += [down[inner], up]
                factors.append(Factor(part, up, place, inner))
            of_layer.append(GroupProjection(parts, down, factors))
        found.append(of_layer)
    if wide:
        torch._foreach_copy_(narrow, wide)
    return found


def _places(parts: Sequence[Projection]) -> list[slice]:
    """The outputs of each projection among those of all."""
    ends = accumulate((part.outputs for part in parts), initial=0)
    return [slice(start, end) for start, end in pairwise(ends)]
