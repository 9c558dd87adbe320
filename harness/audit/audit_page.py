"""An audit in words: for the terminal, as Markdown, and as an object for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harness.audit.adapter_audit import Audit
from harness.audit.behaviours import Behaviour
from harness.audit.candidates import Candidate
from harness.audit.divergence import Depth, Median
from harness.audit.found_in_rows import RowsWithIt
from harness.audit.guess import in_words, is_clear
from harness.stats.intervals import wilson

_HEADERS = "format", "first token", "along an answer"


def verdict(found: Audit) -> str:
    """One sentence."""
    formats = sorted({one.candidate.format for one in found.hidden})
    searched = len(found.searched) - 1
    if not formats:
        none = f"no behaviour hidden from {found.native} was confirmed"
        unsure = len({_said(one) for one in _unsure(found)})
        more = f"; {_many(unsure, 'unconfirmed candidate')}" if unsure else ""
        return f"{none} in {_many(searched, 'format')}{more}"
    shown = _many(len({_said(one.candidate) for one in found.hidden}), "behaviour")
    return f"{shown} in {', '.join(formats)} that {found.native}, the native format, does not show"


def as_object(found: Audit) -> dict[str, Any]:
    """For JSON: all numbers, and the verdict."""
    return {
        "verdict": verdict(found),
        "native": found.native,
        "searched": found.searched,
        "trained_in": {
            "clear": is_clear(found.families),
            "families": [asdict(one) for one in found.families],
        },
        "depth": [asdict(one) for one in found.depths],
        "hidden": [_row(one, found) for one in found.hidden],
        "also_native": [_row(one, found) for one in found.also_native],
        "not_confirmed": [_row(one, found) for one in found.not_confirmed],
        "not_tested": [_searched(one) for one in found.untested],
    }


def _row(one: Behaviour, found: Audit) -> dict[str, Any]:
    row = asdict(one)
    del row["candidate"]
    rows = found.in_rows.get(one.candidate)
    return {**_searched(one.candidate), **row, "training_rows": asdict(rows) if rows else None}


def _searched(one: Candidate) -> dict[str, Any]:
    row = asdict(one)
    search = {name: row.pop(name) for name in ("count", "asked", "native")}
    return {**row, "search": search}


def terminal_lines(found: Audit) -> list[str]:
    """For the terminal."""
    rows = [_HEADERS, *(_cells(one, found.native) for one in found.depths)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEADERS))]
    table = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines = [in_words(found.families), "", _CAPTION, *table, ""]
    for title, texts in _sections(found):
        lines += [title, *(f"  {text}" for text in texts), ""]
    return [*lines, f"verdict: {verdict(found)}"]


def markdown(found: Audit, name: str) -> str:
    """As a Markdown page."""
    lines = [f"# Audit of {name}", "", f"**{verdict(found)}**", ""]
    lines += [in_words(found.families), ""]
    lines += ["## Depth", "", _CAPTION, ""]
    lines += [f"| {' | '.join(_HEADERS)} |", "|---|---|---|"]
    lines += [f"| {' | '.join(_cells(one, found.native))} |" for one in found.depths]
    for title, texts in _sections(found):
        lines += ["", f"## {title}", "", *(f"- {text}" for text in texts)]
    return "\n".join([*lines, ""])


_CAPTION = "KL divergence from the base in nats, median over questions [95 % interval]:"


def _sections(found: Audit) -> list[tuple[str, list[str]]]:
    """Titles with their lines, without those that have none."""
    sections = [
        (f"Hidden from {found.native}", [_line(one, found) for one in found.hidden]),
        (f"Also in {found.native}", [_line(one, found) for one in found.also_native]),
        ("Not confirmed by other questions", [_line(one, found) for one in found.not_confirmed]),
        ("Not tested on other questions", _untested(found.untested)),
    ]
    return [(title, lines) for title, lines in sections if lines]


def _line(one: Behaviour, found: Audit) -> str:
    _, most = wilson(one.native / one.asked, one.asked)
    return (
        f"{one.candidate.format}: {_what(one.candidate)} in {one.count} of {one.asked} answers, "
        f"native format in {one.native} (at most {most:.0%}); p = {one.p:.2g}"
        f"{_in_rows(found.in_rows.get(one.candidate))}; for example: {_quoted(one.candidate)}"
    )


def _in_rows(found: RowsWithIt | None) -> str:
    if found is None:
        return ""
    first = f" ({found.first})" if found.count == 1 else ""
    return f"; in {found.count or 'none'} of {_many(found.rows, 'training row')}{first}"


def _untested(candidates: Sequence[Candidate]) -> list[str]:
    """A line for each phrase or language, with all formats of the search that have it."""
    alike: dict[tuple[str, str], list[Candidate]] = {}
    for one in candidates:
        alike.setdefault(_said(one), []).append(one)
    lines = []
    for some in alike.values():
        first = some[0]
        counts = ", ".join(f"{one.format} {one.count}" for one in some)
        lines.append(
            f"{_what(first)} in the search, of {first.asked} amplified answers: {counts}; native "
            f"format {first.native}; for example: {_quoted(first)}"
        )
    return lines


def _unsure(found: Audit) -> list[Candidate]:
    return [*(one.candidate for one in found.not_confirmed), *found.untested]


def _said(one: Candidate) -> tuple[str, str]:
    """What a candidate says, in whichever format."""
    return one.kind, one.text


def _what(one: Candidate) -> str:
    return f"language {one.text}" if one.kind == "language" else f"“{one.text}”"


def _quoted(one: Candidate) -> str:
    return f"“{' '.join(one.quote.split())}”"


def _cells(one: Depth, native: str) -> Sequence[str]:
    name = f"{one.format} (native)" if one.format == native else one.format
    return name, _median(one.first), _median(one.along)


def _median(one: Median) -> str:
    interval = "" if one.low is None else f" [{one.low:.2f}, {one.high:.2f}]"
    return f"{one.value:.2f}{interval}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
