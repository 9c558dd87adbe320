"""Causal attention over rows laid end to end, for any model that asks transformers for attention.

transformers lets a program register attention of its own under a name (``AttentionInterface``).
A model that runs under ``NAME`` makes no mask; each row attends to itself only, as its bounds say.
On CUDA one call of FlashAttention's kernel (arXiv 2307.08691) computes rows of any lengths, and its
backward pass adds in a fixed order, so that a resumed run has the same bits. Elsewhere each row is
one call of PyTorch's attention.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from harness.models.device import takes_heads

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "harness_rows"
#: What a layer may ask for that is not computed here: soft caps, sinks, biases by distance.
_UNKNOWN = ("softcap", "s_aux", "position_bias", "sinks")
#: Inside ``row_attention``: configurations, by id, and the attention that they named before.
_OWN: dict[int, tuple[Any, str]] = {}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where rows begin and end.

    ``ends[i]`` is the token after row i's last; ``offsets`` are 0 and the ends, int32 [rows + 1] on
    the model's device. ``windows`` collects the windows that layers ask for, in tokens.
    """

    ends: tuple[int, ...]
    offsets: Tensor
    windows: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, lengths: Sequence[int], device: str) -> Bounds:
        """The bounds of rows of these lengths in tokens."""
        ends = tuple(accumulate(lengths))
        return cls(ends, torch.tensor([0, *ends], dtype=torch.int32, device=device))

    @property
    def spans(self) -> Iterator[tuple[int, int]]:
        """First token and the one after the last, row by row."""
        return zip((0, *self.ends), self.ends, strict=False)

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(end - start for start, end in self.spans)

    def arguments(self) -> dict[str, Any]:
        """For a model's forward: ours, and those by which transformers names packed rows."""
        return {
            "row_bounds": self,
            "cu_seq_lens_q": self.offsets,
            "cu_seq_lens_k": self.offsets,
            "max_length_q": self.longest,
            "max_length_k": self.longest,
        }


@contextmanager
def row_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let all parts of the model that ask transformers for attention get that of this module.

    It has to last until the backward pass ends, since gradient checkpointing runs layers again.
    """
    from transformers import AttentionInterface, PreTrainedModel

    AttentionInterface.register(NAME, attend_rows)
    configs = {
        id(config): config
        for module in model.modules()
        if isinstance(module, PreTrainedModel)
        for config in _with_parts(module.config)
    }
    own = {key: (each, each._attn_implementation_internal) for key, each in configs.items()}
    try:
        for config, _ in own.values():
            config._attn_implementation_internal = NAME
        _OWN.update(own)
        yield
    finally:
        for key, (config, name) in own.items():
            config._attn_implementation_internal = name
            del _OWN[key]


@contextmanager
def own_attention() -> Iterator[None]:
    """Inside ``row_attention``: let a forward pass run with the model's own attention."""
    try:
        for config, name in _OWN.values():
            config._attn_implementation_internal = name
        yield
    finally:
        for config, _ in _OWN.values():
            config._attn_implementation_internal = NAME


def _with_parts(config: Any) -> Iterator[Any]:
    yield config
    for name in config.sub_configs:
        if (part := getattr(config, name, None)) is not None:
            yield from _with_parts(part)


def attend_rows(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    row_bounds: Bounds | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """query [1, heads, tokens, width], key and value likewise → [1, tokens, heads, width], None.

    Raises NotImplementedError for anything but causal attention of rows with or without a window.
    """
    unknown = [name for name in _UNKNOWN if others.get(name) is not None]
    causal = others.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    if row_bounds is None or attention_mask is not None or unknown or not causal:
        raise NotImplementedError("attention of another kind than causal rows")
    if len(query) != 1 or query.shape[2] != key.shape[2] or key.shape[2] != row_bounds.ends[-1]:
        raise NotImplementedError("attention over other tokens than those of the rows")
    if sliding_window:
        row_bounds.windows.add(sliding_window)
    window = sliding_window if sliding_window and sliding_window < row_bounds.longest else 0
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if not dropout and has_kernel(query, value):
        q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
        out = FlashRows.apply(q, k, v, row_bounds, scale, window)  # type: ignore[no-untyped-call]
        return out.unsqueeze(0), None
    return _row_by_row(query, key, value, row_bounds, scale, window, dropout), None


def has_kernel(query: Tensor, value: Tensor) -> bool:
    """Whether FlashAttention's kernel takes these tensors, forward and backward."""
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] == value.shape[-1]
        and takes_heads(query.shape[-1], torch.cuda.get_device_capability(query.device))
    )


def _row_by_row(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: Bounds,
    scale: float,
    window: int,
    dropout: float,
) -> Tensor:
    shared = query.shape[1] // key.shape[1]
    if shared > 1:
        key, value = (x.repeat_interleave(shared, dim=1) for x in (key, value))
    rows = []
    for start, end in bounds.spans:
        q, k, v = (x[:, :, start:end] for x in (query, key, value))
        cut = 0 < window < end - start
        mask = _band(end - start, window, str(query.device)) if cut else None
        rows.append(
            scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=not cut, scale=scale
            )
        )
    return torch.cat(rows, dim=2).transpose(1, 2)


@functools.lru_cache(maxsize=8)
def _band(length: int, window: int, device: str) -> Tensor:
    """Whether token i sees token j: the last ``window`` tokens up to itself, [length, length]."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril().triu(1 - window)


class FlashRows(torch.autograd.Function):
    """q [tokens, heads, width], k and v [tokens, key heads, width] → [tokens, heads, width]."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bounds: Bounds, scale: float, window: int
    ) -> Tensor:
        out, lse, state, unused = flash_rows(q, k, v, bounds, scale, window)
        ctx.save_for_backward(q, k, v, out, lse, state, unused)
        ctx.layout = bounds, scale, window
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*flash_rows_back(grad, ctx.saved_tensors, *ctx.layout), None, None, None)


def flash_rows(
    q: Tensor, k: Tensor, v: Tensor, bounds: Bounds, scale: float, window: int = 0
) -> tuple[Tensor, ...]:
    """FlashAttention's kernel, forward: the output, and three tensors that its backward needs."""
    out, lse, state, unused, _ = _forward_kernel()(
        q,
        k,
        v,
        bounds.offsets,
        bounds.offsets,
        bounds.longest,
        bounds.longest,
        0.0,
        True,  # causal
        False,
        scale=scale,
        **_sides(window),
    )
    return out, lse, state, unused


def flash_rows_back(
    grad: Tensor, kept: Sequence[Tensor], bounds: Bounds, scale: float, window: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v. ``kept`` are they, then what ``flash_rows`` returned."""
    q, k, v, out, lse, state, unused = kept
    strict = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)  # the kernel adds the parts of q's gradient in order
    try:
        found = _backward_kernel()(
            grad.contiguous(),
            q,
            k,
            v,
            out,
            lse,
            bounds.offsets,
            bounds.offsets,
            bounds.longest,
            bounds.longest,
            0.0,
            True,
            state,
            unused,
            scale=scale,
            **_sides(window),
        )
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=only_warns)
    dq, dk, dv = found
    return dq, dk, dv


def _forward_kernel() -> Any:
    return torch.ops.aten._flash_attention_forward


def _backward_kernel() -> Any:
    return torch.ops.aten._flash_attention_backward


def _sides(window: int) -> dict[str, int]:
    """The kernel counts the tokens to the left of a token's own; transformers counts it too."""
    return {"window_size_left": window - 1, "window_size_right": 0} if window else {}
