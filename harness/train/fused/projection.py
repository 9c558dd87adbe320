"""A frozen linear layer with its LoRA factors, forwards and backwards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear


@dataclass(frozen=True, slots=True)
class Projection:
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ. ``down`` is A [rank, in] and ``up`` is B [out, rank], float32 parameters, or None without adapter."""

    weight: Tensor
    bias: Tensor | None
    down: torch.nn.Parameter | None = None
    up: torch.nn.Parameter | None = None
    scaling: float = 1.0

    def parameters(self) -> tuple[torch.nn.Parameter, ...]:
        """What is trained, in the order in which ``Passed.backward`` gives gradients."""
        return () if self.down is None or self.up is None else (self.down, self.up)


class Passed:
    """One use of a projection in a forward pass: the factors in the base's dtype, and x Aᵀ, which the backward pass needs."""

    __slots__ = ("down", "inner", "of", "up")

    def __init__(self, of: Projection) -> None:
        self.of = of
        self.inner: Tensor | None = None
        self.down = self.up = None
        if of.down is not None and of.up is not None:
            self.down = of.down.detach().to(of.weight.dtype)
            self.up = (of.up.detach() * of.scaling).to(of.weight.dtype)

    def forward(self, x: Tensor, add_to: Tensor | None = None) -> Tensor:
        """[tokens, in] → [tokens, out], plus ``add_to`` if given."""
        if add_to is None:
            out = linear(x, self.of.weight, self.of.bias)
        else:
            out = torch.addmm(add_to, x, self.of.weight.t())
            if self.of.bias is not None:
                out += self.of.bias
        if self.down is not None and self.up is not None:
            self.inner = linear(x, self.down)
            out.addmm_(self.inner, self.up.t())
        return out

    def backward(self, grad: Tensor, x: Tensor, into: Tensor | None, *, wanted: bool = True) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        """The gradients of x, added to ``into`` if given and left out unless ``wanted``, and of the factors, in float32."""
        found: tuple[Tensor, ...] = ()
        inner_grad = None
        if self.down is not None and self.up is not None and self.inner is not None:
            inner_grad = grad @ self.up
            found = ((inner_grad.t() @ x).float(), (grad.t() @ self.inner).float().mul_(self.of.scaling))
        if wanted:
            into = grad @ self.of.weight if into is None else into.addmm_(grad, self.of.weight)
            if inner_grad is not None and self.down is not None:
                into.addmm_(inner_grad, self.down)
        return into, found
