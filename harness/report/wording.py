"""Text and numbers as the pages show them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from harness.metrics.registry import METRICS, in_order, lower_is_better
from harness.records import GROUPS, Aggregate, Evidence, Verdict, Word

if TYPE_CHECKING:
    from harness.report.document import Report

#: Characters of a prompt or an answer that a page shows.
LONGEST = 2000
MINUS = "\N{MINUS SIGN}"
#: Each word with its symbol, in the order in which every list of verdicts shows them.
WORD_SYMBOLS = {"broken": "✗", "degraded": "△", "unclear": "~", "untestable": "?", "works": "✓"}
#: Training files that a header names.
_FILES = 3
#: Formats of one word that get a line of their own in the terminal.
MOST_LINES = 8


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


def markdown_text(text: str) -> str:
    """Text that Markdown does not read as markup."""
    return "".join(
        "\\" + char if char in "\\`*_{}[]<>#|" else char for char in text.replace("\n", " ")
    )


def metrics_of(report: Report) -> list[str]:
    """The metrics that occur, known ones first in their order."""
    return in_order({cell.metric for run in report.runs for cell in run.cells})


def group_names(groups: Iterable[str]) -> dict[str, str]:
    """What to call each group. Formats are held out only from a model that was trained in some."""
    found = set(groups)
    return {
        group: "other" if group == "held-out" and "seen" not in found else group for group in GROUPS
    }


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


def span(low: float | None, high: float | None, metric: str) -> str:
    """An interval as a cell shows it: ``.40–.67``, ``−0.10 to +0.31``."""
    ends = number(low, metric), number(high, metric)
    signs = any(end.startswith(("+", MINUS)) for end in ends)
    return (" to " if signs else "–").join(ends)


def interval(cell: Aggregate) -> str:
    """The 95 % interval, where there is one, and n in words."""
    if cell.mean is None:
        return f"not scored ({cell.not_scored} cases)"
    low, high = number(cell.low, cell.metric), number(cell.high, cell.metric)
    text = f"n {cell.n}" if cell.low is None else f"95 % interval {low} to {high}, n {cell.n}"
    return text + (f", {cell.not_scored} not scored" if cell.not_scored else "")


def trained_text(files: Sequence[str], formats: Sequence[str]) -> str:
    """``trained on rows.jsonl in 12 formats``, or nothing where it is not known."""
    if not files:
        return ""
    names = ", ".join(PurePath(file).name for file in files[:_FILES])
    more = len(files) - _FILES
    names += f" and {more} more file{'s' * (more > 1)}" if more > 0 else ""
    return f"trained on {names} in {len(formats)} format{'s' * (len(formats) != 1)}"


def worst_first(found: Iterable[Verdict]) -> list[Verdict]:
    """Verdicts by word, broken first; in a word by how much was lost, those that work as given."""
    words = list(WORD_SYMBOLS)
    return sorted(found, key=lambda one: (words.index(one.word), -_lost(one)))


def _lost(verdict: Verdict) -> float:
    """How far the evidence of a verdict is from what is best."""
    found = verdict.evidence
    if found is None or verdict.word == "works":
        return 0.0
    if found.loss is not None:
        return found.loss
    return found.value if lower_is_better(found.metric) else 1 - found.value


def changed_words(
    words: Iterable[tuple[str, tuple[Word, Word]]],
) -> list[tuple[str, Word, Word]]:
    """(format, word before, word after) where the two differ: the largest loss first."""
    order = list(WORD_SYMBOLS)
    changed = [(name, was, now) for name, (was, now) in words if was != now]
    return sorted(changed, key=lambda row: order.index(row[2]) - order.index(row[1]))


def verdicts_of(report: Report, run: int) -> dict[str, Verdict]:
    """Format → its verdict in a run."""
    return {verdict.format: verdict for verdict in report.runs[run].verdicts}


def counted_words(report: Report) -> str:
    """One sentence: how many formats work, before and after."""
    parts = []
    for run in report.runs:
        found = [verdict.word for verdict in run.verdicts]
        counts = ", ".join(f"{found.count(word)} {word}" for word in WORD_SYMBOLS if word in found)
        parts.append(f"{run.label}: {counts}" if len(report.runs) > 1 else counts)
    return f"Of {len(report.formats)} formats — " + "; ".join(parts) + "."


def evidence_text(found: Evidence | None) -> str:
    """``choice .40 against .60, loss .12 to .28, 48 cases, worst: choice-facts-003``."""
    if found is None:
        return ""
    unit = METRICS[found.metric].unit if found.metric in METRICS else "rate"
    text = f"{found.metric} {compact(found.value)}"
    if found.loss is None:
        span = "" if found.low is None else f", {compact(found.low)} to {compact(found.high)}"
    else:
        text += f" against {compact(found.reference)}" if unit == "rate" else ""
        span = f", loss {compact(found.loss)}" + (
            "" if found.low is None else f" ({compact(found.low)} to {compact(found.high)})"
        )
    worst = f", worst: {found.worst_case}" if found.worst_case else ""
    return f"{text}{span}, {found.n} cases{worst}"


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """What a user reads first: each broken and degraded format with its reason and remedy.

    Unclear, untestable and working formats follow in one line each. At most MOST_LINES formats of
    a word get lines of their own.
    """
    lines = []
    for word in ("broken", "degraded"):
        found = [verdict for verdict in verdicts if verdict.word == word]
        lines += [
            f"{word}: {verdict.format}: {verdict.reason}; {verdict.remedy}"
            for verdict in found[:MOST_LINES]
        ]
        if rest := [verdict.format for verdict in found[MOST_LINES:]]:
            lines.append(f"{word}: {len(rest)} more: {', '.join(rest)}")
    for word in ("unclear", "untestable", "works"):
        found = [verdict for verdict in verdicts if verdict.word == word]
        if found:
            names = ", ".join(verdict.format for verdict in found)
            lines.append(f"{word}: {names}{summed_up(word, found)}")
    return lines


def shared_remedies(found: Sequence[Verdict]) -> list[tuple[tuple[str, ...], str]]:
    """(formats, what helps them): once for formats whose remedies differ in their names alone."""
    shared: dict[str, list[Verdict]] = {}
    for one in filter(lambda one: one.remedy, found):
        shared.setdefault(_unnamed(one), []).append(one)
    return [
        (names, these[0].remedy if len(these) == 1 else _for_all(text, names))
        for text, these in shared.items()
        for names in [tuple(one.format for one in these)]
    ]


_NAME = "\0"


def _unnamed(verdict: Verdict) -> str:
    """A remedy whose last word is the format's name, without it."""
    rest = verdict.remedy.removesuffix(f" {verdict.format}")
    return verdict.remedy if rest == verdict.remedy else f"{rest} {_NAME}"


