"""NLL by part (answers, thoughts, calls, stop) of rows that were never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.conversation import Conversation
from harness.data.refusals import RefusedRow
from harness.evaluation.cases.case_files import spread_evenly
from harness.records import Format
from harness.training.data.examples import Example, ExampleCache, micro_batches
from harness.training.step.loss import Tally, plain_losses

if TYPE_CHECKING:
    from harness.models import LoadedModel

#: Tokens of one pass.
_PASS = 2048
#: Longest row that is measured, in tokens.
_LONGEST = 4096


class PartLosses:
    """Measures NLL by part on the same rows at each checkpoint.

    The rows are controls with a thought or a call; without such rows there is nothing to measure. A
    format that cannot write a row is left out for that row. All parts are measured, whichever are
    trained.
    """

    def __init__(
        self,
        controls: Sequence[Conversation],
        groups: dict[str, list[Format]],
        loaded: LoadedModel,
        most: int,
    ) -> None:
        self.loaded = loaded
        rows = [row for row in controls if _has_parts(row)]
        self.rows = spread_evenly(rows, most) if most else []
        self.examples = {
            group: _examples(self.rows, formats, loaded) for group, formats in groups.items()
        }

    def __bool__(self) -> bool:
        return any(self.examples.values())

    def __call__(self) -> dict[str, dict[str, float]]:
        """``{"held_out": {"answers": 1.2, "thoughts": 2.3, …}, …}``, nats a token."""
        return {group: self._nll(rows) for group, rows in self.examples.items() if rows}

    def _nll(self, examples: Sequence[Example]) -> dict[str, float]:
        import torch

        tally = Tally()
        with torch.no_grad():
            for batch in micro_batches(examples, _PASS):
                tally.add(batch, *plain_losses(self.loaded, batch))
        return {part: round(row["loss"], 6) for part, row in tally.by_part().items()}


def _has_parts(row: Conversation) -> bool:
    return any(message.reasoning or message.tool_calls for message in row.messages)


def _examples(
    rows: Sequence[Conversation], formats: Sequence[Format], loaded: LoadedModel
) -> list[Example]:
    cache = ExampleCache(rows, formats, loaded.tokenizer, _LONGEST)
    found = []
    for row in range(len(rows)):
        for at in range(len(formats)):
            try:
                found.append(cache((row, at)))
            except RefusedRow:
                continue
    return found
