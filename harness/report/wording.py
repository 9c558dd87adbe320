"""Text and numbers as the pages show them."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from harness.metrics.registry import METRICS, in_order
from harness.records import GROUPS, Aggregate

if TYPE_CHECKING:
    from harness.report.document import Report

#: Characters of a prompt or an answer that a page shows.
LONGEST = 2000
MINUS = "\N{MINUS SIGN}"
STATUS_SYMBOLS = {"works": "✓", "degraded": "△", "broken": "✗", "untestable": "?", "sampled": "~"}


def visible(text: str, longest: int = LONGEST) -> str:
    """Replace what cannot be seen or encoded by its code point, and cut a long text, saying so.

    Control characters (except tab and newline), bidi and other format characters, noncharacters and
    lone surrogates become ``⟨U+202E⟩``.
    """
    cut = text[:longest]
    shown = "".join(_show(char) for char in cut)
    return shown + (f" ⟨{len(text) - longest} more characters⟩" if len(text) > longest else "")


def _show(char: str) -> str:
    if char in "\n\t" or (" " <= char <= "~"):
        return char
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Cn", "Co") and char != "\u200d":
        return f"⟨U+{ord(char):04X}⟩"
    return char


def metrics_of(report: Report) -> list[str]:
    """The metrics that occur, known ones first in their order."""
    return in_order({cell.metric for run in report.runs for cell in run.cells})


def ordered_formats(report: Report) -> list[tuple[str, str]]:
    """(id, group): native, seen, held-out; by id inside a group."""
    return sorted(
        ((facts.id, facts.group) for facts in report.formats),
        key=lambda item: (GROUPS.index(item[1]), item[0]),
    )


def number(value: float | None, metric: str) -> str:
    """``.98``, ``1.0``, ``+0.31`` or ``–`` for what was not scored."""
    if value is None:
        return "–"
    facts = METRICS.get(metric)
    if facts and facts.signed:
        return f"{value:+.2f}".replace("-", "−")
    if facts and facts.unit == "nats/token":
        return f"{value:.2f}"
    if value >= 0.995:
        return "1.0"
    return f"{value:.2f}".removeprefix("0")


def compact(value: float | None) -> str:
    """Two decimals, no zero before the point: ``.98``, ``1.00``, ``−.27``."""
    if value is None:
        return "–"
    text = f"{abs(value):.2f}"
    return (MINUS if value < 0 and float(text) else "") + (
        text[1:] if text.startswith("0.") else text
    )


def signed(value: float) -> str:
    """A number with its sign, also when it is positive."""
    text = compact(value)
    return text if text.startswith(MINUS) else f"+{text}"


def interval(cell: Aggregate) -> str:
    """The 95 % interval, where there is one, and n in words."""
    if cell.mean is None:
        return f"not scored ({cell.not_scored} cases)"
    low, high = number(cell.low, cell.metric), number(cell.high, cell.metric)
    text = f"n {cell.n}" if cell.low is None else f"95 % interval {low} to {high}, n {cell.n}"
    return text + (f", {cell.not_scored} not scored" if cell.not_scored else "")


def goodness(value: float | None, metric: str) -> int | None:
    """0 (worst) … 4 (best) for the heat scale, or None for a metric without a scale."""
    facts = METRICS.get(metric)
    if value is None or (facts and facts.lower_is_better and facts.worst is None):
        return None
    share = min(1.0, max(0.0, value))
    if facts and facts.lower_is_better and facts.worst:
        share = 1 - min(1.0, max(0.0, value) / facts.worst)
    return min(4, int(share * 5))


def statuses(report: Report, run: int) -> dict[str, tuple[str, str]]:
    """Format → (status, reason) of a run."""
    return {item.format: (item.word, item.reason) for item in report.runs[run].compatibility}


def verdict(report: Report) -> str:
    """One sentence: how many formats work, before and after."""
    parts = []
    for index, run in enumerate(report.runs):
        found = [status for status, _ in statuses(report, index).values()]
        counts = ", ".join(f"{found.count(s)} {s}" for s in STATUS_SYMBOLS if s in found)
        parts.append(f"{run.label}: {counts}" if len(report.runs) > 1 else counts)
    return f"Of {len(report.formats)} formats — " + "; ".join(parts) + "."
