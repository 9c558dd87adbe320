"""The page of a comparison: a heat table of paired differences, worst first, and the samples of both runs side by side. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.records import GROUPS
from harness.report.comparison import Comparison
from harness.report.frame import HERE, render, shown_samples
from harness.report.wording import LONGEST, LOWER_IS_BETTER, METRICS, MINUS, compact, signed

#: What a cell came to → its mark. The first ones fail a gate.
MARKS = {
    "regressed": "▼",
    "missing": "✗",
    "stale": "✗",
    "worse": "▽",
    "improved": "▲",
    "better": "△",
    "same": "=",
    "new": "+",
}
_HEAT = {"regressed": 0, "worse": 1, "same": 2, "better": 3, "improved": 4}
_LOST = ("regressed", "missing", "stale")
#: Rows of the list of what changed; the rest stands in the table alone.
_LISTED = 20
#: Characters of all samples together, so that a page stays under a megabyte.
_ROOM = 420_000

Cell = Mapping[str, Any]


def render_comparison(comparison: Comparison) -> str:
    """The page. Everything that comes from a model or a user is escaped and made visible."""
    metrics = _metrics(comparison)
    ranked = _rows(comparison, metrics)
    groups = {format["id"]: format["group"] for format in comparison.formats}
    longest = min(LONGEST, max(300, _ROOM // max(1, 3 * len(comparison.samples) // 2)))
    samples = shown_samples(
        comparison.samples, [row["id"] for row in ranked if row["id"] in groups], longest
    )
    for block in samples:
        for case in block["cases"]:
            case["changes"] = _changes(case["runs"])
    places = {block["format"]: {case["id"] for case in block["cases"]} for block in samples}
    rows = [
        {
            **row,
            "linked": row["id"] in places,
            "cells": [_shown(cell, places) for cell in row["cells"]],
        }
        for row in ranked
    ]
    changed = sorted(
        (cell for cell in comparison.cells if word_of(cell) in (*_LOST, "improved")),
        key=_worst_first,
    )
    return render(
        HERE / "comparison.html.jinja",
        title=comparison.title,
        skip="differences",
        comparison=comparison,
        verdict=comparison_verdict(comparison),
        cards=_cards(comparison),
        changed=[
            {
                **cell,
                **_shown(cell, places),
                "path": f"{compact(cell['before'])} → {compact(cell['after'])}",
                "margin": compact(cell["allowed"]),
            }
            for cell in changed[:_LISTED]
        ],
        more=max(0, len(changed) - _LISTED),
        metrics=[
            {"id": metric, "about": METRICS.get(metric, ""), "low": metric in LOWER_IS_BETTER}
            for metric in metrics
        ],
        means=[row for row in rows if row["id"] not in groups],
        rows=[{**row, "group": groups[row["id"]]} for row in rows if row["id"] in groups],
        groups=[group for group in GROUPS if group in groups.values()],
        samples=samples,
        longest=longest,
        marks=MARKS,
        lower=LOWER_IS_BETTER,
        facts=_facts(comparison),
    )


def word_of(cell: Cell) -> str:
    """What a cell came to: the gate's outcome, and where that is ok, whether its interval lies on one side of zero."""
    if cell["outcome"] != "ok":
        return str(cell["outcome"])
    low, high = (
        (cell["low"], cell["high"])
        if cell["metric"] not in LOWER_IS_BETTER
        else (_minus(cell["high"]), _minus(cell["low"]))
    )
    if low is not None and low > 0:
        return "better"
    return "worse" if high is not None and high < 0 else "same"


def comparison_verdict(comparison: Comparison) -> str:
    """One sentence: how many measures were lost and gained."""
    words = _format_words(comparison)
    lost, gained, apart = (
        words.count("regressed"),
        words.count("improved"),
        words.count("missing") + words.count("stale"),
    )
    text = f"{comparison.after['label']} against {comparison.before['label']}: of {len(words)} cells, each a measure in a format, "
    text += f"{lost or 'none'} lost more than the margin, {gained or 'none'} gained more"
    return text + (f"; {apart} cannot be compared." if apart else ".")


def _format_words(comparison: Comparison) -> list[str]:
    """What the cells of formats came to, without the means over groups, which say it again."""
    ids = {format["id"] for format in comparison.formats}
    return [word_of(cell) for cell in comparison.cells if cell["format"] in ids]


