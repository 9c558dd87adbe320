"""Print which text another trainer trains, next to what we train on the same rows."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.cli.output import print_json
from harness.formats.trainers.differences import KINDS
from harness.formats.trainers.trainer_mask import joined
from harness.terminal import console

if TYPE_CHECKING:
    from harness.training.data.trainer_comparison import RowComparison, TrainerComparison


def show_comparison(found: TrainerComparison, *, rows: int, as_json: bool) -> None:
    """Print the first ``rows`` rows and the count of each difference, or everything as JSON."""
    if as_json:
        print_json(_comparison(found), indent=1)
        return
    for row in found.rows[:rows]:
        _print_row(found, row)
    _print_counts(found)


def _print_row(found: TrainerComparison, row: RowComparison) -> None:
    """The row's text, marked by who trains it: both, only one of the two, or neither."""
    out = console(soft_wrap=True)
    out.print(f"── {row.place} ──", style="bold")
    if row.mask.error:
        out.print(f"{found.config.trainer} stops with an error: {row.mask.error}\n", style="red")
        return
    styles = {"both": "green", "theirs": "red", "ours": "yellow", "": "dim"}
    marks = {"both": "‹{}›", "theirs": "«{}»", "ours": "[{}]", "": "{}"}
    for text, who in _by_side(row):
        out.print(marks[who].format(text), style=styles[who], end="")
    out.print("\n")
    if row.why:
        out.print(f"not compared: {row.why}")
    for each in row.differences:
        where = f" {each.text!r}" if each.text else ""
        out.print(f"  {each.kind}:{where} {each.why}".rstrip().rstrip(":"))
    out.print()


def _by_side(row: RowComparison) -> list[tuple[str, str]]:
    """The text in pieces, each with the side that trains it."""
    text, ours = row.mask.text, row.ours
    offset = text.find(ours.text) if ours else -1
    trained = [
        (span.start + offset, span.end + offset)
        for span in (ours.spans if ours and offset >= 0 else ())
        if span.trained and (not ours or not ours.weights or ours.weights[span.message] > 0)
    ]
    trained = list(joined(trained))
    edges = {0, len(text), *(at for span in (*trained, *row.mask.trained) for at in span)}
    ordered = sorted(edges)
    names = {(True, True): "both", (True, False): "theirs", (False, True): "ours"}
    return [
        (text[a:b], names.get((_in(a, row.mask.trained), _in(a, trained)), ""))
        for a, b in pairwise(ordered)
    ]


def _in(at: int, spans: Iterable[tuple[int, int]]) -> bool:
    return any(start <= at < end for start, end in spans)


def _print_counts(found: TrainerComparison) -> None:
    out = console(soft_wrap=True)
    name, total = found.config.trainer, len(found.rows)
    out.print(f"‹both train› «only {name} trains» [only we train], plain: neither trains")
    for note in found.notes:
        out.print(f"note: {note}")
    skipped = sum(row.ours is None for row in found.rows)
    if skipped:
        out.print(f"{skipped} of {total} rows cannot be compared: see --json")
    for kind, count in found.counts().most_common():
        out.print(f"{kind}: in {count} of {total} rows ({KINDS[kind]})")
    if not found.counts():
        out.print(f"no difference in {total} rows")


def _comparison(found: TrainerComparison) -> dict[str, object]:
    return {
        "trainer": found.config.trainer,
        "format": found.format,
        "notes": list(found.notes),
        "rows_compared": len(found.rows),
        "differences": dict(found.counts()),
        "rows": [
            {
                "place": row.place,
                "text": row.mask.text,
                "error": row.mask.error,
                "left_out": row.mask.left_out,
                "not_compared": row.why,
                "trained": [list(span) for span in row.mask.trained],
                "differences": [each.__dict__ for each in row.differences],
            }
            for row in found.rows
        ],
    }
