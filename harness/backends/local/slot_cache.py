"""KV-cache slots as a Cache of transformers, which is imported at the top: import this lazily."""

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

    get_max_cache_shape = get_max_length  # its name in transformers 5.0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0


class SlotCache(Cache):  # type: ignore[misc]  # transformers is not followed by mypy
    """Decides where the next keys and values go: ``fill`` for packs, ``write`` for single tokens.

    transformers' own cache copies all keys to append one at each token, and pads every row to the
    longest; here a row writes its token into its own slot.
    """

    def __init__(self, slots: int, width: int) -> None:
        super().__init__(layer_class_to_replicate=lambda: SlotLayer(self))
        self.slots = slots
        self.width = width
        self.source: torch.Tensor | None = None
        self.target: Any = None
        self.count = self.kv_len = 0

    def fill(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """The next forward pass runs packs: their token ``source[i]`` goes to ``target[i]``."""
        self.source, self.target = source, target

    def write(self, target: torch.Tensor, count: int, kv_len: int) -> None:
        """The next forward pass runs one token of each of ``count`` rows over ``kv_len`` keys."""
        self.source, self.target, self.count, self.kv_len = None, target, count, kv_len

    def put(self, store: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Keep states [rows, heads, tokens, size] and return those that the tokens attend to."""
        _, heads, _, size = states.shape
        new = states.transpose(1, 2).reshape(-1, heads * size)
        target = self.target.to(store.device)  # a layer may lie on another device than the ids
        if self.source is not None:
            store.index_copy_(0, target, new.index_select(0, self.source.to(store.device)))
            return states
        store.index_copy_(0, target, new)
        return store.view(self.slots, self.width, heads, size)[
            : self.count, : self.kv_len
        ].transpose(1, 2)

    def move(self, target: torch.Tensor, source: torch.Tensor, kv_len: int) -> None:
        """Copy the first ``kv_len`` places of the slots ``source`` to ``target``."""
        for layer in self.layers:
            for store in (layer.keys, layer.values):
                rows = store.view(self.slots, self.width, -1)[:, :kv_len]
                moved = rows.index_select(0, source.to(store.device))
                rows.index_copy_(0, target.to(store.device), moved)
