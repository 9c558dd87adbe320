"""Linear layers that read the same input as one matrix product, with what an adapter adds.

A plain Llama-like decoder run by hand: few and large products, no key copied, nothing computed that is not asked for.

What transformers' modules compute, in the order in which they do. Query, key and value are one product, as are gate and up; query heads
that share a key head attend together, so keys are read in place and once; a residual is added by the product itself. Torch is
imported at the top: import this inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, scaled_dot_product_attention, silu

from harness.models.llama.parts import Heads, Norm, Parts, Projection, affine, rotate, stacked_bias
from harness.models.llama.parts import Layer as LayerParts


class StackedLinear:
    """y = x Wᵀ + b + (x Aᵀ) Bᵀ: W and A of all layers stacked, B block by block with the adapter's scale in it. All in ``dtype``."""

    __slots__ = ("bias", "down", "up", "weight")

    def __init__(self, of: Sequence[Projection], dtype: torch.dtype) -> None:
        self.weight = _stacked([layer.weight for layer in of], dtype)
        self.bias = stacked_bias(of, dtype)
        self.down = self.up = None
        factors = [
            (layer.down.detach(), layer.up.detach() * layer.scaling)
            for layer in of
            if layer.down is not None and layer.up is not None
        ]
        if factors:
            self.down = _stacked([down for down, _ in factors], dtype)
            ups = iter(up for _, up in factors)
            blocks = [
                layer.weight.new_zeros(len(layer.weight), 0, dtype=torch.float32)
                if layer.down is None
                else next(ups)
                for layer in of
            ]
            self.up = torch.block_diag(*blocks).to(dtype).t().contiguous()  # type: ignore[no-untyped-call]  # torch

    def __call__(self, x: Tensor, add_to: Tensor | None = None) -> Tensor:
        """[tokens, in] → [tokens, out of all], plus ``add_to`` if given."""
        out = affine(x, self.weight, self.bias, add_to)
        if self.down is not None and self.up is not None:
            out.addmm_(linear(x, self.down), self.up)
        return out


