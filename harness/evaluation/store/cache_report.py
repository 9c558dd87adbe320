"""What an evaluation reuses from the results file, and which part of an address forces the rest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.evaluation.requests import PlannedRequest
from harness.evaluation.store.results_file import Store

REUSED = "from the store"
NEW = "never asked before"
_NAMES_SHOWN = 4

#: (request type, case id, prefix fraction).
_Place = tuple[str, str, float]
#: The parts of an address by name.
_Parts = dict[str, str]


@dataclass(frozen=True, slots=True)
class ReuseCount:
    """How many cells of one request type are reused, or computed for one reason, and where."""

    request_type: str
    why: str
    formats: tuple[str, ...]
    cells: int


def count_reuse(requests: Sequence[PlannedRequest], store: Store) -> list[ReuseCount]:
    """What happens to each request, counted by type and reason.

    A missing cell is compared with the stored one that differs from it least.
    """
    missing = store.missing(item.key for item in requests)
    counts: Counter[tuple[str, str]] = Counter()
    formats: dict[tuple[str, str], dict[str, None]] = {}
    stored: dict[str, dict[_Place, list[_Parts]]] = {}
    for item in {item.key: item for item in requests}.values():
        if item.key in missing and item.format not in stored:
            stored[item.format] = _stored(store, item.format)
        why = _why(item, stored[item.format]) if item.key in missing else REUSED
        counts[item.request_type, why] += 1
        formats.setdefault((item.request_type, why), {})[item.format] = None
    return [ReuseCount(*group, tuple(formats[group]), cells) for group, cells in counts.items()]


def describe_reuse(counts: Sequence[ReuseCount]) -> Iterator[str]:
    """The same in plain lines, the total first."""
    reused = sum(row.cells for row in counts if row.why == REUSED)
    yield f"{reused} of {sum(row.cells for row in counts)} cells come from the store"
    for row in counts:
        names = ", ".join(row.formats[:_NAMES_SHOWN])
        if (more := len(row.formats) - _NAMES_SHOWN) > 0:
            names += f" and {more} more formats"
        why = row.why if row.why == REUSED else f"to compute: {row.why}"
        yield f"  {row.request_type:9} {row.cells:6} {why} ({names})"


def _stored(store: Store, format_id: str) -> dict[_Place, list[_Parts]]:
    """The addresses of a format's stored cells."""
    addresses: dict[_Place, list[_Parts]] = {}
    rows = store.select(
        """SELECT probe, item.name, share, engine.facts, format.digest, item.digest, settings.facts
        FROM cell JOIN engine ON engine.id = cell.engine JOIN format ON format.id = cell.format
        JOIN item ON item.id = cell.item JOIN settings ON settings.id = cell.settings
        WHERE format.name = ?""",
        (format_id,),
    )
    for request_type, case, prefix_fraction, *parts in rows:
        place = (request_type, case, prefix_fraction)
        addresses.setdefault(place, []).append(_parts(*parts))
    return addresses


def _parts(engine: str, format_digest: str, case_digest: str, settings: str) -> _Parts:
    return {
        **json.loads(engine),
        "template": format_digest,
        "text of the case": case_digest,
        "settings": settings,
    }


def _why(item: PlannedRequest, stored: dict[_Place, list[_Parts]]) -> str:
    ours = _parts(item.engine, item.format_digest, item.case_digest, item.settings)
    differences = [
        [name for name in {**ours, **theirs} if ours.get(name, "") != theirs.get(name, "")]
        for theirs in stored.get((item.request_type, item.case, item.prefix_fraction), ())
    ]
    if not differences:
        return NEW
    nearest = min(differences, key=len)
    return ", ".join(f"another {name.replace('_', ' ')}" for name in nearest or ["rendering"])
