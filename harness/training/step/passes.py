"""A step cut into forward passes: which rows share one, and in which layout."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from harness.errors import HarnessError
from harness.training.data.examples import Example, even_batches, micro_batches
from harness.training.data.pass_sizes import PassSize, pass_sizes
from harness.training.step.distributed import split_by_tokens
from harness.training.step.pass_cost import USUAL, pass_cost
from harness.training.step.row_packing import PADDED, RowPacking, choose_packing

if TYPE_CHECKING:
    from harness.models import LoadedModel


#: Tokens of a pass where nothing else is known: on a CPU (docs/log.md).
USUAL_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Pass:
    """The rows of one forward pass, and how transformers lays them out.

    ``handwritten``: the hand-written decoder computes it, which lays them end to end itself.
    """

    rows: list[Example]
    packing: RowPacking = PADDED
    handwritten: bool = False

    @property
    def tokens(self) -> int:
        """Without padding."""
        return sum(len(row.encoded.ids) for row in self.rows)

    @property
    def size(self) -> PassSize:
        """What its memory grows with."""
        widths = [len(row.encoded.ids) for row in self.rows]
        supervised = sum(row.supervised for row in self.rows)
        if self.packing.way == "mask":
            return PassSize(self.tokens, supervised, self.tokens**2)
        if self.packing.way == "padding" and not self.handwritten:
            widths = [max(widths)] * len(widths)
        return PassSize(sum(widths), supervised, sum(width**2 for width in widths))


class Passes:
    """Cuts steps into passes of at most ``budget`` tokens.

    The loss is a sum over all of them, so the cut does not change the result. Where memory runs
    out, the budget gets less for the rest of the run. ``cost`` is what one more pass costs, in
    tokens; None: it is timed.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        budget: int | Literal["auto"],
        *,
        handwritten: bool,
        processes: int = 1,
        cost: int | None = None,
    ) -> None:
        self.loaded = loaded
        self.budget = usual_budget(budget)
        self.handwritten = handwritten
        self.processes = processes
        self.cost = cost

    @cached_property
    def packing(self) -> RowPacking:
        """How rows share a pass of transformers; probed when the first step needs it."""
        return choose_packing(self.loaded)

    def cut(self, examples: Sequence[Example]) -> list[Pass]:
        """The passes of a step: full ones where rows are laid end to end, else padded ones."""
        if self._can_be_handwritten(examples):
            return [Pass(batch, handwritten=True) for batch in even_batches(examples, self.budget)]
        packed: list[Example] = []
        padded: list[Example] = []
        for example in examples:
            takes = self.packing.takes([example.encoded.tokens_read])
            (packed if takes else padded).append(example)
        return [
            *(Pass(batch, self.packing) for batch in even_batches(packed, self.budget)),
            *(Pass(batch) for batch in micro_batches(padded, self.budget, self._cost(padded))),
        ]

    def _cost(self, rows: Sequence[Example]) -> int:
        """What one more pass costs, in tokens; a single row asks for no cut.

        On a CPU the differences are small and other work disturbs the clock, so it is a constant.
        """
        if self.cost is not None:
            return self.cost
        if self.loaded.device == "cpu":
            return USUAL
        return pass_cost(self.loaded) if len(rows) > 1 else 0

    def sizes(self, steps: Iterable[Sequence[Example]]) -> Iterator[PassSize]:
        """The distinct sizes of the passes that these steps take, on any process."""
        shares = (share for step in steps for share in split_by_tokens(step, self.processes))
        yield from pass_sizes(shares, lambda step: [each.size for each in self.cut(step)])

    def lower(self, passes: Sequence[Pass]) -> None:
        """Halve the largest pass, since these ran out of memory.

        Raises HarnessError where it is a single row.
        """
        largest = max(passes, key=lambda each: each.size.tokens)
        if len(largest.rows) > 1:
            self.budget = max(1, largest.size.tokens // 2)
            print(
                f"out of memory: passes of at most {self.budget} tokens from here on",
                file=sys.stderr,
            )
            return
        raise HarnessError(
            f"out of memory: a row of {largest.tokens} tokens does not fit",
            where=self.loaded.device,
            hint="lower data.max_length, or set gradient_checkpointing = true or load_in_4bit = "
            "true; the run goes on from its last checkpoint",
        )

    def _can_be_handwritten(self, examples: Sequence[Example]) -> bool:
        from harness.training.step.handwritten.decoder import find_decoder

        longest = max((example.encoded.tokens_read for example in examples), default=0)
        return self.handwritten and find_decoder(self.loaded, longest) is not None


def usual_budget(setting: int | Literal["auto"]) -> int:
    """Tokens of a pass by ``max_tokens_per_batch``, where a GPU's memory has not been asked."""
    return USUAL_TOKENS if setting == "auto" else setting