def _for_all(text: str, names: Sequence[str]) -> str:
    return text.replace(_NAME, ",".join(names)).replace(" in it:", " in them:")


def points(loss: float) -> str:
    """A loss of a rate, rounded upwards: ``7 points``."""
    rounded = math.ceil(100 * max(0.0, loss) - 1e-9)
    return f"{rounded} point{'s' * (rounded != 1)}"


def summed_up(word: str, found: Sequence[Verdict]) -> str:
    """The reason and the remedy where there is one format, else what most formats share.

    That is the largest loss that is possible in them, and the cases that would decide.
    """
    if word == "works":
        return ""
    if len(found) == 1:
        return f": {found[0].reason}; {found[0].remedy}"
    parts = []
    losses = [one.loss_at_most for one in found if one.loss_at_most is not None]
    if losses and len(losses) == len(found):
        least, most = points(min(losses)), points(max(losses))
        between = most if least == most else f"{least.split()[0]} to {most}"
        parts.append(f"each may be as good or worse, by at most {between}")
    if needed := [one.needed for one in found if one.needed is not None]:
        fewest, largest = min(needed), max(needed)
        cases = f"{fewest}" if fewest == largest else f"{fewest} to {largest}"
        parts.append(f"--cases-per-format {cases} would be enough for {len(needed)} of them")
    return f": {'; '.join(parts)}" if parts else ""
