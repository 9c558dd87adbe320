"""Keys and values of many rows of unequal length: slots made once, written in place, never joined or padded anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.backends.batches import by_length
from harness.backends.packing import pack, tensors
from harness.logits import only_at
from harness.models import LoadedModel

if TYPE_CHECKING:
    import torch

#: Keys are read up to the longest row, rounded up to this, so that kernels meet few different shapes.
_STEP = 16


class Slots:
    """Runs rows that come and go. Row i of every call is the i-th that is alive, in the order of entering.

    ``transformers``' own cache joins all keys with the new one at each token and pads every row to the longest; here
    a row writes its token into its own slot, and a bias of −inf hides what lies behind its end.
    """

    def __init__(self, loaded: LoadedModel, slots: int, width: int, budget: int) -> None:
        import torch

        self.loaded = loaded
        self.slots = slots
        self.width = width
        self.budget = budget
        self.lengths: list[int] = []
        self.dtype = getattr(torch, loaded.dtype)
        self.bias = torch.full((slots, width), float("-inf"), dtype=self.dtype, device=loaded.device)
        self.cache = _cache(slots, width)

    def free(self, alive: int) -> int:
        """How many rows may enter now: none until a quarter of the slots is free, since one row is as dear as many."""
        room = self.slots - alive
        return room if room * 4 >= self.slots or not alive else 0

    def enter(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Run new rows' prompts, what they share once, and keep them behind those alive. Logits of their next tokens, [rows, vocabulary]."""
        import torch

        first = len(self.lengths)
        packs = pack([[prompt] for prompt in prompts])
        found: dict[int, torch.Tensor] = {}
        for batch in by_length(packs, len, self.budget, self.budget):
            ids, positions, bias = tensors(batch, self.dtype, self.loaded.device)
            longest = ids.shape[1]
            rows = [(number, at * longest, paths[0]) for at, tree in enumerate(batch) for number, paths in zip(tree.groups, tree.paths, strict=True)]
            source = [base + node for _, base, path in rows for node in path]
            target = [(first + number) * self.width + at for number, _, path in rows for at in range(len(path))]
            ends = list(dict.fromkeys(base + path[-1] for _, base, path in rows))
            self.cache.fill(torch.tensor(source, device=ids.device), torch.tensor(target, device=ids.device))
            with only_at(self.loaded.model, torch.tensor(ends, device=ids.device)):
                logits = self.loaded.model(input_ids=ids, attention_mask=bias, position_ids=positions, past_key_values=self.cache, use_cache=True).logits[0]
            where = {end: at for at, end in enumerate(ends)}
            found |= {number: logits[where[base + path[-1]]] for number, base, path in rows}
        for number, prompt in enumerate(prompts):
            self.lengths.append(len(prompt))
            self.bias[first + number, : len(prompt)] = 0
            self.bias[first + number, len(prompt) :] = float("-inf")
        return torch.stack([found[number] for number in range(len(prompts))])

    def step(self, ids: Sequence[int]) -> torch.Tensor:
        """Give each row alive its newest token. Logits of the next ones, [rows, vocabulary]."""
        import torch

        device = self.loaded.device
        count = len(self.lengths)
        positions = torch.tensor(self.lengths, device=device)
        rows = torch.arange(count, device=device)
        self.bias[rows, positions] = 0
        reach = min(self.width, -(-(max(self.lengths) + 1) // _STEP) * _STEP)
        self.cache.write(rows * self.width + positions, count, reach)
        self.lengths = [length + 1 for length in self.lengths]
        out = self.loaded.model(
            input_ids=torch.tensor(ids, device=device).unsqueeze(1),
            attention_mask=self.bias[:count, None, None, :reach],
            position_ids=positions.unsqueeze(1),
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def keep(self, order: Sequence[int]) -> None:
        """Go on with these rows in this order. A row that moves comes from behind the last one kept."""
        import torch

        moves = [(to, since) for to, since in enumerate(order) if to != since]
        if moves:
            to, since = (torch.tensor(part, device=self.loaded.device) for part in zip(*moves, strict=True))
            self.cache.move(to, since, max(self.lengths[at] for _, at in moves))
            self.bias.index_copy_(0, to, self.bias.index_select(0, since))
        self.lengths = [self.lengths[at] for at in order]


def _cache(slots: int, width: int) -> Any:
    """The slots as a transformers Cache. Made in a function: its base class is heavy to import."""
    from transformers.cache_utils import Cache, CacheLayerMixin

    class Layer(CacheLayerMixin):  # type: ignore[misc]  # transformers is not followed by mypy
        """Keys and values [slots × width, heads × size] of one layer."""

        is_sliding = False

        def __init__(self, owner: SlotCache) -> None:
            super().__init__()
            self.owner = owner

        def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
            self.keys, self.values = (states.new_zeros(slots * width, states.shape[1] * states.shape[3]) for states in (key_states, value_states))
            self.is_initialized = True

        def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            return self.owner.put(self.keys, key_states), self.owner.put(self.values, value_states)

        def get_seq_length(self) -> int:
            return 0

        def get_max_length(self) -> int:
            return width

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return query_length, 0

    class SlotCache(Cache):  # type: ignore[misc]
        """Where the next states go: ``fill`` for prompts, ``write`` for one token a row."""

        def __init__(self) -> None:
            super().__init__(layer_class_to_replicate=lambda: Layer(self))
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
            _, heads, _, size = states.shape
            fresh = states.transpose(1, 2).reshape(-1, heads * size)
            if self.source is not None:
                store.index_copy_(0, self.target, fresh.index_select(0, self.source))
                return states
            store.index_copy_(0, self.target, fresh)
            return store.view(slots, width, heads, size)[: self.count, : self.reach].transpose(1, 2)

        def move(self, to: torch.Tensor, since: torch.Tensor, reach: int) -> None:
            """Copy rows, as far as ``reach``."""
            for layer in self.layers:
                for store in (layer.keys, layer.values):
                    rows = store.view(slots, width, -1)[:, :reach]
                    rows.index_copy_(0, to, rows.index_select(0, since))

    return SlotCache()
