"""Rows padded to the longest, with the cache of transformers: for models that cannot be packed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.models import LoadedModel

if TYPE_CHECKING:
    import torch


class Padded:
    """Runs rows that enter together. It has the interface of harness.backends.local.slots.Slots."""

    def __init__(self, loaded: LoadedModel, slots: int) -> None:
        self.loaded = loaded
        self.slots = slots
        self.cache: Any = None
        self.mask: Any = None

    def free(self, alive: int) -> int:
        """How many rows may enter now: all, once none is alive."""
        return 0 if alive else self.slots

    def enter(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Run the prompts, padded on the left. Logits of the next tokens, [rows, vocabulary]."""
        ids, self.mask = pad(prompts, self.loaded, left=True)
        self.cache = None
        return self._forward(ids, (self.mask.cumsum(1) - 1).clamp(min=0))

    def step(self, ids: Sequence[int]) -> torch.Tensor:
        """Give each row its newest token. Logits of the next ones, [rows, vocabulary]."""
        import torch

        positions = self.mask.sum(1, keepdim=True)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], 1)
        return self._forward(torch.tensor(ids, device=self.mask.device).unsqueeze(1), positions)

    def keep(self, order: Sequence[int]) -> None:
        """Continue with these rows in this order."""
        import torch

        if order:
            chosen = torch.tensor(order, device=self.mask.device)
            self.cache.batch_select_indices(chosen)
            self.mask = self.mask[chosen]

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        out = self.loaded.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = out.past_key_values
        logits: torch.Tensor = out.logits[:, -1]
        return logits


def pad(
    rows: Sequence[Sequence[int]], loaded: LoadedModel, *, left: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, [rows, longest]. Only the mask marks padding, never an id."""
    import torch

    width = max(map(len, rows))
    fill = loaded.tokenizer.pad_token_id or 0
    ids = torch.full((len(rows), width), fill, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for row, values in enumerate(rows):
        if values:
            place = slice(width - len(values), width) if left else slice(0, len(values))
            ids[row, place] = torch.tensor(values, dtype=torch.long)
            mask[row, place] = 1
    return ids.to(loaded.device), mask.to(loaded.device)
