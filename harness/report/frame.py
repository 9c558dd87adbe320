"""What all pages share: one self-contained file that allows its own style and script alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from harness.report.sample_document import Highlight, ReportSample
from harness.report.wording import LONGEST, visible

HERE = Path(__file__).parent


def render(template: Path, *, title: str, skip: str = "", live: str = "", **values: Any) -> str:
    """A page from a template; what is not Markup in ``values`` is escaped.

    Its only script is ours, allowed by its digest. ``skip`` is the id that a keyboard's first link
    leads to. ``live`` is the version of a page that is served: its script asks the server for a
    newer one and loads it.
    """
    script = (HERE / "page.js").read_text(encoding="utf-8")
    page = _template(template).render(
        title=title,
        skip=skip,
        live=live,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704  # our own file
        script=Markup(script),  # noqa: S704  # our own file
        script_digest=source_digest(script),
        **values,
    )
    return page.encode("utf-8", "replace").decode("utf-8")


@lru_cache
def _template(path: Path) -> Template:
    env = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(HERE),
    )
    env.filters["visible"] = visible
    return env.from_string(path.read_text(encoding="utf-8"))


def source_digest(script: str) -> str:
    """A script as a Content-Security-Policy allows it: by the digest of its text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def shown_samples(
    samples: Iterable[ReportSample], order: Sequence[str], longest: int = LONGEST
) -> list[dict[str, Any]]:
    """Format → cases → the runs' samples, formats in this order, in each the failures first.

    Answers are cut to ``longest``.
    """
    found: dict[str, dict[str, list[ReportSample]]] = {}
    for sample in samples:
        found.setdefault(sample.format, {}).setdefault(sample.case, []).append(sample)
    blocks = []
    for name in order:
        if name in found:
            cases = [_shown_case(case, runs, longest) for case, runs in found[name].items()]
            cases.sort(key=lambda case: not case["failed"])
            failed = sum(case["failed"] for case in cases)
            blocks.append({"format": name, "cases": cases, "failed": failed})
    return blocks


def _shown_case(case: str, runs: Sequence[ReportSample], longest: int) -> dict[str, Any]:
    last = runs[-1]
    return {
        "id": case,
        "kind": last.kind,
        "expected": last.expected,
        "right": last.right,
        "failed": failed(last),
        "runs": [
            {**asdict(run), "pieces": answer_pieces(run.answer, run.marks, longest)} for run in runs
        ],
    }


def failed(sample: ReportSample) -> bool:
    """Whether an answer is wrong, empty, leaking or endless."""
    faults = any(sample.scores.get(name) == 1.0 for name in ("empty", "leak"))
    return sample.right is False or sample.finish != "stop" or faults


def answer_pieces(
    answer: str, highlights: Sequence[Highlight], longest: int = LONGEST
) -> list[tuple[str, str, str]]:
    """The answer cut into (text, kind, note) at its highlights; of overlapping ones the first."""
    pieces: list[tuple[str, str, str]] = []
    at = 0
    shown = answer[:longest]
    for mark in highlights:
        start, end = mark.start, min(mark.end, len(shown))
        if start < at or start >= end:
            continue
        if start > at:
            pieces.append((visible(shown[at:start]), "", ""))
        if pieces and pieces[-1][1:] == (mark.kind, mark.note) and start == at:
            pieces[-1] = (pieces[-1][0] + visible(shown[start:end]), mark.kind, mark.note)
        else:
            pieces.append((visible(shown[start:end]), mark.kind, mark.note))
        at = end
    pieces.append((visible(answer[at:], longest - min(at, longest - 1)), "", ""))
    return [piece for piece in pieces if piece[0]]
