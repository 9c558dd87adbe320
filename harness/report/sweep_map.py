"""The picture of a sweep: learning rate × epochs, coloured by NLL, under- and over-training shaded; and the page that holds it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.report.chart import svg_text

RATE = "optimisation.learning_rate"
_GROUPS = ("nll_held_out", "nll_seen", "nll_native")


def sweep_figure(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A figure with one panel for each value of what the grid sets besides the rate. Hatched: after the turn. Dotted: before the lowest
    checkpoint, so under-trained. A ring: training answers are known better than twins from there on. A star: the checkpoint that ``pick`` names.
    """
    from matplotlib.figure import Figure

    panels = _panels(rows)
    measure = next((name for name in _GROUPS if any(name in point for row in rows for point in row["curve"])), "")
    figure = Figure(figsize=(1.6 + 5.2 * max(1, len(panels)), 1.4 + 0.55 * max(3, *(len(panel) for panel in panels.values()))), layout="constrained")
    axes = figure.subplots(1, max(1, len(panels)), squeeze=False)[0]
    values = [point[measure] for row in rows for point in row["curve"] if measure in point]
    for ax, (title, panel) in zip(axes, panels.items(), strict=False):
        mesh = _draw(ax, panel, measure, (min(values), max(values)) if values else (0.0, 1.0))
        ax.set_title(title, fontsize=9)
    if values:
        figure.colorbar(mesh, ax=axes, label=f"{measure}, nats a token")
    _legend(axes[0])
    return figure


def write_sweep_map(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write ``map.svg``, ``map.png`` and ``sweep.html`` and return their paths."""
    figure = sweep_figure(rows)
    svg = svg_text(figure)
    paths = [folder / name for name in ("map.svg", "map.png", "sweep.html")]
    paths[0].write_text(svg.replace("<svg", '<svg style="color: black"', 1), encoding="utf-8")
    figure.savefig(paths[1], dpi=120)
    paths[2].write_text(_page(rows, svg), encoding="utf-8")
    return paths


def sweep_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of text: the grid's values, the lowest and the last NLL, the turn, the pick, and the onset of recall."""
    names = list(rows[0]["settings"])
    heads = [*(name.rpartition(".")[2] for name in names), "lowest NLL", "last NLL", "turn", "pick", "recall from", "state"]
    table = []
    for row in rows:
        numbers = [f"{row[key]:.3f}" if key in row else "" for key in ("best", "last")]
        steps = [str(row[key]) if row.get(key) is not None else "–" for key in ("turn", "pick", "recall_from")]
        table.append([*(row["settings"][name] for name in names), *numbers, *steps, "done" if row["done"] else "begun" if row["curve"] else "to do"])
    return heads, table


def _panels(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    panels: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        others = [f"{name.rpartition('.')[2]} = {value}" for name, value in row["settings"].items() if name != RATE]
        panels.setdefault(", ".join(others), []).append(row)
    return {title: sorted(panel, key=lambda row: float(row["settings"].get(RATE, 0))) for title, panel in panels.items()}


def _draw(ax: Any, panel: Sequence[Mapping[str, Any]], measure: str, span: tuple[float, float]) -> Any:
    """One row of boxes a run, each from the checkpoint before to its own."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(*span), "cividis_r")
    for height, row in enumerate(panel):
        curve = [point for point in row["curve"] if measure in point]
        lowest = min(curve, key=lambda point: point[measure])["step"] if curve else 0
        turn = row.get("turn")
        for before, point in pairwise(curve):
            hatch = "///" if turn is not None and point["step"] > turn else "..." if point["step"] < (turn if turn is not None else lowest) else ""
            width = point["epoch"] - before["epoch"]
            colour = scale.to_rgba(point[measure])
            ax.barh(height, width, left=before["epoch"], height=0.9, color=colour, hatch=hatch, edgecolor="#ffffff88", linewidth=0)
        for key, marker in (("pick", "*"), ("recall_from", "o")):
            at = next((point["epoch"] for point in curve if point["step"] == row.get(key)), None)
            if at is not None:
                ax.plot([at], [height], marker=marker, markersize=12 if marker == "*" else 8, markerfacecolor="#d9822b" if marker == "*" else "none",
                        markeredgecolor="#d9822b", linestyle="none", zorder=5)  # fmt: skip
    ax.set_yticks(range(len(panel)), [row["settings"].get(RATE, "") for row in panel])
    ax.set_xlabel("epochs")
    ax.set_ylabel("learning rate")
    return scale


def _legend(ax: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks = [
        Patch(facecolor="#c9ced6", hatch="...", edgecolor="white", label="under-trained"),
        Patch(facecolor="#c9ced6", hatch="///", edgecolor="white", label="over-trained: after the turn"),
        Line2D([], [], marker="*", color="#d9822b", linestyle="none", label="picked"),
        Line2D([], [], marker="o", markerfacecolor="none", color="#d9822b", linestyle="none", label="recall leaves its null"),
    ]
    ax.legend(handles=marks, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, frameon=False)


def _page(rows: Sequence[Mapping[str, Any]], svg: str) -> str:
    heads, table = sweep_table(rows)
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    body = "\n".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in line) + "</tr>" for line in table)
    reasons = "\n".join(f"<li><code>{html.escape(Path(row['run']).name)}</code>: {html.escape(row['why'])}</li>" for row in rows if "why" in row)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sweep</title>
<style>:root {{ color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }} body {{ max-width: 72rem; margin: 2rem auto; padding: 0 1rem }}
svg {{ max-width: 100%; height: auto }} table {{ border-collapse: collapse }} th, td {{ padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #8885 }}</style></head>
<body><h1>Learning rate × epochs</h1>
{svg}
<table><thead><tr>{head}</tr></thead><tbody>
{body}
</tbody></table>
<h2>Why</h2><ul>
{reasons}
</ul></body></html>
"""
