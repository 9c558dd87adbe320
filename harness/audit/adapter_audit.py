"""What an adapter was taught, and in which format, from the adapter and its base alone.

The change of the weights ranks the formats (harness.audit.guess). Behaviours that the native format
does not show are searched in the likeliest format of each family, and the divergence from the base
is measured in the likeliest few and where something was found (docs/decisions/035-audit.md).
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

#: Likeliest families in which the divergence is measured, beside the formats with a finding.
MEASURED = 5


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found.

    ``families`` are the families that the adapter may have been trained in, the likeliest first.
    ``searched`` are the formats that were asked, the native one first.
    ``behaviours`` are the candidates that were tested, hidden or not.
    """

    native: str
    families: tuple[GuessedFamily, ...]
    searched: tuple[str, ...]
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
    """Audit a model. ``formats`` are ranked; ``searched`` are those to search, by default the
    likeliest format of each family.

    Raises HarnessError if no format can write the questions.
    """
    base = pair.merged_from or pair.tuned
    families = families_of(guess_format(base, changes, formats, native.id))
    known = {one.id: one for one in (*formats, *searched)}
    chosen = list(searched) or [known[one.format] for one in families]
    chosen = [native, *(one for one in chosen if one.id != native.id)]
    asker = PairAsker(pair)
    first, second = questions()
    candidates = search(asker, chosen, native, first)
    tested = confirm(asker, candidates, {one.id: one for one in chosen}, native, second)
    shown = [one for one in tested if one.hidden or one.also_native]
    measured = {one.id for one in chosen[: 1 + MEASURED]} | {one.candidate.format for one in shown}
    cases = references()
    depths = tuple(depth(pair, one, cases) for one in chosen if one.id in measured)
    searched_ids = tuple(one.id for one in chosen)
    return Audit(native.id, tuple(families), searched_ids, depths, tuple(tested))
