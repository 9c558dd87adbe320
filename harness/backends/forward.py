"""Passes of a model over packs and over single tokens of many rows: by hand where the model is plain, else by transformers' modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from harness.backends.arithmetic import products_in
from harness.models import LoadedModel

if TYPE_CHECKING:
    import torch

    from harness.llama.parts import Parts

#: Bytes of weights that may be copied for passes by hand. A larger model is run by transformers' modules, which copy none.
_COPIED = 4 * 2**30


class Forward(Protocol):
    """What decoding and scoring ask of a model. Called inside ``LoadedModel.inference``."""

    def reserve(self, slots: int, width: int) -> None:
        """Make room for the keys and values of ``slots`` rows of at most ``width`` tokens. Place ``slot · width + at`` is a token's."""

    def packs(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        bias: torch.Tensor,
        wanted: torch.Tensor,
        kept: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Logits [wanted, vocabulary] of packs (harness.backends.packing.tensors) at ``wanted``, indices into packs × longest.

        ``kept``: keys and values of the tokens in its first go to the places in its second.
        """
        ...

    def tokens(self, ids: torch.Tensor, positions: torch.Tensor, places: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Logits [rows, vocabulary] behind one new token of each row, which is kept at its place. ``bias`` [rows, 1, 1, reach] hides what is not a row's."""
        ...

    def move(self, to: torch.Tensor, since: torch.Tensor, reach: int) -> None:
        """Copy rows ``since`` to slots ``to``, as far as ``reach``."""


def forward_of(loaded: LoadedModel, longest: int) -> Forward:
    """The fastest passes that compute what the model does, for sequences of at most ``longest`` tokens.

    They hold the weights as they are now: ask anew when an adapter may have changed.
    """
    parts = plain_parts(loaded, longest)
    if parts is None:
        from harness.backends.modules import Modules

        return Modules(loaded)
    from harness.backends.llama import Llama

    return Llama(parts, products_in(loaded))


def plain_parts(loaded: LoadedModel, longest: int = 1) -> Parts | None:
    """The model taken apart, or None if it is not a plain Llama-like one or too large to be copied."""
    from harness.llama.recognise import take_apart

    parts = take_apart(loaded, longest)
    if parts is None:
        return None
    weights = sum(projection.weight.numel() for layer in parts.layers for projection in layer.projections) + parts.head.numel()
    return parts if weights * products_in(loaded).itemsize <= _COPIED else None


def arithmetic(loaded: LoadedModel) -> str:
    """The dtype that the model's products are computed in."""
    return loaded.dtype if plain_parts(loaded) is None else str(products_in(loaded)).removeprefix("torch.")
