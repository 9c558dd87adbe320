"""Causal attention of short rows by batched matrix products, forward and backward.

On rows of 128 tokens PyTorch's CPU kernel takes as long forward and four times as long backward
(docs/performance.md). The query heads that share a key head are stacked token by token, so no key
is copied. Queries are taken in strips, each over the keys up to its last token, so little more than
the lower triangle is computed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from harness.models.llama.parts import Heads
from harness.training.step.handwritten.packed_rows import Block

#: Probabilities of rows up to this width are kept for the backward pass, others computed again.
KEPT_WIDTH = 512
#: Tokens whose queries are computed at once.
STRIP = 128


def attend(
    qk: Tensor, v: Tensor, blocks: tuple[Block, ...], heads: Heads
) -> tuple[Tensor, list[Tensor]]:
    """qk [tokens, (query + key)·width], v [tokens, key·width] → mixed values [tokens, query·width].

    The second value is what ``attend_back`` needs.
    """
    q, k = qk[:, : heads.query * heads.width], qk[:, heads.query * heads.width :]
    out = q.new_empty(q.shape)
    kept: list[Tensor] = []
    for block in blocks:
        sq, sk, sv = (
            _stack(q, block, heads) * heads.scale,
            _stack(k, block, heads),
            _stack(v, block, heads),
        )
        kept += [sq, sk, sv]
        mix = torch.empty_like(sq)
        for rows, seen in _strips(block, heads):
            p = _probabilities(sq[:, rows], sk[:, :seen], heads)
            torch.bmm(p, sv[:, :seen], out=mix[:, rows])
            if block.width <= KEPT_WIDTH:
                kept.append(p)
        _unstack(mix, out, block, heads)
    return out, kept


def attend_back(
    grad: Tensor, kept: list[Tensor], blocks: tuple[Block, ...], heads: Heads
) -> Tensor:
    """The gradients of q, k and v side by side, from that of the mixed values."""
    qkv = grad.new_empty(len(grad), (heads.query + 2 * heads.key) * heads.width)
    qk, v = heads.split(qkv)
    q, k = qk[:, : heads.query * heads.width], qk[:, heads.query * heads.width :]
    saved = iter(kept)
    for block in blocks:
        sq, sk, sv, sg = next(saved), next(saved), next(saved), _stack(grad, block, heads)
        dq, dk, dv = torch.empty_like(sq), torch.zeros_like(sk), torch.zeros_like(sv)
        for rows, seen in _strips(block, heads):
            p = (
                next(saved)
                if block.width <= KEPT_WIDTH
                else _probabilities(sq[:, rows], sk[:, :seen], heads)
            )
            dv[:, :seen].baddbmm_(p.transpose(1, 2), sg[:, rows])
            scores = torch._softmax_backward_data(
                torch.bmm(sg[:, rows], sv[:, :seen].transpose(1, 2)), p, -1, p.dtype
            )
            torch.bmm(scores, sk[:, :seen], out=dq[:, rows])
            dk[:, :seen].baddbmm_(scores.transpose(1, 2), sq[:, rows])
        _unstack(dq.mul_(heads.scale), q, block, heads)
        _unstack(dk, k, block, heads)  # the queries were scaled already
        _unstack(dv, v, block, heads)
    return qkv


def _strips(block: Block, heads: Heads) -> Iterator[tuple[slice, int]]:
    """The strips of a block: the place of its stacked queries, and how many keys they attend to."""
    shared = heads.query // heads.key
    for start in range(0, block.width, STRIP):
        end = min(start + STRIP, block.width)
        yield slice(start * shared, end * shared), end


def _probabilities(q: Tensor, k: Tensor, heads: Heads) -> Tensor:
    """A strip's queries [rows·key, tokens·shared, width] over keys [rows·key, tokens, width]."""
    scores = torch.bmm(q, k.transpose(1, 2))
    shared = heads.query // heads.key
    own = q.shape[1] // shared
    scores[:, :, -own:] += _behind(STRIP, shared, q.dtype)[: own * shared, :own]
    return torch.softmax(scores, -1)


@functools.lru_cache(maxsize=4)
def _behind(strip: int, shared: int, dtype: torch.dtype) -> Tensor:
    """−inf where a key of a strip comes after a query of it, else 0, [strip·shared, strip]."""
    return (
        torch.full((strip, strip), float("-inf"), dtype=dtype).triu_(1).repeat_interleave(shared, 0)
    )


def _stack(x: Tensor, block: Block, heads: Heads) -> Tensor:
    """[tokens, heads·width] → [rows·key heads, tokens of a row·query heads of each, width]."""
    shape = (block.count, block.width, heads.key, -1, heads.width)
    return (
        x[block.start : block.end]
        .view(shape)
        .transpose(1, 2)
        .reshape(block.count * heads.key, -1, heads.width)
    )


def _unstack(x: Tensor, into: Tensor, block: Block, heads: Heads) -> None:
    place = into[block.start : block.end].view(block.count, block.width, heads.key, -1, heads.width)
    place.copy_(x.view(block.count, heads.key, block.width, -1, heads.width).transpose(1, 2))