def _stacked(matrices: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """One matrix under the other; a single one that has the dtype is not copied."""
    return (
        matrices[0].to(dtype)
        if len(matrices) == 1
        else torch.cat([matrix.to(dtype) for matrix in matrices])
    )


#: (layer, its queries, keys and values, [tokens, heads · width] each) → the mix of values, [tokens, query heads · width].
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, its products joined."""

    norm: Norm
    second_norm: Norm
    qkv: StackedLinear
    out: StackedLinear
    gate_up: StackedLinear
    down: StackedLinear
    heads: Heads

    @classmethod
    def of(cls, parts: LayerParts, dtype: torch.dtype) -> Layer:
        q, k, v, o, gate, up, down = parts.projections
        norms = _norm(parts.norm, dtype), _norm(parts.second_norm, dtype)
        return cls(
            *norms,
            StackedLinear((q, k, v), dtype),
            StackedLinear((o,), dtype),
            StackedLinear((gate, up), dtype),
            StackedLinear((down,), dtype),
            parts.heads,
        )

    def states(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, turned to their positions, and values."""
        turning, values = self.heads.split(self.qkv(self.norm.forward(x, self.norm.inverse(x))))
        turned = rotate(turning, cos, sin)
        queries = self.heads.query * self.heads.width
        return turned[:, :queries], turned[:, queries:], values

    def rest(self, x: Tensor, mixed: Tensor) -> Tensor:
        """All that comes after attention."""
        x = self.out(mixed, add_to=x)
        joined = self.gate_up(self.second_norm.forward(x, self.second_norm.inverse(x)))
        half = joined.shape[1] // 2
        return self.down(silu(joined[:, :half]).mul_(joined[:, half:]), add_to=x)


class LlamaForward:
    """The interface is harness.backends.local.forward.Forward. Computes in ``dtype``; keys and values are kept in the model's own."""

    def __init__(self, parts: Parts, dtype: torch.dtype) -> None:
        self.parts = parts
        self.dtype = dtype
        self.layers = [Layer.of(layer, dtype) for layer in parts.layers]
        self.norm = _norm(parts.norm, dtype)
        self.head = parts.head.to(dtype)
        self.stores: list[tuple[Tensor, Tensor]] = []

    def reserve(self, slots: int, width: int) -> None:
        self.stores = []  # the old ones go before the new ones come
        shape = (slots, width, self.layers[0].heads.key, self.layers[0].heads.width)
        self.stores = [
            (self.parts.head.new_zeros(shape), self.parts.head.new_zeros(shape))
            for _ in self.layers
        ]

    def packs(
        self,
        ids: Tensor,
        positions: Tensor,
        bias: Tensor,
        wanted: Tensor,
        kept: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        heads = self.layers[0].heads
        shared = heads.query // heads.key
        sees = bias.to(self.dtype).repeat(1, 1, shared, 1)

        def attend(at: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if kept is not None:
                source, target = kept
                self._keep(at, target, k[source], v[source])
            q = (
                q.view(*ids.shape, heads.key, shared, heads.width)
                .permute(0, 2, 3, 1, 4)
                .reshape(len(ids), heads.key, -1, heads.width)
            )
            k, v = (x.view(*ids.shape, heads.key, heads.width).transpose(1, 2) for x in (k, v))
            mixed = scaled_dot_product_attention(q, k, v, sees, scale=heads.scale)
            return (
                mixed.view(len(ids), heads.key, shared, -1, heads.width)
                .permute(0, 3, 1, 2, 4)
                .reshape(ids.numel(), -1)
            )

        return self._logits(ids.flatten(), positions.flatten(), attend, wanted)

    def tokens(self, ids: Tensor, positions: Tensor, places: Tensor, bias: Tensor) -> Tensor:
        heads = self.layers[0].heads
        rows, reach = len(ids), bias.shape[-1]

        def attend(at: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self._keep(at, places, k, v)
            keys, values = (store[:rows, :reach].transpose(1, 2) for store in self.stores[at])
            q = q.reshape(rows, heads.key, -1, heads.width).to(keys.dtype)
            mixed = scaled_dot_product_attention(q, keys, values, bias, scale=heads.scale)
            return mixed.reshape(rows, -1).to(self.dtype)

        return self._logits(ids, positions, attend, None)

    def move(self, to: Tensor, since: Tensor, reach: int) -> None:
        for stores in self.stores:
            for store in stores:
                rows = store[:, :reach]
                rows.index_copy_(0, to, rows.index_select(0, since))

    def _keep(self, at: int, places: Tensor, k: Tensor, v: Tensor) -> None:
        for store, fresh in zip(self.stores[at], (k, v), strict=True):
            store.view(-1, fresh.shape[1]).index_copy_(0, places, fresh.to(store.dtype))

    def _logits(
        self, ids: Tensor, positions: Tensor, attend: Attend, wanted: Tensor | None
    ) -> Tensor:
        """ids, positions [tokens] → logits [wanted or tokens, vocabulary]. The last layer runs on what is wanted only, but for its keys and values."""
        x = embedding(ids, self.parts.embedding).to(self.dtype)
        cos, sin = (turn.transpose(0, 1) for turn in self.parts.rotary(x, positions.unsqueeze(0)))
        for at, layer in enumerate(self.layers):
            mixed = attend(at, *layer.states(x, cos, sin))
            if wanted is not None and at == len(self.layers) - 1:
                x, mixed = x[wanted], mixed[wanted]
            x = layer.rest(x, mixed)
        return linear(self.norm.forward(x, self.norm.inverse(x)), self.head)


def _norm(norm: Norm, dtype: torch.dtype) -> Norm:
    return Norm(norm.weight.to(dtype), norm.epsilon)
