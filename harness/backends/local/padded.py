"""Rows with the cache of transformers, or computed again: for models that cannot be packed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.models import LoadedModel
from harness.models.logits import only_at

if TYPE_CHECKING:
    import torch

#: Where the models of transformers take keys and values: the name until 5.23, and the one since.
_CACHES = ("past_key_values", "cache")
#: Where they give back, and take, what they remember of a row. RWKV's is a state.
_MEMORIES = (*_CACHES, "cache_params", "state")


class Padded:
    """Runs rows that enter together. It has the interface of harness.backends.local.slots.Slots.

    With one slot nothing is padded, for models whose state would take up the padding.
    """

    def __init__(self, loaded: LoadedModel, slots: int) -> None:
        self.loaded = loaded
        self.slots = slots
        self.takes = arguments(loaded)
        self.memory: tuple[str, Any] | None = None
        self.mask: Any = None
        self.has_padding = False

    def free(self, alive: int) -> int:
        """How many rows may enter now: all, once none is alive."""
        return 0 if alive else self.slots

    def enter(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Run the prompts, padded on the left. Logits of the next tokens, [rows, vocabulary]."""
        ids, self.mask = pad(prompts, self.loaded, left=True)
        self.has_padding = not bool(self.mask.all())
        self.memory = None
        return self._forward(ids, (self.mask.cumsum(1) - 1).clamp(min=0))

    def step(self, ids: Sequence[int]) -> torch.Tensor:
        """Give each row its newest token. Logits of the next ones, [rows, vocabulary]."""
        import torch

        positions = self.mask.sum(1, keepdim=True)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], 1)
        return self._forward(torch.tensor(ids, device=self.mask.device).unsqueeze(1), positions)

    def keep(self, order: Sequence[int]) -> None:
        """Continue with these rows in this order.

        ``reorder_cache``, which beam search needs of every cache, selects rows of all that a layer
        remembers: keys, convolutions, states. ``batch_select_indices`` knows keys only.
        """
        import torch

        if order and self.memory:
            chosen = torch.tensor(order, device=self.mask.device)
            self.memory[1].reorder_cache(chosen)
            self.mask = self.mask[chosen]

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        offered: dict[str, Any] = {"position_ids": positions, "logits_to_keep": 1}
        # the keys of padding must be masked at each token; a state holds no padding
        if self.has_padding and (self.memory is None or _holds_keys(self.memory[1])):
            offered["attention_mask"] = self.mask
        out = self.loaded.model(
            input_ids=ids,
            use_cache=True,
            **dict([self.memory] if self.memory else []),
            **_taken(offered, self.takes),
        )
        self.memory = _memory(out, self.takes)
        logits: torch.Tensor = out.logits[:, -1]
        return logits


class Recomputed:
    """Runs one row at a time and all of it at each token, as the plain model does."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.ids: list[int] = []

    def free(self, alive: int) -> int:
        """How many rows may enter now: one, once none is alive."""
        return 0 if alive else 1

    def enter(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Run the prompt. Logits of the next token, [1, vocabulary]."""
        [prompt] = prompts
        self.ids = list(prompt)
        return plain_logits(self.loaded, self.ids, 1)

    def step(self, ids: Sequence[int]) -> torch.Tensor:
        """Give the row its newest token. Logits of the next one, [1, vocabulary]."""
        self.ids += ids
        return plain_logits(self.loaded, self.ids, 1)

    def keep(self, order: Sequence[int]) -> None:
        """There is one row, which stays or is the last."""


def plain_logits(
    loaded: LoadedModel, ids: Sequence[int], last: int, *, begin: int = 0
) -> torch.Tensor:
    """Logits after the ``last`` tokens of a row alone, without a cache, [last, vocabulary].

    ``begin`` is the position of its first token.
    """
    import torch

    row = torch.tensor([ids], device=loaded.device)
    offered: dict[str, Any] = {"logits_to_keep": last}
    if begin:
        offered["position_ids"] = begin + torch.arange(len(ids), device=loaded.device).unsqueeze(0)
    out = loaded.model(input_ids=row, use_cache=False, **_taken(offered, arguments(loaded)))
    logits: torch.Tensor = out.logits[0, -last:]
    return logits


def logits_at(
    rows: Sequence[Sequence[int]], places: Sequence[Sequence[int]], loaded: LoadedModel
) -> Sequence[torch.Tensor]:
    """Logits at the places of each row, [places, vocabulary], in one forward pass without cache.

    The rows are padded on the right.
    """
    import torch

    ids, mask = pad(rows, loaded, left=False)
    width = ids.shape[1]
    wanted = [row * width + place for row, of in enumerate(places) for place in of]
    offered = {"attention_mask": mask} if len(rows) > 1 else {}
    with only_at(loaded.model, torch.tensor(wanted, dtype=torch.long, device=ids.device)):
        logits: torch.Tensor = loaded.model(
            input_ids=ids, use_cache=False, **_taken(offered, arguments(loaded))
        ).logits[0]
    return torch.split(logits, [len(of) for of in places])


def arguments(loaded: LoadedModel) -> Mapping[str, inspect.Parameter]:
    """What the forward pass of the model takes by name."""
    return inspect.signature(loaded.base.forward).parameters


def cache_argument(loaded: LoadedModel) -> str:
    """The name by which the model takes keys and values; "" if it takes none."""
    takes = arguments(loaded)
    return next((name for name in _CACHES if name in takes), "")


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


def _memory(out: Any, takes: Mapping[str, inspect.Parameter]) -> tuple[str, Any]:
    for name in _MEMORIES:
        if name in takes and (memory := getattr(out, name, None)) is not None:
            return name, memory
    raise LookupError("the model gives back nothing that it remembers the rows by")


def _holds_keys(memory: Any) -> bool:
    """Whether a layer attends to tokens that it keeps, and not to a state alone."""
    return any(hasattr(layer, "keys") for layer in getattr(memory, "layers", ()))


def _taken(offered: Mapping[str, Any], takes: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    return {name: value for name, value in offered.items() if name in takes}
