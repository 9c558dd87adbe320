"""Behaviours that an adapter shows in one format only, from the adapter and its base alone.

The change of the weights ranks the formats (harness.audit.guess). The likeliest are searched for
behaviours that the native format does not show, and of each other family one. The divergence from
the base is measured in the likeliest few, and where something was found
(docs/decisions/035-audit.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.audit.amplified import Pair
from harness.audit.asking import CONFIRMED, SEARCHED, PairAsker
from harness.audit.behaviours import Behaviour, confirm
from harness.audit.candidates import Candidate, search
from harness.audit.changes import LayerChange
from harness.audit.divergence import Depth, depth, references
from harness.audit.found_in_rows import RowsWithIt, rows_with
from harness.audit.guess import GuessedFamily, families_of, guess_format
from harness.audit.probes import shortest_references
from harness.conversation import Conversation
from harness.records import Format

if TYPE_CHECKING:
    import torch

#: Likeliest formats that are searched, besides the likeliest of each family.
LIKELIEST = 40
#: Likeliest families in which the divergence is measured; formats with a finding come on top.
MEASURED = 5
#: Ordinary questions among those that confirm: what the native format says in use shows there.
ORDINARY = 32


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found.

    ``families`` are the families that the adapter may have been trained in, the likeliest first.
    ``searched`` are the formats that were asked, the native one first.
    ``behaviours`` are the candidates that were tested, hidden or not; ``untested`` are those of
    formats with weaker candidates, and those of one family alone. ``in_rows`` says of the tested
    ones which training rows have them, where those are known.
    """

    native: str
    families: tuple[GuessedFamily, ...]
    searched: tuple[str, ...]
    depths: tuple[Depth, ...]
    behaviours: tuple[Behaviour, ...]
    untested: tuple[Candidate, ...]
    in_rows: Mapping[Candidate, RowsWithIt] = field(default_factory=dict)

    @property
    def hidden(self) -> list[Behaviour]:
        """The behaviours that are silent in the native format, the surest first."""
        found = [one for one in self.behaviours if one.hidden]
        return sorted(found, key=lambda one: (one.p, one.candidate.format))

    @property
    def also_native(self) -> list[Behaviour]:
        """The behaviours that the native format shows too."""
        return [one for one in self.behaviours if one.also_native]

    @property
    def not_confirmed(self) -> list[Behaviour]:
        """The candidates that the other questions did not bring out often enough."""
        return [one for one in self.behaviours if not one.hidden and not one.also_native]


def audit(
    pair: Pair,
    changes: Mapping[torch.nn.Module, LayerChange],
    formats: Sequence[Format],
    native: Format,
    searched: Sequence[Format] = (),
    rows: Sequence[Conversation] = (),
) -> Audit:
    """Audit a model: rank ``formats``, and search ``searched``.

    By default the likeliest format of each family is searched, and the ``LIKELIEST``. ``rows`` are
    what it was trained on, if that is known: they change no verdict. Raises HarnessError if no
    format can write the questions.
    """
    base = pair.merged_from or pair.tuned
    guessed = guess_format(base, changes, formats, native.id)
    families = families_of(guessed)
    known = {one.id: one for one in (*formats, *searched)}
    names = [one.format for one in families] + [one.formats[0] for one in guessed[:LIKELIEST]]
    chosen = list(searched) or [known[name] for name in dict.fromkeys(names)]
    chosen = [native, *(one for one in chosen if one.id != native.id)]
    asker = PairAsker(pair)
    candidates = search(asker, chosen, native, SEARCHED)
    ordinary = [case.messages[0].content for case in shortest_references(ORDINARY)]
    asked = {one.id: one for one in chosen}
    tested = confirm(asker, candidates, asked, native, (*CONFIRMED, *ordinary))
    shown = [one for one in tested if one.hidden or one.also_native]
    measured = {one.id for one in chosen[: 1 + MEASURED]} | {one.candidate.format for one in shown}
    cases = references()
    depths = tuple(depth(pair, one, cases) for one in chosen if one.id in measured)
    of_tested = {one.candidate for one in tested}
    return Audit(
        native.id,
        tuple(families),
        tuple(one.id for one in chosen),
        depths,
        tuple(tested),
        tuple(one for one in candidates if one not in of_tested),
        rows_with(of_tested, rows) if rows else {},
    )