def _cards(comparison: Comparison) -> list[dict[str, Any]]:
    words = _format_words(comparison)
    about = {
        "regressed": "lost more than the margin allows, and more than noise explains",
        "missing": "not measured or not scored in the second run",
        "stale": "not the same thing: a template or a setting changed",
        "worse": "worse, within the margin",
        "same": "no difference seen: the interval holds zero",
        "better": "better, within the margin",
        "improved": "gained more than the margin",
        "new": "not in the first run",
    }
    return [
        {"word": word, "mark": MARKS[word], "count": words.count(word), "about": text}
        for word, text in about.items()
        if word in words
    ]


def _metrics(comparison: Comparison) -> list[str]:
    present = {cell["metric"] for cell in comparison.cells}
    return [metric for metric in METRICS if metric in present] + sorted(present - set(METRICS))


def _rows(comparison: Comparison, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Formats and group means, worst first, each with its cells in the order of the measures."""
    found: dict[str, dict[str, Cell]] = {}
    for cell in comparison.cells:
        found.setdefault(cell["format"], {})[cell["metric"]] = cell
    rows = []
    for id, cells in found.items():
        words = [word_of(cell) for cell in cells.values()]
        told = {word: words.count(word) for word in MARKS if word in words and word != "same"}
        rows.append(
            {
                "id": id,
                "told": told,
                "words": list(dict.fromkeys(words)),
                "cells": [cells.get(metric) for metric in metrics],
            }
        )
    return sorted(
        rows,
        key=lambda row: (
            min(_worst_first(cell) for cell in row["cells"] if cell is not None),
            row["id"],
        ),
    )


def _worst_first(cell: Cell) -> tuple[int, float, str, str]:
    """Failures, then by the change in margins of its own; what is not comparable stands after what was lost."""
    word = word_of(cell)
    return (
        0 if word == "regressed" else 1 if word in _LOST else 2,
        _gain(cell) or 0.0,
        cell["format"],
        cell["metric"],
    )


def _gain(cell: Cell) -> float | None:
    """The change as a multiple of what may be lost, a gain being positive; None where the two cannot be compared."""
    if cell["delta"] is None or cell["outcome"] in ("missing", "stale", "new"):
        return None
    gain = -cell["delta"] if cell["metric"] in LOWER_IS_BETTER else cell["delta"]
    return float(gain) / max(float(cell["allowed"]), 1e-3)


def _shown(cell: Cell | None, places: Mapping[str, set[str]]) -> dict[str, Any]:
    """A cell as the table shows it."""
    if cell is None:
        return {
            "text": "–",
            "word": "",
            "between": "",
            "heat": None,
            "gain": None,
            "title": "not measured in either run",
            "link": "",
        }
    word, gain = word_of(cell), _gain(cell)
    between = (
        ""
        if cell["low"] is None or gain is None
        else f"{signed(cell['low'])} to {signed(cell['high'])}"
    )
    cases = places.get(cell["format"])
    return {
        "text": "–" if gain is None else signed(cell["delta"]),
        "word": word,
        "between": between,
        "heat": _HEAT.get(word),
        "gain": gain,
        "title": _title(cell),
        "link": ""
        if cases is None
        else f"s-{cell['format']}"
        + (f".{cell['worst_case']}" if cell["worst_case"] in cases else ""),
    }


def _title(cell: Cell) -> str:
    text = f"{cell['format']} · {cell['metric']}: {compact(cell['before'])} → {compact(cell['after'])}, n {cell['n']}"
    text += f", may lose {compact(cell['allowed'])}"
    return text + (
        f"; {cell['why']}"
        if cell["why"]
        else f"; worst case: {cell['worst_case']}"
        if cell["worst_case"]
        else ""
    )


def _changes(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(mark, text) of each measure of a case that is not the same in both runs: first what became worse."""
    if len(runs) != 2:
        return []
    before, after = (run["scores"] for run in runs)
    found = []
    for metric in before:
        if before[metric] is None or after.get(metric) is None or before[metric] == after[metric]:
            continue
        worse = (after[metric] > before[metric]) == (metric in LOWER_IS_BETTER)
        found.append(
            (
                "▼" if worse else "▲",
                f"{metric} {before[metric]:.2g} → {after[metric]:.2g}".replace("-", MINUS),
            )
        )
    return sorted(found, key=lambda change: (change[0] != "▼", change[1]))


def _facts(comparison: Comparison) -> list[tuple[str, str, str]]:
    """What each run was made with, side by side."""
    sides = [
        {**side, **side.get("environment", {})} for side in (comparison.before, comparison.after)
    ]
    first = ("label", "name", "model", "adapter", "native")
    keys = [*first, *sorted({key for side in sides for key in side} - {*first, "environment"})]
    return [(key, *(str(side.get(key, "–")) for side in sides)) for key in keys]


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
