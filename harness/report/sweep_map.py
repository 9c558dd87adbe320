"""The picture of a sweep: learning rate × epochs, coloured by NLL; and the page that holds it with its figures as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.report.chart import svg_text
from harness.report.frame import HERE, render
from harness.report.sweep_document import (
    RATE,
    REGIONS,
    Sweep,
    map_tables,
    sweep_table,
    sweep_verdict,
)

#: Of lines: a hatch of dots is a quarter of a megabyte of paths for each colour.
_HATCHES = {"under": "---", "over": "////"}
_ORANGE, _INK, _PLAIN = "#d9822b", "#14171c", "#c9ced6"
_COLOURS = 12
_FEWEST_TO_LABEL = 0.045  # of the width: a narrower box has no room for its number


def sweep_figure(sweep: Sweep) -> Any:
    """A figure with one panel for each value of what the grid sets besides the rate. Each box is a checkpoint, from the one before it.

    Lined: under-trained. Framed: good. Hatched: over-trained, after a turn that is sure. A star: the checkpoint that ``pick`` names.
    A ring: training answers are known better than twins from there on. So the regions are told without colour, which shows the value.
    """
    from matplotlib.figure import Figure

    panels = sweep.panels()
    values = [
        entry[sweep.measure]
        for point in sweep.points
        for entry in point["curve"]
        if sweep.measure in entry
    ]
    heights = [0.9 + 0.46 * len(panel) for panel in panels.values()]
    figure = Figure(figsize=(8.4, 0.7 + sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[
        :, 0
    ]
    span = (min(values), max(values)) if values else (0.0, 1.0)
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        mesh = _draw(ax, panel, sweep.measure, span)
        ax.set_title(title, fontsize=10, loc="left")
    if values:
        figure.colorbar(
            mesh, ax=list(axes), label=f"{sweep.measure}, nats a token", fraction=0.04, pad=0.02
        )
    _legend(figure)
    return figure


def sweep_svg(sweep: Sweep) -> str:
    """The figure for a page."""
    return svg_text(sweep_figure(sweep))


def sweep_values(sweep: Sweep) -> dict[str, Any]:
    """What the template of a sweep's section asks for."""
    heads, rows = sweep_table(sweep.points)
    return {
        "verdict": sweep_verdict(sweep),
        "measure": sweep.measure,
        "map": Markup(sweep_svg(sweep)),  # noqa: S704  # matplotlib's, which escapes its labels
        "tables": map_tables(sweep),
        "regions": REGIONS,
        "heads": heads,
        "rows": rows,
        "reasons": [
            (Path(point["run"]).name, point["why"]) for point in sweep.points if "why" in point
        ],
    }


def render_sweep(sweep: Sweep) -> str:
    """The page of a sweep alone."""
    return render(
        HERE / "sweep_page.html.jinja",
        title="Learning rate × epochs",
        skip="sweep-figures",
        sweep=sweep_values(sweep),
    )


def write_sweep_map(sweep: Sweep, folder: Path) -> list[Path]:
    """Write ``map.svg``, ``map.png`` and ``sweep.html`` and return their paths."""
    figure = sweep_figure(sweep)
    paths = [folder / name for name in ("map.svg", "map.png", "sweep.html")]
    paths[0].write_text(
        svg_text(figure).replace("<svg", '<svg style="color: black"', 1), encoding="utf-8"
    )
    figure.savefig(paths[1], dpi=120)
    paths[2].write_text(render_sweep(sweep), encoding="utf-8")
    return paths


def _draw(
    ax: Any, panel: Sequence[Mapping[str, Any]], measure: str, span: tuple[float, float]
) -> Any:
    """One row of boxes a run, each from the checkpoint before to its own."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    # In steps: a colour bar of many is drawn as a raster image, which the page's policy keeps out.
    scale = ScalarMappable(Normalize(*span), colormaps["cividis_r"].resampled(_COLOURS))
    end = max((entry["epoch"] for point in panel for entry in point["curve"]), default=1)
    for height, point in enumerate(panel):
        curve = [entry for entry in point["curve"] if measure in entry]
        for before, entry in pairwise(curve):
            _box(
                ax,
                height,
                before["epoch"],
                entry,
                tuple(scale.to_rgba(entry[measure])),
                f"{entry[measure]:.2f}",
                end,
            )
        for key, marker in (("pick", "*"), ("recall_from", "o")):
            at = next(
                (
                    entry["epoch"]
                    for entry in curve
                    if point.get(key) is not None and entry["step"] == point[key]
                ),
                None,
            )
            if at is not None:
                ax.plot([at], [height], clip_on=False, zorder=5, **_mark(marker))
        if not curve:
            ax.text(0, height, " not measured yet", va="center", fontsize=9)
    ax.set_yticks(range(len(panel)), [point["settings"].get(RATE, "") for point in panel])
    ax.set_ylim(-0.6, len(panel) - 0.4)
    ax.set_xlim(0, end * 1.02 or 1)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(left=False)
    ax.set_xlabel("epochs")
    ax.set_ylabel("learning rate")
    return scale


def _box(
    ax: Any,
    height: int,
    start: float,
    entry: Mapping[str, Any],
    colour: tuple[float, ...],
    text: str,
    end: float,
) -> None:
    """One checkpoint: its colour, its region as hatch or frame, and its value where there is room."""
    width = entry["epoch"] - start
    light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 0.5
    lines = f"{_INK}55" if light else "#ffffff77"
    ax.barh(
        height,
        width,
        left=start,
        height=0.86,
        color=colour,
        hatch=_HATCHES.get(entry["region"], ""),
        edgecolor=lines,
        linewidth=0,
    )
    if entry["region"] == "good":
        ax.barh(
            height,
            width,
            left=start,
            height=0.86,
            fill=False,
            edgecolor=_ORANGE,
            linewidth=2,
            zorder=3,
        )
    if width >= _FEWEST_TO_LABEL * end:
        box = {"facecolor": colour, "edgecolor": "none", "pad": 1.5}
        ax.text(
            start + width / 2,
            height,
            text,
            ha="center",
            va="center",
            fontsize=9,
            color=_INK if light else "#fafafa",
            bbox=box,
            zorder=4,
        )


def _mark(marker: str) -> dict[str, Any]:
    face, size = {"*": (_ORANGE, 14), "o": ("white", 9)}[marker]
    return {
        "marker": marker,
        "markersize": size,
        "markerfacecolor": face,
        "markeredgecolor": _INK,
        "linestyle": "none",
    }


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks = [
        Patch(
            facecolor=_PLAIN, hatch=_HATCHES["under"], edgecolor=f"{_INK}88", label="under-trained"
        ),
        Patch(facecolor=_PLAIN, edgecolor=_ORANGE, linewidth=2, label="good"),
        Patch(
            facecolor=_PLAIN, hatch=_HATCHES["over"], edgecolor=f"{_INK}88", label="over-trained"
        ),
        Line2D([], [], label="picked", **_mark("*")),
        Line2D([], [], label="recall leaves its null", **_mark("o")),
    ]
    figure.legend(
        handles=marks,
        fontsize=9,
        loc="outside lower center",
        ncols=5,
        frameon=False,
        handlelength=1.6,
        columnspacing=1.4,
    )
