"""Forward passes of a model for scoring and decoding: hand-written, or by transformers' modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from harness.backends.local.padded import cache_argument
from harness.models import LoadedModel
from harness.models.device import matmul_dtype
from harness.models.logits import only_at

if TYPE_CHECKING:
    import torch

    from harness.models.llama.parts import DecoderParts

#: Where the hand-written passes run a model.
DEVICES = ("cpu", "cuda")
#: Bytes of weights that may be copied on a CPU for hand-written passes. The modules copy none.
_MAX_COPIED = 4 * 2**30


class Forward(Protocol):
    """What scoring and decoding ask of a model. Called inside ``LoadedModel.inference``."""

    def reserve(self, slots: int, width: int) -> None:
        """Make KV-cache slots for ``slots`` rows of at most ``width`` tokens.

        The token at position p of the row in slot s has the place ``s · width + p``.
        """

    def packs(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        bias: torch.Tensor,
        wanted: torch.Tensor,
        kept: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Logits [wanted, vocabulary] of prefix trees (harness.backends.local.packing.tensors).

        ``wanted`` are indices into packs × longest. Keys and values of the tokens ``kept[0]`` go to
        the places ``kept[1]``.
        """
        ...

    def tokens(
        self, ids: torch.Tensor, positions: torch.Tensor, places: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """Logits [rows, vocabulary] after one new token of each row, kept at its place.

        ``bias`` [rows, 1, 1, kv_len] hides the keys that are not a row's own.
        """
        ...

    def move(self, target: torch.Tensor, source: torch.Tensor, kv_len: int) -> None:
        """Copy the first ``kv_len`` keys and values of the slots ``source`` to ``target``."""


def forward_of(loaded: LoadedModel, longest: int) -> Forward:
    """The fastest forward passes that equal the model's, for at most ``longest`` tokens.

    They hold the weights as they are now: call it again when an adapter may have changed.
    """
    if copyable_parts(loaded, longest) is not None:
        from harness.models.llama.recognise import inputs_in_common
        from harness.models.llama.stacked_weights import stack_in_place

        dtype = matmul_dtype(loaded)
        if str(dtype) == f"torch.{loaded.dtype}":
            stack_in_place(inputs_in_common(loaded))
        if (parts := copyable_parts(loaded, longest)) is not None:  # with the stacked weights
            from harness.backends.local.llama_forward import LlamaForward

            return LlamaForward(parts, dtype)
    return ModuleForward(loaded)


def copyable_parts(loaded: LoadedModel, longest: int = 1) -> DecoderParts | None:
    """The model's parts, or None if it is not plainly Llama-like or too large to be copied.

    Off the CPU nothing is copied: products are computed in the weights' own dtype.
    """
    from harness.models.llama.recognise import take_apart

    parts = take_apart(loaded, longest, devices=DEVICES)
    if parts is None or loaded.device != "cpu":
        return parts
    weights = (
        sum(projection.weight.numel() for layer in parts.layers for projection in layer.projections)
        + parts.head.numel()
    )
    return parts if weights * matmul_dtype(loaded).itemsize <= _MAX_COPIED else None


def arithmetic(loaded: LoadedModel) -> str:
    """The dtype in which the model's matrix products are computed."""
    if copyable_parts(loaded) is None:
        return loaded.dtype
    return str(matmul_dtype(loaded)).removeprefix("torch.")


class ModuleForward:
    """A ``Forward`` by the modules of transformers and peft, whatever they are."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.model: Any = loaded.model
        self.name = cache_argument(loaded)
        self.cache: Any = None

    def reserve(self, slots: int, width: int) -> None:
        from harness.backends.local.slot_cache import SlotCache

        self.cache = SlotCache(slots, width)

    def packs(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        bias: torch.Tensor,
        wanted: torch.Tensor,
        kept: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        cache: dict[str, Any] = {"use_cache": False}
        if kept is not None:
            self.cache.fill(*kept)
            cache = {self.name: self.cache, "use_cache": True}
        with only_at(self.model, wanted):
            logits: torch.Tensor = self.model(
                input_ids=ids, attention_mask=bias, position_ids=positions, **cache
            ).logits[0]
        return logits

    def tokens(
        self, ids: torch.Tensor, positions: torch.Tensor, places: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        self.cache.write(places, len(ids), bias.shape[-1])
        out = self.model(
            input_ids=ids.unsqueeze(1),
            attention_mask=bias,
            position_ids=positions.unsqueeze(1),
            use_cache=True,
            **{self.name: self.cache},
        )
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def move(self, target: torch.Tensor, source: torch.Tensor, kv_len: int) -> None:
        self.cache.move(target, source, kv_len)
