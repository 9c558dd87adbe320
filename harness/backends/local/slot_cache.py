"""Slots of keys and values as a Cache of transformers. Transformers is imported at the top: import this inside functions."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is not followed by mypy
    """Keys and values [slots × width, heads × size] of one layer."""

    is_sliding = False

    def __init__(self, owner: SlotCache) -> None:
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        places = self.owner.slots * self.owner.width
        self.keys, self.values = (
            states.new_zeros(places, states.shape[1] * states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self.owner.put(self.keys, key_states), self.owner.put(self.values, value_states)

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.owner.width

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0


class SlotCache(Cache):  # type: ignore[misc]
    """Where the next states go: ``fill`` for packs, ``write`` for one token a row.

    ``transformers``' own cache joins all keys with the new one at each token and pads every row to the longest; here
    a row writes its token into its own slot.
    """

    def __init__(self, slots: int, width: int) -> None:
        super().__init__(layer_class_to_replicate=lambda: SlotLayer(self))
        self.slots = slots
        self.width = width
        self.source: torch.Tensor | None = None
        self.target: Any = None
        self.count = self.reach = 0

    def fill(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """The next forward pass is over packs: their token ``source[i]`` goes to place ``target[i]``."""
        self.source, self.target = source, target

    def write(self, target: torch.Tensor, count: int, reach: int) -> None:
        """The next forward pass is over one token of each of ``count`` rows, none longer than ``reach`` then."""
        self.source, self.target, self.count, self.reach = None, target, count, reach

    def put(self, store: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Keep states [rows, heads, tokens, size]. Returns what the tokens attend to."""
        _, heads, _, size = states.shape
        fresh = states.transpose(1, 2).reshape(-1, heads * size)
        if self.source is not None:
            store.index_copy_(0, self.target, fresh.index_select(0, self.source))
            return states
        store.index_copy_(0, self.target, fresh)
        return store.view(self.slots, self.width, heads, size)[
            : self.count, : self.reach
        ].transpose(1, 2)

    def move(self, to: torch.Tensor, since: torch.Tensor, reach: int) -> None:
        """Copy rows, as far as ``reach``."""
        for layer in self.layers:
            for store in (layer.keys, layer.values):
                rows = store.view(self.slots, self.width, -1)[:, :reach]
                rows.index_copy_(0, to, rows.index_select(0, since))
