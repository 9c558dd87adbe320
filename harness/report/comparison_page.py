"""A comparison's page: a heat table of paired differences, worst first, and both runs' samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.metrics.registry import in_order, lower_is_better
from harness.records import GROUPS
from harness.report.comparison import Comparison, Difference, Side
from harness.report.frame import HERE, render, shown_samples
from harness.report.page import metric_head
from harness.report.wording import LONGEST, MINUS, WORD_SYMBOLS, changed_words, compact, signed

#: The outcome of a difference → its symbol. The first three fail a gate.
OUTCOME_SYMBOLS = {
    "failed": "▼",
    "missing": "✗",
    "stale": "✗",
    "worse": "▽",
    "improved": "▲",
    "better": "△",
    "inconclusive": "?",
    "same": "=",
    "new": "+",
}
#: In the order of the chips.
_ABOUT = {
    "failed": "lost at least the tolerance, and more than noise explains",
    "missing": "not measured or not scored in the second run",
    "stale": "not comparable: a template or a setting changed",
    "worse": "worse by its interval, not failed",
    "inconclusive": "these cases cannot exclude a loss of the tolerance",
    "same": "shown to be no worse than the tolerance",
    "better": "better by its interval",
    "improved": "gained at least the tolerance, and more than noise explains",
    "new": "not in the first run",
}
#: Outcomes that have a colour; the others are drawn quietly.
_WAYS = {"failed": "worse", "worse": "worse", "better": "better", "improved": "better"}
_LOST = ("failed", "missing", "stale")
#: Outcomes that say nothing new: a row or a column of these alone is shown on demand.
_QUIET = ("same", "inconclusive")
#: Rows of the list of changes; the others are in the table alone.
_LISTED = 20
#: Characters of all samples together, so that a page stays under a megabyte.
_ROOM = 420_000


def render_comparison(comparison: Comparison) -> str:
    """The page. Everything that comes from a model or a user is escaped and made visible."""
    metrics = in_order({cell.metric for cell in comparison.cells})
    groups = {facts.id: facts.group for facts in comparison.formats}
    ranked = _ranked(comparison)
    longest = min(LONGEST, max(300, _ROOM // max(1, 3 * len(comparison.samples) // 2)))
    order = [name for name in ranked if name in groups]
    samples = shown_samples(comparison.samples, order, longest)
    for block in samples:
        for case in block["cases"]:
            case["changes"] = _changes(case["runs"])
    cases = {block["format"]: {case["id"] for case in block["cases"]} for block in samples}
    loud = {
        (cell.format, cell.metric) for cell in comparison.cells if outcome_of(cell) not in _QUIET
    }
    telling = {place[0] for place in loud}, {place[1] for place in loud}
    rows = [
        {
            "id": name,
            "quiet": bool(loud) and name not in telling[0],
            "group": groups.get(name),
            "linked": name in cases,
            "cells": [_heat_cell(cells.get(metric), cases) for metric in metrics],
            **_counts(cells.values()),
        }
        for name, cells in ranked.items()
    ]
    changed = [cell for cell in comparison.cells if outcome_of(cell) not in _QUIET]
    changed.sort(key=_worst_first)
    return render(
        HERE / "comparison.html.jinja",
        title=comparison.title,
        skip="differences",
        comparison=comparison,
        verdict=comparison_verdict(comparison),
        chips=_chips(comparison),
        changed=[_listed(cell, cases) for cell in changed[:_LISTED]],
        more=max(0, len(changed) - _LISTED),
        metrics=[
            {**metric_head(metric), "quiet": bool(loud) and metric not in telling[1]}
            for metric in metrics
        ],
        hidden=_hidden(
            sum(row["quiet"] for row in rows), bool(loud) * (len(metrics) - len(telling[1]))
        ),
        sides=[_named(side) for side in (comparison.before, comparison.after)],
        words=changed_words((one.id, one.words) for one in comparison.formats if one.words),
        word_symbols=WORD_SYMBOLS,
        means=[row for row in rows if row["group"] is None],
        rows=[row for row in rows if row["group"] is not None],
        groups=[group for group in GROUPS if group in groups.values()],
        samples=samples,
        named=True,
        longest=longest,
        symbols=OUTCOME_SYMBOLS,
        facts=_facts(comparison),
    )


def _hidden(formats: int, metrics: int) -> str:
    """``3 formats and 2 metrics``, or nothing where all of them changed."""
    counts = (formats, "format"), (metrics, "metric")
    return " and ".join(f"{n} {name}{'s' * (n != 1)}" for n, name in counts if n)


def _named(side: Side) -> str:
    """A run by its label and its model, for the header."""
    return side.label if side.label == side.name else f"{side.label} ({side.name})"


def outcome_of(cell: Difference) -> str:
    """The gate's outcome; of what did not change for certain: better, worse or same."""
    if cell.outcome not in ("passed", "inconclusive"):
        return str(cell.outcome)
    if cell.low is None or cell.high is None or cell.low <= 0 <= cell.high:
        return "same" if cell.outcome == "passed" else "inconclusive"
    return "better" if (cell.low > 0) != lower_is_better(cell.metric) else "worse"


