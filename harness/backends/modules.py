"""Passes by the modules of transformers and peft, whatever they are: what harness.backends.llama cannot stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.logits import only_at
from harness.models import LoadedModel

if TYPE_CHECKING:
    import torch


class Modules:
    """The interface is harness.backends.forward.Forward."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.model: Any = loaded.model
        self.cache: Any = None

    def reserve(self, slots: int, width: int) -> None:
        from harness.backends.slot_cache import SlotCache

        self.cache = SlotCache(slots, width)

    def packs(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        bias: torch.Tensor,
        wanted: torch.Tensor,
        kept: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        held: dict[str, Any] = {"use_cache": False}
        if kept is not None:
            self.cache.fill(*kept)
            held = {"past_key_values": self.cache, "use_cache": True}
        with only_at(self.model, wanted):
            logits: torch.Tensor = self.model(input_ids=ids, attention_mask=bias, position_ids=positions, **held).logits[0]
        return logits

    def tokens(self, ids: torch.Tensor, positions: torch.Tensor, places: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        self.cache.write(places, len(ids), bias.shape[-1])
        out = self.model(
            input_ids=ids.unsqueeze(1),
            attention_mask=bias,
            position_ids=positions.unsqueeze(1),
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def move(self, to: torch.Tensor, since: torch.Tensor, reach: int) -> None:
        self.cache.move(to, since, reach)
