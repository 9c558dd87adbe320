"""The sweep document: what sweep.json holds, and what its map and its tables are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from harness.report.json_document import as_table, from_table, optional, read_table
from harness.run_file import NLL_METRICS

SWEEP_SCHEMA: Literal["harness-sweep/1"] = "harness-sweep/1"
SWEEP_FILE = "sweep.json"
RATE = "optimisation.learning_rate"
#: Under-trained: before the best checkpoint. Good: from there to the turning point, where no
#: checkpoint differs significantly from the lowest.
REGIONS = {"under": "under-trained", "good": "good", "over": "over-trained"}
Region = Literal["under", "good", "over"]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A checkpoint. ``region`` is null where the run has too few measurements to tell."""

    step: int
    epoch: float
    sum_lr: float | None = optional()
    region: Region | None = None
    nll_held_out: float | None = optional()
    nll_seen: float | None = optional()
    nll_native: float | None = optional()
    recall: float | None = optional()

    def value(self, metric: str) -> float | None:
        """The checkpoint's value of the metric that a sweep shows."""
        found: float | None = getattr(self, metric) if metric else None
        return found


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One point of the grid.

    ``run`` is its folder; ``settings`` what the grid sets: dotted name → value as text. ``pick`` is
    the step of the best checkpoint, ``turn`` of the turning point, ``recall_from`` the first at
    which training answers are known better than the controls; null: none. ``why`` explains them.
    """

    run: str
    settings: Mapping[str, str]
    done: bool
    curve: tuple[CurvePoint, ...]
    measure: str | None = optional()
    pick: int | None = None
    turn: int | None = None
    recall_from: int | None = None
    best: float | None = optional()
    last: float | None = optional()
    why: str | None = optional()

    def measured(self, metric: str) -> list[tuple[CurvePoint, float]]:
        """The checkpoints that have a value of this metric, with it."""
        values = ((point, point.value(metric)) for point in self.curve)
        return [(point, value) for point, value in values if value is not None]


@dataclass(frozen=True)
class Sweep:
    """Runs over a grid of settings: sweep.json, and a report's sweep.

    ``measure`` is what the map shows, empty when nothing was measured.
    """

    measure: str
    points: Annotated[tuple[SweepRun, ...], MinLen(1)]
    schema: Literal["harness-sweep/1"] = SWEEP_SCHEMA

    @classmethod
    def from_points(cls, points: Sequence[Mapping[str, Any]], where: str = "sweep") -> Sweep:
        """Check the points, choose the metric, and find the region of each checkpoint."""
        table = {"measure": "", "points": points, "schema": SWEEP_SCHEMA}
        runs = from_table(cls, table, where, "run harness sweep again with this version").points
        metric = next((m for m in NLL_METRICS if any(run.measured(m) for run in runs)), "")
        return cls(metric, tuple(_with_regions(run, metric) for run in runs))

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "sweep") -> Sweep:
        """A sweep from its JSON object; the first files had no schema. Raises HarnessError."""
        if "schema" in table:
            from_table(cls, table, where, "run harness sweep again with this version")
        return cls.from_points(table.get("points", ()), where)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        table: dict[str, Any] = as_table(self)
        return table

    def panels(self) -> dict[str, list[SweepRun]]:
        """The settings besides the rate, as text → the runs with them, lowest rate first."""
        found: dict[str, list[SweepRun]] = {}
        for run in self.points:
            others = [
                f"{name.rpartition('.')[2]} = {value}"
                for name, value in run.settings.items()
                if name != RATE
            ]
            found.setdefault(", ".join(others), []).append(run)
        return {
            title: sorted(panel, key=lambda run: float(run.settings.get(RATE, 0)))
            for title, panel in found.items()
        }


def read_sweep(path: Path) -> Sweep:
    """Read a sweep.json, or the one in a folder. Raises HarnessError naming the file."""
    file = path / SWEEP_FILE if path.is_dir() else path
    return Sweep.from_dict(read_table(file, "a sweep"), str(file))


def sweep_verdict(sweep: Sweep) -> str:
    """One sentence: where the lowest value is, and how many runs passed their turning point."""
    measured = [
        (value, point, run) for run in sweep.points for point, value in run.measured(sweep.measure)
    ]
    if not measured:
        return f"None of {len(sweep.points)} runs has been measured yet."
    value, point, run = min(measured, key=lambda item: item[0])
    settings = ", ".join(f"{name.rpartition('.')[2]} {text}" for name, text in run.settings.items())
    turned = sum(any(point.region == "over" for point in run.curve) for run in sweep.points)
    return (
        f"{sweep.measure} is lowest with {value:.3f} nats a token at {settings}, "
        f"epoch {point.epoch:g}; {turned} of {len(sweep.points)} runs passed the turning point."
    )


def map_tables(sweep: Sweep) -> list[dict[str, Any]]:
    """The map's numbers: for each panel rate × epoch, each cell with value, region and notes."""
    tables = []
    for title, panel in sweep.panels().items():
        epochs = sorted({point.epoch for run in panel for point in run.curve})
        rows = []
        for run in panel:
            by_epoch = {point.epoch: point for point in run.curve}
            cells = [_map_cell(by_epoch.get(epoch), run, sweep.measure) for epoch in epochs]
            rows.append({"rate": run.settings.get(RATE, "–"), "cells": cells})
        tables.append(
            {"title": title, "epochs": [f"epoch {epoch:g}" for epoch in epochs], "rows": rows}
        )
    return tables


def sweep_table(runs: Sequence[SweepRun]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of text: grid values, lowest and last NLL, turn, pick, and onset of recall."""
    names = list(runs[0].settings)
    heads = [
        *(name.rpartition(".")[2] for name in names),
        *("lowest NLL", "last NLL", "turn", "pick", "recall from", "state"),
    ]
    table = []
    for run in runs:
        numbers = ["" if value is None else f"{value:.3f}" for value in (run.best, run.last)]
        steps = [
            "–" if step is None else str(step) for step in (run.turn, run.pick, run.recall_from)
        ]
        state = "done" if run.done else "begun" if run.curve else "to do"
        table.append([*(run.settings[name] for name in names), *numbers, *steps, state])
    return heads, table


def _with_regions(run: SweepRun, metric: str) -> SweepRun:
    curve = tuple(replace(point, region=_region(point, run, metric)) for point in run.curve)
    return replace(run, curve=curve)


def _region(point: CurvePoint, run: SweepRun, metric: str) -> Region | None:
    if point.value(metric) is None or run.why is None:
        return None
    if run.turn is not None and point.step > run.turn:
        return "over"
    return "under" if point.step < (run.turn or 0 if run.pick is None else run.pick) else "good"


def _map_cell(point: CurvePoint | None, run: SweepRun, metric: str) -> dict[str, Any]:
    value = None if point is None else point.value(metric)
    if point is None or value is None:
        return {"text": "–", "region": "", "notes": ""}
    notes = [
        note
        for note, step in (("★ picked", run.pick), ("○ recall begins", run.recall_from))
        if step == point.step
    ]
    return {"text": f"{value:.2f}", "region": point.region or "", "notes": ", ".join(notes)}
