"""What a Llama-like decoder is made of.

Linear layers that read the same input, as one: what training and inference do alike with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear


@dataclass(frozen=True, slots=True)
class Heads:
    """Shape of the attention: query heads, key-value heads, their width, and the scale of a score."""

    query: int
    key: int
    width: int
    scale: float

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor]:
        """[tokens, (query + 2 key)·width] → queries with keys, which are turned by position, and values. Views."""
        at = (self.query + self.key) * self.width
        return qkv[:, :at], qkv[:, at:]


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
        """[tokens, hidden] → the same, normed."""
        return (x * inverse).to(x.dtype).mul_(self.weight)

    def backward(self, grad: Tensor, x: Tensor, inverse: Tensor) -> Tensor:
        """The gradient of x, in float32."""
        unit = x * inverse
        scaled = (grad * self.weight).float()
        along = (scaled * unit).mean(-1, keepdim=True)
        return scaled.addcmul_(unit, along, value=-1).mul_(inverse)


@dataclass(frozen=True, slots=True)
class Projection:
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ. ``down`` is A [rank, in] and ``up`` is B [out, rank], float32 parameters, or None without adapter."""

    weight: Tensor
    bias: Tensor | None
    down: torch.nn.Parameter | None = None
    up: torch.nn.Parameter | None = None
    scaling: float = 1.0

    def parameters(self) -> tuple[torch.nn.Parameter, ...]:
        """What an adapter trains here: A, then B."""
        return () if self.down is None or self.up is None else (self.down, self.up)


@dataclass(frozen=True, slots=True)
class LayerParts:
    """The parts of one layer. ``projections`` are q, k, v, o, gate, up and down."""

    norm: Norm
    second_norm: Norm
    projections: tuple[Projection, ...]
    heads: Heads

    def parameters(self) -> list[torch.nn.Parameter]:
        """What an adapter trains in this layer, projection by projection."""
        return [
            parameter for projection in self.projections for parameter in projection.parameters()
        ]


@dataclass(frozen=True, slots=True)
class DecoderParts:
    """Embedding, layers, final norm and output embedding. ``rotary`` gives the rotation of each position, as transformers does."""

    embedding: Tensor
    layers: tuple[LayerParts, ...]
    norm: Norm
    head: Tensor
    rotary: torch.nn.Module


def rotate(x: Tensor, cos: Tensor, sin: Tensor, sign: int = 1) -> Tensor:
    """Rotary positions (Su 2021, arXiv 2104.09864) in transformers' half-and-half layout; ``sign=-1`` turns back.

    x [tokens, heads·width], cos and sin [tokens, 1, width].
    """
    heads = x.view(x.shape[0], -1, cos.shape[-1])
    half = cos.shape[-1] // 2
    out = heads * cos
    out[..., :half].addcmul_(heads[..., half:], sin[..., :half], value=-sign)
    out[..., half:].addcmul_(heads[..., :half], sin[..., half:], value=sign)
    return out.view(x.shape)


def stacked_bias(parts: Sequence[Projection], dtype: torch.dtype) -> Tensor | None:
    """The biases of all, side by side; zeros for a part without one, None if none has one."""
    if all(part.bias is None for part in parts):
        return None
    return torch.cat(
        [
            part.weight.new_zeros(len(part.weight)) if part.bias is None else part.bias.detach()
            for part in parts
        ]
    ).to(dtype)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None, add_to: Tensor | None) -> Tensor:
    """x Wᵀ + b, plus ``add_to`` if given: [tokens, in] → [tokens, out]. A residual is added by the product itself."""
    if add_to is None:
        return linear(x, weight, bias)
    out = torch.addmm(add_to, x, weight.t())
    if bias is not None:
        out += bias
    return out
