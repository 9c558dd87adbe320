"""Rows that are decoded together through llama.cpp, each a sequence of its KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.backends.llama_context import LlamaContext

if TYPE_CHECKING:
    import torch

#: A beginning of at least this many tokens is copied from the row before. A copy moves the whole
#: width of a row at the next pass, so that it pays for long beginnings only.
_COPIED = 32


class Rows:
    """Runs rows that enter and leave, each in a sequence of its own.

    It has the interface of harness.backends.local.slots.Slots.
    """

    def __init__(self, context: LlamaContext, slots: int) -> None:
        self.context = context
        self.slots = slots
        self.sequences: list[int] = []
        self.lengths: list[int] = []

    def free(self, alive: int) -> int:
        """How many rows may enter now. Each prompt is a pass of its own, so none waits."""
        return self.slots - alive

    def enter(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Run the prompts of new rows, and keep them behind those alive.

        What a prompt shares with the one before it is copied. Returns the logits of the next
        tokens, [rows, vocabulary].
        """
        import torch

        rows = []
        before: tuple[Sequence[int], int] | None = None
        for prompt in prompts:
            sequence = min(set(range(self.slots)) - set(self.sequences))
            held = 0
            if before is not None and not self.context.model.keeps_states:
                same = _common(before[0], prompt)
                if same >= _COPIED:
                    self.context.copy(before[1], sequence)
                    self.context.cut(sequence, same)
                    held = same
            size = len(prompt) - held
            for _, logits in self.context.run(
                prompt[held:], range(held, len(prompt)), [[sequence]] * size, [size - 1]
            ):
                rows.append(torch.from_numpy(logits[0].copy()))
            self.sequences.append(sequence)
            self.lengths.append(len(prompt))
            before = prompt, sequence
        return torch.stack(rows)

    def step(self, ids: Sequence[int]) -> torch.Tensor:
        """Give each row alive its newest token. Logits of the next ones, [rows, vocabulary]."""
        import torch

        members = [[sequence] for sequence in self.sequences]
        found = [
            torch.from_numpy(logits.copy())
            for _, logits in self.context.run(ids, self.lengths, members, range(len(ids)))
        ]
        self.lengths = [length + 1 for length in self.lengths]
        return torch.cat(found)

    def keep(self, order: Sequence[int]) -> None:
        """Continue with these rows in this order."""
        for at in set(range(len(self.sequences))) - set(order):
            self.context.cut(self.sequences[at])
        self.sequences = [self.sequences[at] for at in order]
        self.lengths = [self.lengths[at] for at in order]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two prompts begin with alike, the last of ``other`` left out."""
    most = min(len(one), len(other) - 1)
    return next((at for at in range(most) if one[at] != other[at]), most)
