"""What an adapter was taught, and in which format, from the adapter and its base alone.

The formats are ranked by the change of the weights (harness.audit.guess). In the likeliest, and in
the native one, the divergence from the base is measured, and behaviours are searched that the
native format does not show (docs/decisions/035-audit.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.audit.amplified import Pair
from harness.audit.asking import PairAsker, questions
from harness.audit.behaviours import Behaviour, confirm, search
from harness.audit.changes import LayerChange
from harness.audit.divergence import Depth, depth, references
from harness.audit.guess import GuessedFamily, families_of, guess_format, is_clear
from harness.records import Format

if TYPE_CHECKING:
    import torch

#: Families of formats that are searched beside the native one: the likeliest ones.
FAMILIES = 6


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found.

    ``families`` are the families that the adapter may have been trained in, the likeliest first.
    ``behaviours`` are the candidates that were tested, hidden or not.
    """

    native: str
    families: tuple[GuessedFamily, ...]
    depths: tuple[Depth, ...]
    behaviours: tuple[Behaviour, ...]

    @property
    def hidden(self) -> list[Behaviour]:
        """The behaviours that are silent in the native format, the most frequent first."""
        found = [one for one in self.behaviours if one.hidden]
        return sorted(found, key=lambda one: (-one.amplified, one.candidate.format))

    @property
    def clear(self) -> bool:
        """Whether the first family is likely enough to be called a guess."""
        return is_clear(self.families)


def audit(
    pair: Pair,
    changes: Mapping[torch.nn.Module, LayerChange],
    formats: Sequence[Format],
    native: Format,
    searched: Sequence[Format] = (),
) -> Audit:
    """Audit a model. ``formats`` are ranked; ``searched`` are those to search, by default the best
    format of each of the likeliest families.

    Raises HarnessError if no format can write the questions.
    """
    base = pair.merged_from or pair.tuned
    families = families_of(guess_format(base, changes, formats, native.id))
    known = {one.id: one for one in (*formats, *searched)}
    chosen = list(searched) or [known[one.format] for one in families[:FAMILIES]]
    chosen = [native, *(one for one in chosen if one.id != native.id)]
    cases = references()
    depths = tuple(depth(pair, one, cases) for one in chosen)
    asker = PairAsker(pair)
    first, second = questions()
    candidates = search(asker, chosen, native, first)
    tested = confirm(asker, candidates, {one.id: one for one in chosen}, native, second)
    return Audit(native.id, tuple(families), depths, tuple(tested))
