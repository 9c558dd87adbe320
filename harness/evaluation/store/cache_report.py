"""What an evaluation takes from the store, and why it computes the rest: which part of the address is another."""

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

_Place = tuple[str, str, float]
_Parts = dict[str, str]


@dataclass(frozen=True, slots=True)
class ReuseCount:
    """So many cells of one probe, in these formats, are reused or computed for one reason."""

    request_type: str
    why: str
    formats: tuple[str, ...]
    cells: int


def count_reuse(requests: Sequence[PlannedRequest], store: Store) -> list[ReuseCount]:
    """What becomes of each piece of requests, summed up. A cell is compared with the stored one that differs from it least."""
    missing = store.missing(item.key for item in requests)
    counts: Counter[tuple[str, str]] = Counter()
    formats: dict[tuple[str, str], dict[str, None]] = {}
    known: dict[str, dict[_Place, list[_Parts]]] = {}
    for item in {item.key: item for item in requests}.values():
        if item.key in missing and item.format not in known:
            known[item.format] = _stored(store, item.format)
        why = _why(item, known[item.format]) if item.key in missing else REUSED
        counts[item.request_type, why] += 1
        formats.setdefault((item.request_type, why), {})[item.format] = None
    return [
        ReuseCount(request_type, why, tuple(formats[request_type, why]), cells)
        for (request_type, why), cells in counts.items()
    ]


def describe_reuse(found: Sequence[ReuseCount]) -> Iterator[str]:
    """The same in plain lines, the sum first."""
    total = sum(row.cells for row in found)
    yield f"{sum(row.cells for row in found if row.why == REUSED)} of {total} cells come from the store"
    for row in found:
        names = ", ".join(row.formats[:_NAMES_SHOWN]) + (
            f" and {len(row.formats) - _NAMES_SHOWN} more formats"
            if len(row.formats) > _NAMES_SHOWN
            else ""
        )
        yield f"  {row.request_type:9} {row.cells:6} {'' if row.why == REUSED else 'to compute: '}{row.why} ({names})"


def _stored(store: Store, format: str) -> dict[_Place, list[_Parts]]:
    """The addresses that a format's stored cells have, by (probe, case, share)."""
    found: dict[_Place, list[_Parts]] = {}
    rows = store.select(
        """SELECT probe, item.name, share, engine.facts, format.digest, item.digest, settings.facts FROM cell
        JOIN engine ON engine.id = cell.engine JOIN format ON format.id = cell.format
        JOIN item ON item.id = cell.item JOIN settings ON settings.id = cell.settings WHERE format.name = ?""",
        (format,),
    )
    for request_type, case, share, engine, format_digest, case_digest, settings in rows:
        found.setdefault((request_type, case, share), []).append(
            _parts(engine, format_digest, case_digest, settings)
        )
    return found


def _parts(engine: str, format_digest: str, case_digest: str, settings: str) -> _Parts:
    facts = json.loads(engine)
    return {
        **{name.replace("_", " "): value for name, value in facts.items()},
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
    return "another " + ", another ".join(nearest or ["rendering"])
