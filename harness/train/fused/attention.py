"""Causal attention of short rows by batched matrix products, forwards and backwards.

PyTorch's CPU kernel needs as long as this forwards and four times as long backwards, on rows of 128 tokens
(docs/performance.md). The query heads that share a key head are stacked, so no key is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.train.fused.rows import Block

#: Probabilities of rows up to this width are kept for the backward pass; of longer ones they are computed again.
KEPT_WIDTH = 512
#: At most so many scores are held at once while a block is worked through.
SCORES = 2**25


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


def attend(qk: Tensor, v: Tensor, blocks: tuple[Block, ...], heads: Heads) -> tuple[Tensor, list[Tensor]]:
    """qk [tokens, (query + key)·width], v [tokens, key·width] → the mix of values [tokens, query·width], and what ``attend_back`` needs."""
    q, k = qk.split([heads.query * heads.width, heads.key * heads.width], 1)
    out = q.new_empty(q.shape)
    kept: list[Tensor] = []
    for block in blocks:
        sq, sk, sv = _stack(q, block, heads), _stack(k, block, heads), _stack(v, block, heads)
        mix = torch.empty_like(sq)
        probabilities = []
        for part in _parts(block, heads):
            p = _probabilities(sq[part], sk[part], block, heads)
            torch.bmm(p, sv[part], out=mix[part])
            probabilities.append(p)
        _unstack(mix, out, block, heads)
        kept += [sq, sk, sv, torch.cat(probabilities) if len(probabilities) > 1 else probabilities[0]] if block.width <= KEPT_WIDTH else [sq, sk, sv]
    return out, kept


def attend_back(grad: Tensor, kept: list[Tensor], blocks: tuple[Block, ...], heads: Heads) -> Tensor:
    """The gradients of q, k and v side by side, from the one of the mix."""
    qkv = grad.new_empty(len(grad), (heads.query + 2 * heads.key) * heads.width)
    q, k, v = qkv.split([heads.query * heads.width, heads.key * heads.width, heads.key * heads.width], 1)
    at = 0
    for block in blocks:
        sq, sk, sv = kept[at : at + 3]
        at += 3
        held = None
        if block.width <= KEPT_WIDTH:
            held = kept[at]
            at += 1
        sg = _stack(grad, block, heads)
        dq, dk, dv = torch.empty_like(sq), torch.empty_like(sk), torch.empty_like(sv)
        for part in _parts(block, heads):
            p = held[part] if held is not None else _probabilities(sq[part], sk[part], block, heads)
            torch.bmm(p.transpose(1, 2), sg[part], out=dv[part])
            scores = torch._softmax_backward_data(torch.bmm(sg[part], sv[part].transpose(1, 2)), p, -1, p.dtype)
            torch.bmm(scores, sk[part], out=dq[part])
            torch.bmm(scores.transpose(1, 2), sq[part], out=dk[part])
        _unstack(dq.mul_(heads.scale), q, block, heads)
        _unstack(dk.mul_(heads.scale), k, block, heads)
        _unstack(dv, v, block, heads)
    return qkv


def _probabilities(q: Tensor, k: Tensor, block: Block, heads: Heads) -> Tensor:
    mask = q.new_full((block.width, block.width), float("-inf")).triu_(1).repeat(heads.query // heads.key, 1)
    return torch.softmax(torch.baddbmm(mask, q, k.transpose(1, 2), alpha=heads.scale), -1)


def _stack(x: Tensor, block: Block, heads: Heads) -> Tensor:
    """[tokens, heads·width] → [rows·key heads, query heads of each·tokens of a row, width], of one block."""
    shape = (block.count, block.width, heads.key, -1, heads.width)
    return x[block.start : block.end].view(shape).permute(0, 2, 3, 1, 4).reshape(block.count * heads.key, -1, heads.width)


def _unstack(x: Tensor, into: Tensor, block: Block, heads: Heads) -> None:
    shape = (block.count, heads.key, -1, block.width, heads.width)
    place = into[block.start : block.end].view(block.count, block.width, heads.key, -1, heads.width)
    place.copy_(x.view(shape).permute(0, 3, 1, 2, 4))


def _parts(block: Block, heads: Heads) -> Iterator[slice]:
    """The block's rows and key heads, as many at a time as ``SCORES`` allows."""
    total = block.count * heads.key
    size = max(1, SCORES // (heads.query // heads.key * block.width**2))
    return (slice(start, min(start + size, total)) for start in range(0, total, size))
