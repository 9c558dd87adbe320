"""The document of a sweep: what sweep.json holds, and what its map and its tables are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.report.document import read_table

SWEEP_SCHEMA = "harness-sweep/1"
SWEEP_FILE = "sweep.json"
RATE = "optimisation.learning_rate"
_MEASURES = ("nll_held_out", "nll_seen", "nll_native")
#: Under-trained: before the checkpoint to take. Good: from there to the turn, where no checkpoint can be told from the lowest.
REGIONS = {"under": "under-trained", "good": "good", "over": "over-trained"}


@dataclass(frozen=True)
class Sweep:
    """Runs over a grid. ``points`` are plain JSON objects (schema.json, ``sweep``); ``measure`` is what the map shows, "" when nothing was measured."""

    measure: str
    points: tuple[Mapping[str, Any], ...]

    @classmethod
    def from_points(cls, points: Sequence[Mapping[str, Any]]) -> Sweep:
        """Choose the measure and say of each checkpoint in which region it lies."""
        measure = next(
            (
                name
                for name in _MEASURES
                if any(name in entry for point in points for entry in point["curve"])
            ),
            "",
        )
        return cls(
            measure,
            tuple(
                {
                    **point,
                    "curve": [
                        {**entry, "region": _region(entry, point, measure)}
                        for entry in point["curve"]
                    ],
                }
                for point in points
            ),
        )

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "sweep") -> Sweep:
        """Check the outer shape; a file of before there were schemas has none. Raises HarnessError."""
        if table.get("schema", SWEEP_SCHEMA) != SWEEP_SCHEMA:
            raise HarnessError(
                f"schema {table.get('schema')!r} is not {SWEEP_SCHEMA}",
                where=where,
                hint="run harness sweep again with this version",
            )
        points = table.get("points")
        if (
            not isinstance(points, list)
            or not points
            or not all({"run", "settings", "done", "curve"} <= set(point) for point in points)
        ):
            raise HarnessError("the sweep has no points", where=where)
        return cls.from_points(points)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"schema": SWEEP_SCHEMA, "measure": self.measure, "points": list(self.points)}

    def panels(self) -> dict[str, list[Mapping[str, Any]]]:
        """What the grid sets besides the rate, in words → the points that have it, lowest rate first."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        for point in self.points:
            others = [
                f"{name.rpartition('.')[2]} = {value}"
                for name, value in point["settings"].items()
                if name != RATE
            ]
            found.setdefault(", ".join(others), []).append(point)
        return {
            title: sorted(panel, key=lambda point: float(point["settings"].get(RATE, 0)))
            for title, panel in found.items()
        }


def read_sweep(path: Path) -> Sweep:
    """Read a sweep.json, or the one in a folder. Raises HarnessError naming the file."""
    file = path / SWEEP_FILE if path.is_dir() else path
    return Sweep.from_dict(read_table(file, "a sweep"), str(file))


def sweep_verdict(sweep: Sweep) -> str:
    """One sentence: where the lowest value lies, and how many runs went beyond their turn."""
    measured = [
        (entry[sweep.measure], entry, point)
        for point in sweep.points
        for entry in point["curve"]
        if sweep.measure in entry
    ]
    if not measured:
        return f"None of {len(sweep.points)} runs has been measured yet."
    value, entry, point = min(measured, key=lambda item: item[0])
    settings = ", ".join(
        f"{name.rpartition('.')[2]} {text}" for name, text in point["settings"].items()
    )
    turned = sum(
        any(entry["region"] == "over" for entry in point["curve"]) for point in sweep.points
    )
    return f"{sweep.measure} is lowest with {value:.3f} nats a token at {settings}, epoch {entry['epoch']:g}; {turned} of {len(sweep.points)} surely turned."


def map_tables(sweep: Sweep) -> list[dict[str, Any]]:
    """The map's figures, a table for each panel: rate × epoch, each cell with its value, region, and what happens there."""
    tables = []
    for title, panel in sweep.panels().items():
        epochs = sorted({entry["epoch"] for point in panel for entry in point["curve"]})
        rows = []
        for point in panel:
            at = {entry["epoch"]: entry for entry in point["curve"]}
            rows.append(
                {
                    "rate": point["settings"].get(RATE, "–"),
                    "cells": [_map_cell(at.get(epoch), point, sweep.measure) for epoch in epochs],
                }
            )
        tables.append({"title": title, "epochs": [f"{epoch:g}" for epoch in epochs], "rows": rows})
    return tables


def sweep_table(points: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of text: the grid's values, the lowest and the last NLL, the turn, the pick, and the onset of recall."""
    names = list(points[0]["settings"])
    heads = [
        *(name.rpartition(".")[2] for name in names),
        "lowest NLL",
        "last NLL",
        "turn",
        "pick",
        "recall from",
        "state",
    ]
    table = []
    for point in points:
        numbers = [f"{point[key]:.3f}" if key in point else "" for key in ("best", "last")]
        steps = [
            str(point[key]) if point.get(key) is not None else "–"
            for key in ("turn", "pick", "recall_from")
        ]
        state = "done" if point["done"] else "begun" if point["curve"] else "to do"
        table.append([*(point["settings"][name] for name in names), *numbers, *steps, state])
    return heads, table


def _region(entry: Mapping[str, Any], point: Mapping[str, Any], measure: str) -> str | None:
    """Where a checkpoint lies on its run's way; None where the run has too little to tell by."""
    if not measure or measure not in entry or "why" not in point:
        return None
    turn, first = point.get("turn"), point.get("pick")
    if turn is not None and entry["step"] > turn:
        return "over"
    return "under" if entry["step"] < (first if first is not None else turn or 0) else "good"


def _map_cell(
    entry: Mapping[str, Any] | None, point: Mapping[str, Any], measure: str
) -> dict[str, Any]:
    if entry is None or measure not in entry:
        return {"text": "–", "region": "", "notes": ""}
    notes = [
        word
        for word, key in (("★ picked", "pick"), ("○ recall begins", "recall_from"))
        if point.get(key) == entry["step"]
    ]
    return {
        "text": f"{entry[measure]:.2f}",
        "region": entry["region"] or "",
        "notes": ", ".join(notes),
    }
