"""What all pages share: one self-contained file, readable without scripts, with a policy that lets nothing in but itself.

Samples as the pages show them: by format and case, the runs beside each other, what was noticed in an answer marked.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from harness.report.wording import LONGEST, visible

HERE = Path(__file__).parent


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


def render(template: Path, *, title: str, skip: str = "", live: str = "", **values: Any) -> str:
    """A page from a template; what is not Markup in ``values`` is escaped. Its only script is ours, named by its digest.

    ``skip`` is the id of what a keyboard's first link leads to. ``live`` is the version of a page that is served: its script asks
    the server for another one and loads it.
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


def source_digest(script: str) -> str:
    """A script as a Content-Security-Policy allows it: by the digest of its text, so that no other one runs."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def shown_samples(
    samples: Iterable[Mapping[str, Any]], order: Sequence[str], longest: int = LONGEST
) -> list[dict[str, Any]]:
    """Format → cases → the samples of the runs, formats in this order. Answers and prompts are cut after ``longest`` characters, saying so."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for sample in samples:
        shown = {
            **sample,
            "pieces": answer_pieces(str(sample["answer"]), sample.get("marks", []), longest),
        }
        found.setdefault(sample["format"], {}).setdefault(sample["case"], []).append(shown)
    return [
        {"format": id, "cases": [{"id": case, "runs": runs} for case, runs in found[id].items()]}
        for id in order
        if id in found
    ]


def answer_pieces(
    answer: str, marks: Sequence[Mapping[str, Any]], longest: int = LONGEST
) -> list[tuple[str, str, str]]:
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
