"""ship.html and ship.md: what was shipped, which checks were made, and which were not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.files import write_text
from harness.metrics.registry import METRICS, lower_is_better
from harness.report.frame import render
from harness.report.wording import markdown_text
from harness.ship.findings import Checked
from harness.ship.ship_card import (
    ABOUT_SCORES,
    FILE_HEADS,
    SCORE_HEADS,
    artefact_table,
    card,
    score_cells,
    score_lines,
    table,
)
from harness.ship.shipment import PairedScore, Shipment

PAGE, MARKDOWN, CARD = "ship.html", "ship.md", "README.md"
_TEMPLATE = Path(__file__).with_name("ship_page.html.jinja")
#: State of a check → the class of its colour, and its symbol. The page lists the states in this
#: order, so that neither a difference nor a check that was not made is overlooked.
_LOOKS = {
    "differs": ("w-broken", "✗"),
    "not checked": ("w-unclear", "?"),
    "equal": ("w-works", "✓"),
}
_ORDER = tuple(_LOOKS)


def write_pages(folder: Path, shipment: Shipment) -> None:
    """Write the page, the same as Markdown, and the card of the artefacts."""
    write_text(folder / PAGE, render_page(shipment))
    write_text(folder / MARKDOWN, "\n".join(markdown(shipment)) + "\n")
    write_text(folder / CARD, "\n".join(card(shipment)) + "\n")


def verdict_line(shipment: Shipment) -> str:
    """How many checks differ, are equal and were not made."""
    counts = _counts(shipment)
    return ", ".join(
        f"{number} {one if number == 1 else more}"
        for number, one, more in (
            (counts["differs"], "check differs", "checks differ"),
            (counts["equal"], "is equal", "are equal"),
            (counts["not checked"], "was not made", "were not made"),
        )
    )


def _counts(shipment: Shipment) -> dict[str, int]:
    return {state: sum(c.state == state for c in shipment.checks) for state in _ORDER}


def _in_order(checks: Sequence[Checked]) -> list[Checked]:
    return sorted(checks, key=lambda check: _ORDER.index(check.state))


def render_page(shipment: Shipment) -> str:
    """The page. All texts are escaped, and control characters are made visible."""
    return render(
        _TEMPLATE,
        title=shipment.name,
        skip="checks",
        ship=shipment,
        verdict=verdict_line(shipment),
        checks=_in_order(shipment.checks),
        looks=_LOOKS,
        counts=_counts(shipment),
        about_scores=ABOUT_SCORES,
        score_heads=SCORE_HEADS,
        file_heads=FILE_HEADS,
        scores=[_score_row(one) for one in shipment.scores],
    )


def markdown(shipment: Shipment) -> Iterator[str]:
    """The page's content as Markdown."""
    yield from (f"# {shipment.name}: what was shipped and checked", "")
    yield from (f"{verdict_line(shipment)}.", "", "## Checks", "")
    rows = [(c.state, c.runtime, c.check, c.reason) for c in _in_order(shipment.checks)]
    yield from table(("state", "runtime", "check", "how"), rows)
    if shipment.findings:
        yield from ("", "## Findings", "")
        yield from (f"- {markdown_text(str(finding))}" for finding in shipment.findings)
    yield from score_lines(shipment)
    yield from ("", "## Files", "")
    yield from artefact_table(shipment)


def _score_row(one: PairedScore) -> tuple[tuple[str, ...], str]:
    """The cells, and the colour of a difference whose interval excludes 0.

    Recall has none: neither more nor less of it is better in itself.
    """
    if not one.is_real or one.metric not in METRICS:
        return score_cells(one), ""
    rises = one.difference > 0
    return score_cells(one), "worse" if rises == lower_is_better(one.metric) else "better"
