"""The figures of the page. Each is a function of the results: equal numbers give equal bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.page_results import write_picture
from harness.report.chart import svg_text
from harness.report.sweep_document import Sweep
from harness.report.sweep_map import sweep_figure

COLOURS = ("#3b6fb6", "#d9822b", "#2f9e77", "#9a4fc0", "#c0392b", "#8a8f98", "#7a5c3e")
_NLL = "nll_held_out"


def figures(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Name → figure, of the parts that were run."""
    makers: dict[str, tuple[str, Callable[[Mapping[str, Any]], Any]]] = {
        "map": ("1", lambda part: sweep_figure(Sweep.from_points(part["rows"]))),
        "sum-lr": ("1", sum_lr),
        "symptoms": ("2", symptoms),
        "schedules": ("4", schedules),
        "alpha": ("5", alpha),
        "formats": ("6", formats),
        "drift": ("7", drift),
        "long": ("9", long_run),
    }
    return {name: make(parts[part]) for name, (part, make) in makers.items() if part in parts}


def write_figures(found: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write NAME.svg and NAME.png, and return name → SVG in the colour of the page around it."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {}
    for name, figure in found.items():
        texts[name] = svg_text(figure)
        write_picture(texts[name], folder / f"{name}.svg")
        figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
    return texts


def sum_lr(part: Mapping[str, Any]) -> Any:
    """Held-out NLL over Σ learning rate, a line for each rate."""
    figure, [axes] = _panels(1)
    for row, colour in zip(part["rows"], COLOURS, strict=False):
        points = [point for point in row["curve"] if point["sum_lr"] > 0]
        axes.plot(
            [p["sum_lr"] for p in points],
            [p[_NLL] for p in points],
            color=colour,
            marker="o",
            markersize=4,
            linewidth=1.5,
            label=f"{row['rate']:g}",
        )
    axes.axhline(part["start"], color="#8a8f98", linestyle="--", linewidth=1, label="untrained")
    axes.set_xscale("log")
    _labelled(axes, "Σ learning rate", "held-out NLL, nats a token", "learning rate")
    return figure


def symptoms(part: Mapping[str, Any]) -> Any:
    """The steps of the over-trained run at which each symptom is present."""
    rows = list(reversed(part["symptoms"]))
    figure, [axes] = _panels(1, height=0.9 + 0.34 * len(rows))
    last = max(part["steps"])
    for place, row in enumerate(rows):
        axes.plot([0, last], [place, place], color="#8a8f98", linewidth=0.8)
        axes.plot(
            [point["step"] for point in row["points"]],
            [place] * len(row["points"]),
            color="#8a8f98",
            marker="|",
            linestyle="none",
        )
        if row["from"] is not None:
            axes.plot(
                [row["from"], last],
                [place, place],
                color=COLOURS[1],
                linewidth=6,
                solid_capstyle="butt",
                marker="s",  # a symptom of the last checkpoint has no length
                markersize=6,
                markevery=[0],
            )
    axes.set_yticks(range(len(rows)), [row["symptom"] for row in rows], fontsize=8)
    axes.set_xlabel(
        "step (tick: a measurement; bar: from where\nthe symptom has left its null to the end)"
    )
    return figure


def schedules(part: Mapping[str, Any]) -> Any:
    """Held-out NLL over Σ learning rate for each shape."""
    figure, [axes] = _panels(1)
    for row, colour in zip(part["rows"], COLOURS, strict=False):
        axes.plot(
            [p["sum_lr"] for p in row["curve"]],
            [p[_NLL] for p in row["curve"]],
            color=colour,
            marker="o",
            markersize=4,
            linewidth=1.5,
            label=row["shape"],
        )
    axes.axhline(
        part["auto_branch"]["nll"],
        color=COLOURS[-1],
        linestyle=":",
        label="automatic branch, chosen",
    )
    _labelled(axes, "Σ learning rate", "held-out NLL, nats a token")
    return figure


def alpha(part: Mapping[str, Any]) -> Any:
    """Two panels: alphas at one learning rate, and the same with B's rate corrected."""
    figure, panels = _panels(2)
    shared = [row for row in part["rows"] if row["reference"]]
    for axes, compensated in zip(panels, (False, True), strict=True):
        for row, colour in zip(
            [
                *shared,
                *(
                    row
                    for row in part["rows"]
                    if not row["reference"] and row["compensated"] is compensated
                ),
            ],
            COLOURS,
            strict=False,
        ):
            axes.plot(
                [p["step"] for p in row["curve"]],
                [p[_NLL] for p in row["curve"]],
                color=colour,
                marker="o",
                markersize=4,
                label=f"{row['alpha']:g}",
            )
        axes.set_title(
            "B's rate corrected" if compensated else "one learning rate for all", fontsize=9
        )
        _labelled(axes, "step", "held-out NLL, nats a token", "alpha")
    return figure


def formats(part: Mapping[str, Any]) -> Any:
    """The share of the held-out gap that each recipe closes, with intervals."""
    rows = [row for row in reversed(part["rows"]) if _bounded(row["gap_closed"])]
    figure, [axes] = _panels(1, height=0.9 + 0.36 * len(rows))
    for place, row in enumerate(rows):
        gap = row["gap_closed"]
        axes.plot(
            [gap["low"], gap["high"]],
            [place, place],
            color="#8a8f98",
            linewidth=6,
            solid_capstyle="butt",
        )
        axes.plot([gap["value"]], [place], color=COLOURS[1], marker="D", linestyle="none")
    axes.axvline(0.9, color=COLOURS[2], linestyle="--", linewidth=1)
    axes.set_yticks(
        range(len(rows)), [row["run"].removeprefix("format-") for row in rows], fontsize=8
    )
    axes.set_xlim(*_around([row["gap_closed"] for row in rows]))
    axes.set_xlabel("share of the held-out NLL excess that is gone, 95 % interval; dashed: 90 %")
    return figure


def _bounded(gap: Mapping[str, Any] | None) -> bool:
    return bool(gap and gap["low"] is not None)


def _around(gaps: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """Limits that hold all intervals and the line at 90 %, but not more than ±200 %."""
    low = min((gap["low"] for gap in gaps), default=0.0)
    high = max((gap["high"] for gap in gaps), default=1.0)
    return max(-2.0, min(low, 0.0)) - 0.05, min(2.0, max(high, 1.0)) + 0.05


def drift(part: Mapping[str, Any]) -> Any:
    """Hazards and the rate of drifting answers over the steps, a panel for each format."""
    figure, panels = _panels(len(part["formats"]))
    for axes, (format_id, rows) in zip(panels, part["formats"].items(), strict=True):
        for row, colour in zip(sorted(rows, key=lambda row: row["symptom"]), COLOURS, strict=False):
            points = [point for point in row["points"] if point["value"] is not None]
            axes.plot(
                [p["step"] for p in points],
                [p["value"] for p in points],
                color=colour,
                marker="o",
                markersize=4,
                label=row["symptom"],
            )
        axes.set_title(format_id, fontsize=9)
        _labelled(axes, "step", "probability, or share of answers")
    return figure


def long_run(part: Mapping[str, Any]) -> Any:
    """Two panels over the epochs: held-out NLL, and what training answers gained over controls."""
    figure, panels = _panels(2)
    for axes, key, label in (
        (panels[0], _NLL, "held-out NLL, nats a token"),
        (panels[1], "recall", "recall gained, nats a token"),
    ):
        points = [point for point in part["curve"] if point[key] is not None]
        axes.plot(
            [p["epoch"] for p in points],
            [p[key] for p in points],
            color=COLOURS[0],
            marker="o",
            markersize=4,
            label=f"rate {part['rate']:g}",
        )
        _labelled(axes, "epoch", label)
    return figure


def _panels(count: int, height: float = 3.2) -> tuple[Any, Sequence[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2 if count == 1 else 4.6 * count, height), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, linewidth=0.5)
    return figure, list(axes)


def _labelled(axes: Any, x: str, y: str, title: str = "") -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(frameon=False, fontsize=7, title=title or None, title_fontsize=7)
