"""Charts as inline SVG, the same bytes for the same numbers."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

from harness.metrics.registry import METRICS
from harness.report.document import Confidence, SpreadRow, Training
from harness.report.wording import visible

#: A bin of fewer items is a point that says nothing.
_FEWEST_IN_A_BIN = 10


def training_svg(training: Training) -> str:
    """Training loss and the measured NLL of each checkpoint by step."""
    steps, checkpoints = training.steps, training.checkpoints
    if not steps:
        return ""
    figure, axes = _figure()
    axes.plot(
        [s["step"] for s in steps],
        [s["loss"] for s in steps],
        color="#8a8f98",
        linewidth=1,
        label="training loss",
    )
    for key, marker, colour, label in (
        ("nll_native", "o", "#3b6fb6", "native"),
        ("nll_seen", "s", "#2f9e77", "seen formats"),
        ("nll_held_out", "^", "#d9822b", "held-out formats"),
    ):
        points = [(c["step"], c[key]) for c in checkpoints if key in c]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                marker=marker,
                linewidth=1.6,
                label=f"references, {label}",
            )
    axes.set_xlabel("step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("nats a token")
    axes.legend(frameon=False, fontsize=8)
    return svg_text(figure)


def reliability_svg(confidence: Sequence[Confidence]) -> str:
    """Accuracy over confidence in bins of equal mass, one line a run; the diagonal: calibrated.

    A run with fewer than ten items in a bin is left out.
    """
    runs = [
        (run.run, run.reliability)
        for run in confidence
        if run.reliability and min(point.n for point in run.reliability) >= _FEWEST_IN_A_BIN
    ]
    if not runs:
        return ""
    figure, axes = _figure()
    axes.plot(
        [0, 1], [0, 1], color="#8a8f98", linewidth=1, linestyle="--", label="confidence = accuracy"
    )
    colours = ("#3b6fb6", "#d9822b", "#2f9e77", "#9a4fc0")
    for (label, bins), marker, colour in zip(runs, "os^D", colours, strict=False):
        axes.plot(
            [b.confidence for b in bins],
            [b.accuracy for b in bins],
            color=colour,
            marker=marker,
            linewidth=1.6,
            label=plain_label(label),
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence in the chosen option")
    axes.set_ylabel("share that is right")
    axes.legend(frameon=False, fontsize=8)
    return svg_text(figure)


def spread_svg(spread: Sequence[SpreadRow]) -> str:
    """Spread of rates over formats beside the range that shuffled formats give."""
    rows = [
        row for row in spread if row.metric not in METRICS or METRICS[row.metric].unit == "rate"
    ]
    if not rows:
        return ""
    figure, axes = _figure(height=0.6 + 0.36 * len(rows))
    for place, row in enumerate(reversed(rows)):
        axes.plot(
            [row.null_low, row.null_high],
            [place, place],
            color="#8a8f98",
            linewidth=7,
            solid_capstyle="butt",
            label="noise alone" if not place else None,
        )
        axes.plot(
            [row.spread],
            [place],
            color="#d9822b",
            marker="D",
            linestyle="none",
            label="observed" if not place else None,
        )
    names = [plain_label(f"{row.metric}, {row.run}") for row in reversed(rows)]
    axes.set_yticks(range(len(rows)), names)
    axes.set_xlim(0, 1)
    axes.set_xlabel("best format − worst format")
    axes.legend(frameon=False, fontsize=8)
    return svg_text(figure)


def plain_label(text: str) -> str:
    """A name as matplotlib writes it out: between dollars it reads mathematics, and may fail.

    It also leaves a label out of the legend that begins with an underscore.
    """
    escaped = visible(text).replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{escaped}" if escaped.startswith("_") else escaped


def _figure(height: float = 3.2) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)
    return figure, axes


def svg_text(figure: Any) -> str:
    """A figure as SVG that takes the page's colour: the same bytes for the same numbers."""
    import matplotlib

    out = io.StringIO()
    with (
        warnings.catch_warnings(),
        matplotlib.rc_context({"svg.hashsalt": "harness", "svg.fonttype": "none"}),
    ):
        # A letter that matplotlib's font lacks is drawn by the reader's.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(
            out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True
        )
    text = out.getvalue()
    body = text[text.index("<svg") :]
    # Black ink follows the page's colour, so that the chart is readable in the dark.
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"(stroke|fill): ?#000000", r"\1: currentColor", body)
    return re.sub(r"<text style=\"", '<text style="fill: currentColor; ', body)
