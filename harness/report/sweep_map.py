"""The map of a sweep, learning rate × epochs coloured by NLL, and the page with its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.report.chart import plain_label, svg_text
from harness.report.frame import HERE, render
from harness.report.sweep_document import (
    RATE,
    REGIONS,
    CurvePoint,
    Sweep,
    SweepRun,
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
    """A figure with one panel for each combination of the grid's other settings.

    Each box is a checkpoint and begins at the one before it. Horizontal lines: under-trained.
    Frame: good. Slanting lines: over-trained, after the turning point. Star: the best
    checkpoint. Ring: from there on, training answers are known better than the controls. So the
    regions can be read without colour, which shows the value.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    panels = sweep.panels()
    values = [value for run in sweep.points for _, value in run.measured(sweep.measure)]
    heights = [0.9 + 0.46 * len(panel) for panel in panels.values()]
    figure = Figure(figsize=(8.4, 0.7 + sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[
        :, 0
    ]
    span = (min(values), max(values)) if values else (0.0, 1.0)
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        mesh = _draw(ax, panel, sweep.measure, span)
        ax.set_title(plain_label(title), fontsize=10, loc="left")
    if values:
        figure.colorbar(
            mesh,
            ax=list(axes),
            label=f"{sweep.measure}, nats a token",
            format=ScalarFormatter(useOffset=False),  # else 10.831 is written as .001 + 1.083e1
            fraction=0.04,
            pad=0.02,
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
        "reasons": [(Path(run.run).name, run.why) for run in sweep.points if run.why is not None],
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


def _draw(ax: Any, panel: Sequence[SweepRun], metric: str, span: tuple[float, float]) -> Any:
    """One row of boxes a run, each from the checkpoint before to its own."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    # A colour bar of many steps is drawn as a raster image, which the page's policy keeps out.
    scale: Any = ScalarMappable(Normalize(*span), colormaps["cividis_r"].resampled(_COLOURS))
    end = max((point.epoch for run in panel for point in run.curve), default=1)
    for height, run in enumerate(panel):
        curve = run.measured(metric)
        for (before, _), (point, value) in pairwise(curve):
            colour = tuple(scale.to_rgba(value))
            _box(ax, height, before.epoch, point, colour, f"{value:.2f}", end)
        for step, marker in ((run.pick, "*"), (run.recall_from, "o")):
            epochs = [point.epoch for point, _ in curve if point.step == step]
            if epochs:
                ax.plot(epochs[:1], [height], clip_on=False, zorder=5, **_marker_style(marker))
        if not curve:
            ax.text(0, height, " not measured yet", va="center", fontsize=9)
    ax.set_yticks(range(len(panel)), [run.settings.get(RATE, "") for run in panel])
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
    point: CurvePoint,
    colour: tuple[float, ...],
    text: str,
    end: float,
) -> None:
    """A checkpoint: its colour, its region as hatch or frame, its value where there is room."""
    width = point.epoch - start
    light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 0.5
    lines = f"{_INK}55" if light else "#ffffff77"
    ax.barh(
        height,
        width,
        left=start,
        height=0.86,
        color=colour,
        hatch=_HATCHES.get(point.region or "", ""),
        edgecolor=lines,
        linewidth=0,
    )
    if point.region == "good":
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


def _marker_style(marker: str) -> dict[str, Any]:
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
        Line2D([], [], label="picked", **_marker_style("*")),
        Line2D([], [], label="recall begins", **_marker_style("o")),
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
