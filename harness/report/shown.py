"""Samples as the pages show them: by format and case, the runs beside each other, what was noticed in an answer marked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.report.text import LONGEST, visible


def shown_samples(samples: Iterable[Mapping[str, Any]], order: Sequence[str], longest: int = LONGEST) -> list[dict[str, Any]]:
    """Format → cases → the samples of the runs, formats in this order. Answers and prompts are cut after ``longest`` characters, saying so."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for sample in samples:
        shown = {**sample, "pieces": answer_pieces(str(sample["answer"]), sample.get("marks", []), longest)}
        found.setdefault(sample["format"], {}).setdefault(sample["case"], []).append(shown)
    return [{"format": id, "cases": [{"id": case, "runs": runs} for case, runs in found[id].items()]} for id in order if id in found]


def answer_pieces(answer: str, marks: Sequence[Mapping[str, Any]], longest: int = LONGEST) -> list[tuple[str, str, str]]:
    """The answer cut into (text, mark's kind, note); overlapping marks keep the first."""
    pieces: list[tuple[str, str, str]] = []
    at = 0
    shown = answer[:longest]
    for mark in marks:
        start, end = int(mark["start"]), min(int(mark["end"]), len(shown))
        if start < at or start >= end:
            continue
        if start > at:
            pieces.append((visible(shown[at:start]), "", ""))
        if pieces and pieces[-1][1:] == (mark["kind"], str(mark.get("note", ""))) and start == at:
            pieces[-1] = (pieces[-1][0] + visible(shown[start:end]), *pieces[-1][1:])
        else:
            pieces.append((visible(shown[start:end]), str(mark["kind"]), str(mark.get("note", ""))))
        at = end
    pieces.append((visible(answer[at:], longest - min(at, longest - 1)), "", ""))
    return [piece for piece in pieces if piece[0]]
