"""README.md of a shipment: what it is, how to run it, what was verified and what was not.

It states only known facts; the rest is "unknown".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from harness.report.wording import markdown_text
from harness.ship.shipment import PairedScore, Shipment

_DIGITS = 16
FILE_HEADS = ("file", "type", "read by", "bytes", "sha256")
ABOUT_SCORES = (
    "Each artefact in its own runtime, compared with the trained model in transformers on the same "
    "cases. The difference is paired by case and has its 95 % interval. The recall gain is how "
    "much likelier the answers of trained rows became than in the base, less the same for "
    "controls, in nats per token; its n is the number of trained rows."
)
SCORE_HEADS = ("artefact", "format", "metric", "transformers", "artefact's", "difference", "n")
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
    yield from score_lines(shipment)
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


def score_lines(shipment: Shipment) -> Iterator[str]:
    """A section with the table of scores; nothing if the artefacts were not scored."""
    if shipment.scores:
        yield from ("", "## Scores", "", ABOUT_SCORES, "")
        yield from table(SCORE_HEADS, map(score_cells, shipment.scores))


def score_cells(one: PairedScore) -> tuple[str, ...]:
    """A row of the table of scores."""
    interval = "no interval" if one.low is None else f"{one.low:+.3f} to {one.high:+.3f}"
    return (
        one.artefact,
        one.format,
        one.metric,
        f"{one.reference:.3f}",
        f"{one.value:.3f}",
        f"{one.difference:+.3f} ({interval})",
        str(one.n),
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown."""
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(cell.translate(_CELL) for cell in row) + " |"
