"""README.md of a shipment: what it is, how to run it, what was verified and what was not.

It states only known facts; the rest is "unknown".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from harness.report.wording import markdown_text
from harness.ship.shipment import Shipment

_DIGITS = 16
FILE_HEADS = ("file", "type", "read by", "bytes", "sha256")
#: What would end a cell or its row.
_CELL = str.maketrans({"|": "\\|", "\n": " "})


def card(shipment: Shipment) -> Iterator[str]:
    """The lines of the card."""
    yield from _head(shipment)
    yield from ("## Run it", "")
    yield from table(
        ("runtime", "command"), [(name, f"`{text}`") for name, text in shipment.commands.items()]
    )
    stops = ", ".join("`" + stop.replace("\n", "\\n") + "`" for stop in shipment.stops)
    yield from ("", f"The prompt format is `{shipment.format}`; answers end with {stops}.", "")
    yield from (f"- {markdown_text(note)}" for note in shipment.notes)
    yield from ("", "## Verified", "")
    yield from _checks(shipment, "equal", "Nothing.")
    yield from ("", "## Differs", "")
    if shipment.findings:
        yield from (f"- {markdown_text(str(finding))}" for finding in shipment.findings)
    else:
        yield "Nothing differs in what was checked."
    yield from ("", "## Not checked", "")
    yield from _checks(shipment, "not checked", "Nothing was left out.")
    yield from ("", "## Files", "")
    yield from artefact_table(shipment)
    yield from ("", f"Licence: {shipment.license}. Base: see {shipment.base['name']}.")


def _head(shipment: Shipment) -> Iterator[str]:
    base = shipment.base
    yield from (
        "---",
        f"base_model: {json.dumps(base['name'])}",
        "pipeline_tag: text-generation",
        f"license: {json.dumps(shipment.license)}",
        *("tags:", "- formatproof", "---", "", f"# {shipment.name}", ""),
    )
    made = f"Made from {base['name']} (`{base['digest'] or 'digest unknown'}`)"
    if shipment.adapter:
        made += f" and the adapter {shipment.adapter['name']} (`{shipment.adapter['digest']}`)"
    programs = ", ".join(
        f"{name} {text}" if name == "formatproof" else f"{name}: {text}"
        for name, text in shipment.made_with.items()
    )
    yield from (f"{made} with {programs}.", "")


def _checks(shipment: Shipment, state: str, none: str) -> Iterator[str]:
    found = [check for check in shipment.checks if check.state == state]
    for check in found:
        reason = f": {check.reason}" if check.reason else ""
        yield "- " + markdown_text(f"{check.runtime}, {check.check}{reason}")
    if not found:
        yield none


def artefact_table(shipment: Shipment) -> Iterator[str]:
    """The files with the first digits of their digests; ship.json has all digits."""
    rows = [
        (
            f"`{one.path}`",
            one.quantisation,
            ", ".join(one.runtimes),
            f"{one.bytes:,}",
            f"`{one.sha256[:_DIGITS]}…`",
        )
        for one in shipment.artefacts
    ]
    return table(FILE_HEADS, rows)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown."""
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(cell.translate(_CELL) for cell in row) + " |"
