"""The page of one model as data: its sections, in order. All numbers are read from the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from experiments.minisymposium.behaviour_sections import (
    card_section,
    demands_section,
    drift_section,
    formats_section,
    symptoms_section,
    time_section,
)
from experiments.minisymposium.section import Part, Section
from experiments.minisymposium.training_sections import (
    alpha_section,
    long_section,
    map_section,
    patience_section,
    schedules_section,
)

_PARTS: dict[str, Callable[[Part], Section]] = {
    "1": map_section,
    "2": symptoms_section,
    "3": patience_section,
    "4": schedules_section,
    "5": alpha_section,
    "6": formats_section,
    "7": drift_section,
    "8": card_section,
    "9": long_section,
}


def sections(results: Mapping[str, Any]) -> list[Section]:
    """The sections of the parts that were run, the demands first."""
    parts = results["parts"]
    found = [demands_section(results)] if results["verdicts"] else []
    found += [make(parts[number]) for number, make in _PARTS.items() if number in parts]
    return [*found, time_section(results)] if results["minutes"] else found
