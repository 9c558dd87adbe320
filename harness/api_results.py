"""The results of the Python interface (``harness.api``): rows, and rates with an interval."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.extras import require
from harness.records import GateCheck, Verdict

if TYPE_CHECKING:
    import pandas

    from harness.data.outputs import Output
    from harness.evaluation.results import Evaluation
    from harness.gate.baseline import Baseline
    from harness.metrics.copies.recall_index import RecallHit, RecallIndex
    from harness.metrics.drift import Drift
    from harness.stats import Interval


class _Table(ABC):
    """A result that is a table."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """The table, a dictionary for each row."""

    def to_pandas(self) -> pandas.DataFrame:
        """The table as a data frame. Raises HarnessError where pandas is not installed."""
        require("pandas", f"{type(self).__name__}.to_pandas()")
        import pandas

        return pandas.DataFrame(self.rows())

    def _repr_html_(self) -> str:
        rows = self.rows()
        names = list(dict.fromkeys(name for row in rows for name in row))
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        cells = [[html.escape(_shown(row.get(name))) for name in names] for row in rows]
        body = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in cells)
        caption = html.escape(repr(self))
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{body}</table>"


def _shown(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, repr=False)
class EvaluationResult(_Table):
    """An evaluation of one model: a row for each format and metric, with a 95 % interval.

    ``evaluation`` holds everything down to single answers, ``files`` the reports written.
    """

    evaluation: Evaluation
    files: tuple[Path, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """format, group, metric, mean, low, high, n, not_scored."""
        return [asdict(aggregate) for aggregate in self.evaluation.aggregates]

    @property
    def verdicts(self) -> list[Verdict]:
        """The word for each format (works, degraded, broken, unclear, untestable), and why."""
        from harness.evaluation.analysis.format_verdicts import verdicts

        return verdicts(self.evaluation)

    def __repr__(self) -> str:
        found = self.evaluation
        name = f"{found.model} + {found.adapter}" if found.adapter else found.model
        size = f"{len(found.formats)} formats, {len(found.cases)} cases"
        return f"EvaluationResult({name}: {size}, {len(found.aggregates)} means)"


@dataclass(frozen=True, repr=False)
class TrainResult(_Table):
    """A finished training: the adapter's folder, and a row for each step and measured checkpoint.

    ``run`` is the folder with checkpoints, run.json and metrics.jsonl. ``notes``: what was read of
    another trainer's configuration, and which of its keys are not kept.
    """

    adapter: Path
    run: Path
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """The entries of metrics.jsonl."""
        from harness.run_file import read_metrics

        return read_metrics(self.run)

    def __repr__(self) -> str:
        steps = [row for row in self.rows() if row["kind"] == "step"]
        loss = f", last loss {steps[-1]['loss']:.4g}" if steps else ""
        return f"TrainResult({self.adapter}: {len(steps)} steps{loss})"


@dataclass(frozen=True, repr=False)
class SweepResult(_Table):
    """A grid of runs: a row for each, with its settings, whether it is done, and its best loss.

    ``folder`` holds the runs, sweep.json and the map; ``points`` are the rows of ``harness sweep
    --json``, with the curve of each run. ``notes`` are those of ``TrainResult``.
    """

    folder: Path
    points: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """The settings of the grid, then run, done, and what was found of the curve."""
        return [
            {
                **{name.rpartition(".")[2]: value for name, value in point["settings"].items()},
                **{key: point[key] for key in point if key not in ("settings", "curve")},
            }
            for point in self.points
        ]

    def __repr__(self) -> str:
        done = sum(bool(point["done"]) for point in self.points)
        return f"SweepResult({self.folder}: {done} of {len(self.points)} runs done)"


@dataclass(frozen=True, repr=False)
class ComparisonResult(_Table):
    """Two evaluations case by case: a row for each format and metric."""

    before: Baseline
    after: Baseline
    checks: tuple[GateCheck, ...]

    @property
    def lost(self) -> tuple[GateCheck, ...]:
        """What was lost for certain and beyond its tolerance, or is missing or stale."""
        return tuple(check for check in self.checks if check.fails)

    def rows(self) -> list[dict[str, Any]]:
        """The checks with their difference, as ``harness compare --json`` prints them."""
        return [{**asdict(check), "delta": check.delta} for check in self.checks]

    def __repr__(self) -> str:
        names = f"{self.before.name or 'before'} → {self.after.name or 'after'}"
        return f"ComparisonResult({names}: {len(self.checks)} compared, {len(self.lost)} lost)"


@dataclass(frozen=True, repr=False)
class RecallResult(_Table):
    """Which outputs copy a training set: a row for each output. A lower bound on memorisation."""

    outputs: tuple[Output, ...]
    hits: tuple[RecallHit, ...]
    summary: dict[str, Any]
    """Rates with 95 % intervals, and with a null the excess over it."""
    index: RecallIndex
    """Of the training set, for further calls."""

    def rows(self) -> list[dict[str, Any]]:
        """What each output has in common with its likeliest source. Not scored is None, never 0."""
        return [_recall_row(*pair) for pair in zip(self.outputs, self.hits, strict=True)]

    def __repr__(self) -> str:
        near = sum(hit.near for hit in self.hits)
        return f"RecallResult({near} of {len(self.outputs)} outputs copy a training text)"


@dataclass(frozen=True, repr=False)
class DriftResult(_Table):
    """Which texts slip into another language: a row for each text."""

    outputs: tuple[Output, ...]
    found: tuple[Drift, ...]
    summary: dict[str, Any]
    """The rate of drift with its 95 % interval."""

    def rows(self) -> list[dict[str, Any]]:
        """Whether, why, into which languages, from which character on, and whether it returns."""
        return [_drift_row(*pair) for pair in zip(self.outputs, self.found, strict=True)]

    def __repr__(self) -> str:
        drifted = sum(bool(each.drift) for each in self.found)
        return f"DriftResult({drifted} of {self.summary['scored']} scored texts drift)"


_RECALL_FIELDS = (
    "near",
    "span_words",
    "span_chars",
    "span",
    "source",
    "source_span",
    "indel",
    "nv_recall",
    "copied_frac",
)


def _recall_row(output: Output, hit: RecallHit) -> dict[str, Any]:
    if not output.text.strip():
        nothing = dict.fromkeys((*_RECALL_FIELDS, "misplaced"))
        return {"id": output.id, **nothing, "why": "not scored: the text is empty"}
    found = {name: getattr(hit, name) for name in _RECALL_FIELDS}
    found |= {name: round(found[name], 4) for name in ("indel", "nv_recall", "copied_frac")}
    return {"id": output.id, **found, "misplaced": hit.misplaced(output.id)}


def _drift_row(output: Output, found: Drift) -> dict[str, Any]:
    return {
        "id": output.id,
        "drift": found.drift,
        "why": found.why,
        "languages": list(found.languages),
        "onset_char": found.onset_char,
        "off_script": round(found.off_script, 4),
        "sticky": None if found.sticky is None else round(found.sticky, 4),
        "returns": found.returns,
    }


def recall_summary(
    outputs: Sequence[Output], hits: Sequence[RecallHit], null: RecallIndex | None, trained: int
) -> dict[str, Any]:
    """Rates with 95 % intervals. The excess is the paired mean of (training set − null)."""
    from harness.stats import difference_interval, mean_interval, rate_interval

    scored = [at for at, output in enumerate(outputs) if output.text.strip()]
    never = len(null) if null else 0
    counts = {"n": len(outputs), "scored": len(scored), "trained": trained, "null": never}
    summary: dict[str, Any] = dict(counts)
    by_chance = [null.query(outputs[at].text) for at in scored] if null else []
    for name in ("near", "nv_recall", "copied_frac"):
        values = [float(getattr(hits[at], name)) for at in scored]
        if not values:
            continue
        whole = name == "near"  # 0 or 1; the others are shares of an answer
        summary[name] = _interval(rate_interval(values) if whole else mean_interval(values, 0, 1))
        if null:
            chance = [float(getattr(hit, name)) for hit in by_chance]
            gaps = [value - other for value, other in zip(values, chance, strict=True)]
            summary[f"{name}_null"] = _interval(
                rate_interval(chance) if whole else mean_interval(chance, 0, 1)
            )
            summary[f"{name}_excess"] = _interval(
                difference_interval(gaps) if whole else mean_interval(gaps, -1, 1)
            )
    if null and never < trained:
        summary["note"] = (
            f"the null has {never} texts and the training set {trained}: chance matches grow with "
            "the number of texts, so the excess is slightly too high"
        )
    return summary


def drift_summary(found: Sequence[Drift]) -> dict[str, Any]:
    """The rate of drift over the texts that could be scored, with its 95 % interval."""
    from harness.stats import rate_interval

    scored = [float(each.drift) for each in found if each.drift is not None]
    summary: dict[str, Any] = {"n": len(found), "scored": len(scored)}
    if scored:
        summary["drift"] = _interval(rate_interval(scored))
    return summary


def _interval(interval: Interval) -> dict[str, Any]:
    """Mean, low and high; where an interval is withheld also ``why``."""
    ends = {"mean": interval.value, "low": interval.low, "high": interval.high}
    found: dict[str, Any] = {n: None if end is None else round(end, 4) for n, end in ends.items()}
    return found | ({"why": interval.why} if interval.why else {})