def comparison_verdict(comparison: Comparison) -> str:
    """One sentence: how many metrics lost and gained."""
    outcomes = _format_outcomes(comparison)
    lost, gained = outcomes.count("failed"), outcomes.count("improved")
    unclear = outcomes.count("inconclusive")
    apart = outcomes.count("missing") + outcomes.count("stale")
    text = (
        f"{comparison.after.label} against {comparison.before.label}: of {len(outcomes)} cells "
        f"(one metric in one format), {lost or 'none'} lost more than the tolerance, "
        f"{gained or 'none'} gained more"
    )
    text += f"; {unclear} are inconclusive: more cases would decide" if unclear else ""
    return text + (f"; {apart} cannot be compared." if apart else ".")


def _format_outcomes(comparison: Comparison) -> list[str]:
    """The outcomes of formats, without the means over groups, which repeat them."""
    names = {facts.id for facts in comparison.formats}
    return [outcome_of(cell) for cell in comparison.cells if cell.format in names]


def _chips(comparison: Comparison) -> list[dict[str, Any]]:
    outcomes = _format_outcomes(comparison)
    return [
        {"outcome": outcome, "count": outcomes.count(outcome), "about": text}
        for outcome, text in _ABOUT.items()
        if outcome in outcomes
    ]


def _ranked(comparison: Comparison) -> dict[str, dict[str, Difference]]:
    """Formats and group means, worst first → metric → difference."""
    found: dict[str, dict[str, Difference]] = {}
    for cell in comparison.cells:
        found.setdefault(cell.format, {})[cell.metric] = cell
    return dict(
        sorted(found.items(), key=lambda item: (min(map(_worst_first, item[1].values())), item[0]))
    )


def _worst_first(cell: Difference) -> tuple[int, float, str, str]:
    """Losses, then what cannot be compared, then the others, each by the change in tolerances."""
    outcome = outcome_of(cell)
    rank = 0 if outcome == "failed" else 1 if outcome in _LOST else 2
    return rank, _gain(cell) or 0.0, cell.format, cell.metric


def _gain(cell: Difference) -> float | None:
    """The change in tolerances, a gain positive; None where it cannot be compared."""
    if cell.delta is None or cell.outcome in ("missing", "stale", "new"):
        return None
    gain = -cell.delta if lower_is_better(cell.metric) else cell.delta
    return gain / max(cell.allowed, 1e-3)


def _counts(cells: Collection[Difference]) -> dict[str, Any]:
    """How often each outcome but ``same`` occurs in a row, and all its outcomes."""
    outcomes = [outcome_of(cell) for cell in cells]
    counts = {name: outcomes.count(name) for name in OUTCOME_SYMBOLS if name in outcomes}
    counts.pop("same", None)
    return {"counts": counts, "outcomes": list(dict.fromkeys(outcomes))}


def _heat_cell(cell: Difference | None, cases: Mapping[str, set[str]]) -> dict[str, Any]:
    """A difference as the table shows it; it links to the samples of its worst case."""
    if cell is None:
        empty = dict.fromkeys(("outcome", "between", "link"), "")
        return {**empty, "text": "–", "way": "", "gain": None, "title": "not measured"}
    outcome, gain, between, link = outcome_of(cell), _gain(cell), "", ""
    if cell.low is not None and cell.high is not None and gain is not None:
        between = f"{signed(cell.low)} to {signed(cell.high)}"
    if cell.format in cases:
        case = f".{cell.worst_case}" if cell.worst_case in cases[cell.format] else ""
        link = f"s-{cell.format}{case}"
    return {
        "text": "–" if gain is None or cell.delta is None else signed(cell.delta),
        "outcome": outcome,
        "between": between,
        "way": _WAYS.get(outcome, ""),
        "gain": gain,
        "title": _title(cell),
        "link": link,
    }


def _title(cell: Difference) -> str:
    text = (
        f"{cell.format} · {cell.metric}: {compact(cell.before)} → {compact(cell.after)}, "
        f"n {cell.n}, may lose {compact(cell.allowed)}"
    )
    worst = f"worst case: {cell.worst_case}" if cell.worst_case else ""
    more = f"about {cell.needed} cases would decide" if cell.needed else ""
    return "; ".join(filter(None, (text, cell.why or worst, more)))


def _listed(cell: Difference, cases: Mapping[str, set[str]]) -> dict[str, Any]:
    """A difference as a row of the list of changes."""
    return {
        **asdict(cell),
        **_heat_cell(cell, cases),
        "path": f"{compact(cell.before)} → {compact(cell.after)}",
        "tolerance": compact(cell.allowed),
        "low": lower_is_better(cell.metric),
    }


def _changes(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(symbol, text) of each metric of a case that differs between the runs, losses first."""
    if len(runs) != 2:
        return []
    before, after = (run["scores"] for run in runs)
    found = []
    for metric, was in before.items():
        now = after.get(metric)
        if was is None or now is None or was == now:
            continue
        worse = (now > was) == lower_is_better(metric)
        text = f"{metric} {was:.2g} → {now:.2g}".replace("-", MINUS)
        found.append(("▼" if worse else "▲", text))
    return sorted(found, key=lambda change: (change[0] != "▼", change[1]))


def _facts(comparison: Comparison) -> list[tuple[str, str, str]]:
    """What each run was made with, side by side."""
    sides = [{**asdict(s), **s.environment} for s in (comparison.before, comparison.after)]
    first = ("label", "name", "model", "adapter", "native")
    keys = [*first, *sorted({key for side in sides for key in side} - {*first, "environment"})]
    was, now = sides
    return [(key, str(was.get(key, "–")), str(now.get(key, "–"))) for key in keys]
