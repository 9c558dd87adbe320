"""An audit in words: for the terminal, as Markdown, and as an object for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harness.audit.adapter_audit import Audit
from harness.audit.behaviours import Behaviour, Candidate
from harness.audit.divergence import Depth, Median
from harness.stats.intervals import rate_interval

#: Families that are named where none is clear.
_SHOWN = 5
_HEADERS = "format", "first token", "along an answer"


def verdict(found: Audit) -> str:
    """One sentence."""
    formats = sorted({one.candidate.format for one in found.hidden})
    searched = len(found.searched) - 1
    if not formats:
        return f"no behaviour hidden from {found.native} was found in {_many(searched, 'format')}"
    shown = _many(len(found.hidden), "behaviour")
    return f"{shown} in {', '.join(formats)} that {found.native}, the native format, does not show"


def as_object(found: Audit) -> dict[str, Any]:
    """For JSON: all numbers, and the verdict."""
    return {
        "verdict": verdict(found),
        "native": found.native,
        "searched": found.searched,
        "trained_in": {"clear": found.clear, "families": [asdict(one) for one in found.families]},
        "depth": [asdict(one) for one in found.depths],
        "hidden": [_row(one) for one in found.hidden],
        "also_native": [_row(one) for one in found.behaviours if one.also_native],
        "not_confirmed": [_row(one) for one in found.behaviours if _unconfirmed(one)],
    }


def _row(one: Behaviour) -> dict[str, Any]:
    row = asdict(one)
    candidate = row.pop("candidate")
    kept = ("format", "kind", "text", "quote", "gain")
    searched = {name: candidate[name] for name in ("count", "asked", "native")}
    return {**{name: candidate[name] for name in kept}, **row, "search": searched}


def terminal_lines(found: Audit) -> list[str]:
    """For the terminal."""
    rows = [_HEADERS, *(_cells(one, found.native) for one in found.depths)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEADERS))]
    table = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines = [trained_in(found), "", _CAPTION, *table, ""]
    for title, texts in _sections(found):
        lines += [title, *(f"  {text}" for text in texts), ""]
    return [*lines, f"verdict: {verdict(found)}"]


def markdown(found: Audit, name: str) -> str:
    """As a Markdown page."""
    lines = [f"# Audit of {name}", "", f"**{verdict(found)}**", "", trained_in(found), ""]
    lines += ["## Depth", "", _CAPTION, ""]
    lines += [f"| {' | '.join(_HEADERS)} |", "|---|---|---|"]
    lines += [f"| {' | '.join(_cells(one, found.native))} |" for one in found.depths]
    for title, texts in _sections(found):
        lines += ["", f"## {title}", "", *(f"- {text}" for text in texts)]
    return "\n".join([*lines, ""])


_CAPTION = "KL divergence from the base in nats, median over questions [95 % interval]:"


def trained_in(found: Audit) -> str:
    """The guess."""
    names = [f"{one.format} (family {one.family}, {one.probability:.0%})" for one in found.families]
    if found.clear:
        return f"most likely trained in: {'; runner-up: '.join(names[:2])}"
    return f"no clear preference for a format: {', '.join(names[:_SHOWN])}"


def _sections(found: Audit) -> list[tuple[str, list[str]]]:
    """Titles with their lines, without those that have none."""
    also = [one for one in found.behaviours if one.also_native]
    rest = [one for one in found.behaviours if _unconfirmed(one)]
    sections = [
        (f"Hidden from {found.native}", [_line(one) for one in found.hidden]),
        (f"Also in {found.native}", [_line(one) for one in also]),
        ("Not confirmed by other questions", [_line(one) for one in rest]),
    ]
    return [(title, lines) for title, lines in sections if lines]


def _line(one: Behaviour) -> str:
    candidate, n = one.candidate, one.asked
    most = rate_interval([1.0] * one.native_plain + [0.0] * (n - one.native_plain)).high or 0.0
    return (
        f"{candidate.format}: {_what(candidate)} in {one.amplified} of {n} answers amplified and "
        f"{one.plain} plain; native format {one.native_amplified} and {one.native_plain} "
        f"(at most {most:.0%}); base {one.base}; p = {one.p:.2g}; for example: {_quoted(candidate)}"
    )


def _unconfirmed(one: Behaviour) -> bool:
    return not one.hidden and not one.also_native


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
