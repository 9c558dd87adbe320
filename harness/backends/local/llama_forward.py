"""A hand-written forward pass of a plain Llama-like decoder: few and large matrix products.

It computes what transformers' modules do, in their order. Query, key and value are one product, as
are gate and up; query heads that share a key head attend together, so keys are read in place and
once; a residual is added by the product itself. Torch is imported at the top: import this lazily.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, scaled_dot_product_attention, silu

from harness.models.llama.parts import (
    DecoderParts,
    Heads,
    LayerParts,
    Norm,
    Projection,
    affine,
    rotate,
    stacked_bias,
)
from harness.models.llama.stacked_weights import adjacent

#: (layer, its queries, keys and values [tokens, heads · width]) → values mixed by attention,
#: [tokens, query heads · width].
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class LlamaForward:
    """A ``harness.backends.local.forward.Forward`` that computes in ``dtype``.

    Keys and values are kept in the model's own dtype.
    """

    def __init__(self, parts: DecoderParts, dtype: torch.dtype) -> None:
        self.parts = parts
        self.dtype = dtype
        self.layers = [StackedLayer.of(layer, dtype) for layer in parts.layers]
        self.norm = _norm(parts.norm, dtype)
        self.head = parts.head.to(dtype)
        self.stores: list[tuple[Tensor, Tensor]] = []

    def reserve(self, slots: int, width: int) -> None:
        self.stores = []  # frees the old ones before the new ones are made
        # Heads before places: attention reads the keys of a head in one piece (docs/log.md).
        shape = (slots, self.layers[0].heads.key, width, self.layers[0].heads.width)
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
        mask = bias.to(self.dtype).repeat(1, 1, shared, 1)
        target = None if kept is None else self._places(kept[1])

        def attend(at: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if kept is not None and target is not None:
                self._keep(at, target, k[kept[0]], v[kept[0]])
            q = (
                q.view(*ids.shape, heads.key, shared, heads.width)
                .permute(0, 2, 3, 1, 4)
                .reshape(len(ids), heads.key, -1, heads.width)
            )
            k, v = (x.view(*ids.shape, heads.key, heads.width).transpose(1, 2) for x in (k, v))
            mixed = scaled_dot_product_attention(q, k, v, mask, scale=heads.scale)
            return (
                mixed.view(len(ids), heads.key, shared, -1, heads.width)
                .permute(0, 3, 1, 2, 4)
                .reshape(ids.numel(), -1)
            )

        return self._logits(ids.flatten(), positions.flatten(), attend, wanted)

    def tokens(self, ids: Tensor, positions: Tensor, places: Tensor, bias: Tensor) -> Tensor:
        heads = self.layers[0].heads
        rows, kv_len = len(ids), bias.shape[-1]
        target = self._places(places)

        def attend(at: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self._keep(at, target, k, v)
            keys, values = (store[:rows, :, :kv_len] for store in self.stores[at])
            q = q.reshape(rows, heads.key, -1, heads.width).to(keys.dtype)
            mixed = scaled_dot_product_attention(q, keys, values, bias, scale=heads.scale)
            return mixed.reshape(rows, -1).to(self.dtype)

        return self._logits(ids, positions, attend, None)

    def move(self, target: Tensor, source: Tensor, kv_len: int) -> None:
        for stores in self.stores:
            for store in stores:
                rows = store[:, :, :kv_len]
                rows.index_copy_(0, target, rows.index_select(0, source))

    def _places(self, places: Tensor) -> Tensor:
        """Where the heads of these tokens lie: token by token, and head by head."""
        _, heads, width, _ = self.stores[0][0].shape
        first = places // width * (heads * width) + places % width
        steps = torch.arange(0, heads * width, width, device=places.device)
        return (first[:, None] + steps).flatten()

    def _keep(self, at: int, target: Tensor, k: Tensor, v: Tensor) -> None:
        for store, new in zip(self.stores[at], (k, v), strict=True):
            size = store.shape[-1]
            store.view(-1, size).index_copy_(0, target, new.reshape(-1, size).to(store.dtype))

    def _logits(
        self, ids: Tensor, positions: Tensor, attend: Attend, wanted: Tensor | None
    ) -> Tensor:
        """ids, positions [tokens] → logits [wanted or tokens, vocabulary].

        After its keys and values, the last layer computes only what is wanted.
        """
        x = embedding(ids, self.parts.embedding).to(self.dtype)
        cos, sin = (angle.transpose(0, 1) for angle in self.parts.rotary(x, positions.unsqueeze(0)))
        for at, layer in enumerate(self.layers):
            mixed = attend(at, *layer.attention_inputs(x, cos, sin))
            if wanted is not None and at == len(self.layers) - 1:
                x, mixed = x[wanted], mixed[wanted]
            x = layer.after_attention(x, mixed)
        return linear(self.norm.apply(x)[0], self.head)


@dataclass(frozen=True, slots=True)
class StackedLayer:
    """One layer, with the projections that read the same input stacked."""

    norm: Norm
    second_norm: Norm
    qkv: StackedLinear
    out: StackedLinear
    gate_up: StackedLinear
    down: StackedLinear
    heads: Heads

    @classmethod
    def of(cls, parts: LayerParts, dtype: torch.dtype) -> StackedLayer:
        q, k, v, o, gate, up, down = parts.projections
        return cls(
            _norm(parts.norm, dtype),
            _norm(parts.second_norm, dtype),
            StackedLinear((q, k, v), dtype),
            StackedLinear((o,), dtype),
            StackedLinear((gate, up), dtype),
            StackedLinear((down,), dtype),
            parts.heads,
        )

    def attention_inputs(
        self, x: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, rotated to their positions, and values."""
        qk, values = self.heads.split(self.qkv(self.norm.apply(x)[0]))
        rotated = rotate(qk, cos, sin)
        queries = self.heads.query * self.heads.width
        return rotated[:, :queries], rotated[:, queries:], values

    def after_attention(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Output projection and gated MLP, with their residuals."""
        x = self.out(mixed, add_to=x)
        both = self.gate_up(self.second_norm.apply(x)[0])
        half = both.shape[1] // 2
        return self.down(silu(both[:, :half]).mul_(both[:, half:]), add_to=x)


class StackedLinear:
    """Linear layers that read the same input, as one: y = x Wᵀ + b + (x Aᵀ) Bᵀ, all in ``dtype``.

    W and A are those of all layers stacked; B is block-diagonal, with the adapter's scale in it.
    """

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
                torch.zeros(layer.outputs, 0, device=self.weight.device)
                if layer.down is None
                else next(ups)
                for layer in of
            ]
            diagonal: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]  # torch
            self.up = diagonal.to(dtype).t().contiguous()

    def __call__(self, x: Tensor, add_to: Tensor | None = None) -> Tensor:
        """[tokens, in] → [tokens, out of all], plus ``add_to`` if given."""
        out = affine(x, self.weight, self.bias, add_to)
        if self.down is not None and self.up is not None:
            out.addmm_(linear(x, self.down), self.up)
        return out


def _stacked(matrices: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """One matrix under the other.

    Nothing is copied of what has the dtype and lies in memory that way, or is a single one.
    """
    if len(matrices) == 1:
        return matrices[0].to(dtype)
    if matrices[0].dtype == dtype and (whole := adjacent(matrices)) is not None:
        return whole
    return torch.cat([matrix.to(dtype) for matrix in matrices])


def _norm(norm: Norm, dtype: torch.dtype) -> Norm:
    return Norm(norm.weight.to(dtype), norm.epsilon)
