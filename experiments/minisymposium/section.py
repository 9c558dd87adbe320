"""A section of the page as data, and the words of its cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Part = Mapping[str, Any]

#: The words of a verdict on a claim or a demand.
VERDICTS = {True: "**holds**", False: "does not hold", None: "inconclusive"}


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, sentences, a table and figures by name."""

    title: str
    lines: tuple[str, ...]
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    figures: tuple[str, ...] = ()


def step_text(step: int | None) -> str:
    """A step, or a dash for none."""
    return "–" if step is None else str(step)


def value_text(value: float | None) -> str:
    """A number in three digits, or a dash for none."""
    return "–" if value is None else f"{value:.3g}"


def by_part(results: Mapping[str, Any], spell: Callable[[Mapping[str, Any]], str]) -> str:
    """What ``spell`` says of how each part was made, with the parts wherever they differ."""
    parts: dict[str, list[str]] = {}
    for part, made in sorted(results["made"].items()):
        parts.setdefault(spell(made), []).append(part)
    if len(parts) == 1:
        return next(iter(parts))
    return "; ".join(
        f"{said} (part{'s' * (len(some) > 1)} {', '.join(some)})" for said, some in parts.items()
    )
