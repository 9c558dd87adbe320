"""The page of the results: a table of all runs, what each recipe achieves, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

#: The numbers.json of one run.
Numbers = Mapping[str, Any]
COLUMNS = (
    ("native nll", "native NLL", "+.3f"),
    ("held-out nll", "held-out NLL", "+.3f"),
    ("held-out nll_excess", "held-out excess", "+.3f"),
    ("held-out on_task", "held-out on task", "+.3f"),
    ("held-out stopped", "held-out stopped", "+.3f"),
    ("native choice", "native choice", "+.3f"),
)


def demands(run: Numbers) -> dict[str, bool]:
    """Which of the demands on a recipe a run meets; each by its estimate and its interval."""
    closed, recall = run["held-out gap closed"], run["recall"]
    return {
        "native NLL falls by .30 nats a token or more": _value(run, "native nll") <= -0.30,
        "at least 90 % of the held-out excess is gone (lower bound 60 %)": bool(
            closed and closed["value"] >= 0.9 and closed["low"] is not None and closed["low"] >= 0.6
        ),
        "training answers gain no more than controls (200 or more)": bool(
            recall and recall["low"] is not None and recall["low"] <= 0 and recall["n_null"] >= 200
        ),
        "more answers stop and are on task in held-out formats": all(
            _bound(run, name, "low") > 0 for name in ("held-out stopped", "held-out on_task")
        ),
        "native choice is not lower": _bound(run, "native choice", "high") >= 0,
    }


def _value(run: Numbers, name: str) -> float:
    return float(run[name]["value"]) if run[name] else float("nan")


def _bound(run: Numbers, name: str, bound: str) -> float:
    found = run[name] and run[name][bound]
    return float("nan") if found is None else float(found)


def table(runs: Sequence[Numbers]) -> list[str]:
    """A row for each run: every change since the base with its 95 % interval.

    The share of the gap is left out where it has no interval, because the gap before may be 0.
    """
    head = ["recipe", "seed", *(title for _, title, _ in COLUMNS), "gap closed", "recited", "steps"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for run in runs:
        cells = [_cell(run[name], form) for name, _, form in COLUMNS]
        recall = run["recall"]
        recited = {**recall, "value": recall["excess"]} if recall else None
        closed = run["held-out gap closed"]
        bounded = closed if closed and closed["low"] is not None else None
        cells += [_cell(bounded, ".0%"), _cell(recited, "+.3f")]
        minutes = f"{run['seconds'] / 60:.0f} min"
        lines.append(f"| {run['recipe']} | {run['seed']} | {' | '.join(cells)} | {minutes} |")
    return lines


def _cell(found: Mapping[str, Any] | None, form: str) -> str:
    if not found or found["value"] is None:
        return "–"
    if found["low"] is None or found["high"] is None:
        return f"{found['value']:{form}}"
    return f"{found['value']:{form}} ({found['low']:{form}} to {found['high']:{form}})"


def demand_lines(runs: Sequence[Numbers]) -> list[str]:
    """For each recipe and demand, how many of its seeds meet it."""
    names = list(demands(runs[0])) if runs else []
    lines = [f"| recipe | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for recipe in dict.fromkeys(run["recipe"] for run in runs):
        met = [demands(run) for run in runs if run["recipe"] == recipe]
        counts = [f"{sum(each[name] for each in met)} of {len(met)}" for name in names]
        lines.append(f"| {recipe} | {' | '.join(counts)} |")
    return lines


def pareto(runs: Sequence[Numbers]) -> Any:
    """What is taught over what is recited, a point for each recipe; labels say the excess left."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)
    for recipe in dict.fromkeys(run["recipe"] for run in runs):
        own = [run for run in runs if run["recipe"] == recipe and run["recall"]]
        if not own:
            continue
        recited = fmean(run["recall"]["excess"] for run in own)
        taught = -fmean(_value(run, "native nll") for run in own)
        left = fmean(run["held-out nll_excess"]["levels"][1] for run in own)
        axes.plot([recited], [taught], marker="o", markersize=6)
        axes.annotate(
            f"{recipe} ({left:.2f})",
            (recited, taught),
            textcoords="offset points",
            xytext=(6, 4),
            fontsize=8,
        )
    axes.axvline(0, color="#8a8f98", linewidth=1)
    axes.margins(x=0.25, y=0.1)  # room for the labels
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlabel("recited: gain of training answers over controls, nats a token")
    axes.set_ylabel("taught: fall of native NLL, nats a token")
    return figure


def results_text(runs: Sequence[Numbers], picture: str) -> str:
    """Both tables as Markdown, and the picture if there is more than one recipe to compare."""
    lines = [*table(runs), "", *demand_lines(runs)]
    if len({run["recipe"] for run in runs}) > 1:
        lines += ["", f"![taught over recited]({picture})"]
    return "\n".join(lines) + "\n"
