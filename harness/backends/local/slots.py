"""A KV cache for rows of unequal length: slots are allocated once and written in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.backends.local.batches import by_length
from harness.backends.local.forward import Forward
from harness.backends.local.packing import pack, tensors
from harness.models import LoadedModel

if TYPE_CHECKING:
    import torch

#: Keys are read up to the longest row, rounded up to this, so that kernels meet few shapes.
_STEP = 16


class Slots:
    """Runs rows that enter and leave. Row i of every call is the i-th alive, in order of entering.

    A row writes each token into its own slot, and a bias of −inf hides what lies behind its end.
    ``budget`` limits the tokens of one forward pass over prompts.
    """

    def __init__(
        self, loaded: LoadedModel, forward: Forward, slots: int, width: int, budget: int
    ) -> None:
        import torch

        self.loaded = loaded
        self.forward = forward
        self.slots = slots
        self.width = width
        self.budget = budget
        self.lengths: list[int] = []
        self.dtype = loaded.torch_dtype
        self.bias = torch.full(
            (slots, width), float("-inf"), dtype=self.dtype, device=loaded.device
        )
        forward.reserve(slots, width)

    def free(self, alive: int) -> int:
        """How many rows may enter now: none until a quarter of the slots is free.

        A forward pass over one prompt costs nearly as much as one over many.
        """
        room = self.slots - alive
        return room if room * 4 >= self.slots or not alive else 0

    def enter(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Run the prompts of new rows and keep them behind those alive.

        What they share is computed once. Returns the logits of their next tokens,
        [rows, vocabulary].
        """
        import torch

        first = len(self.lengths)
        packs = pack([[prompt] for prompt in prompts])
        found: dict[int, torch.Tensor] = {}
        for batch in by_length(packs, len, self.budget, self.budget):
            ids, positions, bias = tensors(batch, self.dtype, self.loaded.device)
            longest = ids.shape[1]
            rows = [
                (number, at * longest, paths[0])
                for at, tree in enumerate(batch)
                for number, paths in zip(tree.groups, tree.paths, strict=True)
            ]
            source = [base + node for _, base, path in rows for node in path]
            target = [
                (first + number) * self.width + at
                for number, _, path in rows
                for at in range(len(path))
            ]
            last = list(dict.fromkeys(base + path[-1] for _, base, path in rows))
            kept = torch.tensor(source, device=ids.device), torch.tensor(target, device=ids.device)
            logits = self.forward.packs(
                ids, positions, bias, torch.tensor(last, device=ids.device), kept
            )
            where = {end: at for at, end in enumerate(last)}
            found |= {number: logits[where[base + path[-1]]] for number, base, path in rows}
        lengths = [len(prompt) for prompt in prompts]
        ends = torch.tensor(lengths, device=self.bias.device).unsqueeze(1)
        places = torch.arange(self.width, device=self.bias.device)
        entered = self.bias[first : first + len(prompts)].zero_()
        entered.masked_fill_(places >= ends, float("-inf"))
        self.lengths += lengths
        return torch.stack([found[number] for number in range(len(prompts))])

    def step(self, ids: Sequence[int]) -> torch.Tensor:
        """Give each row alive its newest token. Logits of the next ones, [rows, vocabulary]."""
        import torch

        device = self.loaded.device
        count = len(self.lengths)
        positions = torch.tensor(self.lengths, device=device)
        rows = torch.arange(count, device=device)
        self.bias[rows, positions] = 0
        kv_len = min(self.width, -(-(max(self.lengths) + 1) // _STEP) * _STEP)
        self.lengths = [length + 1 for length in self.lengths]
        bias = self.bias[:count, None, None, :kv_len]
        return self.forward.tokens(
            torch.tensor(ids, device=device), positions, rows * self.width + positions, bias
        )

    def keep(self, order: Sequence[int]) -> None:
        """Continue with these rows in this order. Only rows behind the last kept one move."""
        import torch

        moves = [(target, source) for target, source in enumerate(order) if target != source]
        if moves:
            target, source = (
                torch.tensor(part, device=self.loaded.device) for part in zip(*moves, strict=True)
            )
            self.forward.move(target, source, max(self.lengths[at] for _, at in moves))
            self.bias.index_copy_(0, target, self.bias.index_select(0, source))
        self.lengths = [self.lengths[at] for at in order]
