"""The parts of a Llama-like decoder, and the operations that training and inference share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from harness.models.lora_forward import dense_weight


@dataclass(frozen=True, slots=True)
class Heads:
    """The shape of attention: query heads, key-value heads, their width, the scale of a score."""

    query: int
    key: int
    width: int
    scale: float

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor]:
        """[tokens, (query + 2 key)·width] → views of queries with keys, and of values."""
        at = (self.query + self.key) * self.width
        return qkv[:, :at], qkv[:, at:]


@dataclass(frozen=True, slots=True)
class Norm:
    """Root-mean-square norm (arXiv 1910.07467), computed in float32 as transformers does.

    On CUDA it is one kernel of PyTorch forward, and one or two backward.
    """

    weight: Tensor
    epsilon: float

    def apply(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[tokens, hidden] → the same, normalised, and 1 / root mean square of each row in float32.

        The second is [tokens, 1].
        """
        if has_kernels(x):
            out, inverse = torch.ops.aten._fused_rms_norm(
                x, [x.shape[-1]], self.weight, self.epsilon
            )
            return out, inverse
        length: Tensor = torch.linalg.vector_norm(x, 2, -1, True, dtype=torch.float32)
        inverse = length.square_().div_(x.shape[-1]).add_(self.epsilon).rsqrt_()
        return self.forward(x, inverse), inverse

    def forward(self, x: Tensor, inverse: Tensor) -> Tensor:
        """[tokens, hidden] → the same, normalised, where ``apply`` gave ``inverse`` before."""
        if has_kernels(x):
            return self.apply(x)[0]
        return (x * inverse).to(x.dtype).mul_(self.weight)

    def backward(self, grad: Tensor, x: Tensor, inverse: Tensor) -> Tensor:
        """The gradient of x, in float32; on CUDA in the dtype of x."""
        if has_kernels(x):
            found: Tensor = torch.ops.aten._fused_rms_norm_backward(
                grad, x, [x.shape[-1]], inverse, self.weight, [True, False]
            )[0]
            return found
        unit = x * inverse
        scaled = (grad * self.weight).float()
        along = (scaled * unit).mean(-1, keepdim=True)
        return scaled.addcmul_(unit, along, value=-1).mul_(inverse)


def has_kernels(x: Tensor) -> bool:
    """Whether PyTorch has fused kernels for this tensor: on CUDA."""
    return x.is_cuda


@dataclass(frozen=True, slots=True)
class Projection:
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ.

    ``base`` is the frozen linear layer. ``down`` is A [rank, in] and ``up`` is B [out, rank],
    float32 parameters; None without adapter.
    """

    base: torch.nn.Module
    down: torch.nn.Parameter | None = None
    up: torch.nn.Parameter | None = None
    scaling: float = 1.0

    @property
    def weight(self) -> Tensor:
        """W [out, in]; of four bits it is dequantised at each call."""
        return dense_weight(self.base).detach()

    @property
    def bias(self) -> Tensor | None:
        """b [out], or None."""
        bias: Tensor | None = self.base.bias  # type: ignore[assignment]  # a module's attribute
        return bias

    @property
    def outputs(self) -> int:
        """The width of y."""
        return int(self.base.out_features)  # type: ignore[arg-type]  # a module's attribute

    def parameters(self) -> tuple[torch.nn.Parameter, ...]:
        """The adapter's factors: A, then B."""
        return () if self.down is None or self.up is None else (self.down, self.up)


@dataclass(frozen=True, slots=True)
class LayerParts:
    """The parts of one layer. ``projections`` are q, k, v, o, gate, up and down."""

    norm: Norm
    second_norm: Norm
    projections: tuple[Projection, ...]
    heads: Heads

    def parameters(self) -> list[torch.nn.Parameter]:
        """The adapter's factors in this layer, projection by projection."""
        return [
            parameter for projection in self.projections for parameter in projection.parameters()
        ]


@dataclass(frozen=True, slots=True)
class DecoderParts:
    """Embedding, layers, final norm and output embedding.

    ``rotary`` is transformers' module that gives the rotation of each position.
    """

    embedding: Tensor
    layers: tuple[LayerParts, ...]
    norm: Norm
    head: Tensor
    rotary: torch.nn.Module


def rotate(x: Tensor, cos: Tensor, sin: Tensor, sign: int = 1) -> Tensor:
    """Rotary positions (arXiv 2104.09864) in transformers' half-and-half layout.

    x [tokens, heads·width], cos and sin [tokens, 1, width]. ``sign=-1`` is the inverse.
    """
    heads = x.view(x.shape[0], -1, cos.shape[-1])
    half = cos.shape[-1] // 2
    out = heads * cos
    out[..., :half].addcmul_(heads[..., half:], sin[..., :half], value=-sign)
    out[..., half:].addcmul_(heads[..., :half], sin[..., half:], value=sign)
    return out.view(x.shape)


def stacked_bias(parts: Sequence[Projection], dtype: torch.dtype) -> Tensor | None:
    """The biases of all parts in one; zeros for a part without bias, None if no part has one."""
    if all(part.bias is None for part in parts):
        return None
    [device] = {part.bias.device for part in parts if part.bias is not None}
    return torch.cat(
        [
            torch.zeros(part.outputs, device=device) if part.bias is None else part.bias.detach()
            for part in parts
        ]
    ).to(dtype)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None, add_to: Tensor | None) -> Tensor:
    """x Wᵀ + b, [tokens, in] → [tokens, out]; the product itself adds ``add_to`` if given."""
    if add_to is None:
        return linear(x, weight, bias)
    out = torch.addmm(add_to, x, weight.t())
    if bias is not None:
        out += bias
    return out
