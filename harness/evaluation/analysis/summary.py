"""The few numbers that sum an evaluation up, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.evaluation.results import Evaluation, scores_by_format
from harness.metrics.registry import main_rates
from harness.stats import Interval, Spread, mean_interval, spread, two_way_bootstrap, two_way_ratio

if TYPE_CHECKING:
    from harness.stats import Matrix


@dataclass(frozen=True, slots=True)
class SummaryLine:
    """A named number with its interval and a sentence."""

    name: str
    value: float
    low: float
    high: float
    n: int
    text: str


def matrix(evaluation: Evaluation, metric: str, group: str | None = None) -> Matrix:
    """Items × formats of one measure, NaN where not scored. Items in case order, formats in report order."""
    import numpy as np

    values = scores_by_format(evaluation.scores, metric)
    formats = [
        f.id
        for f in evaluation.formats
        if (group is None or evaluation.groups[f.id] == group) and f.id in values
    ]
    items = [case.id for case in evaluation.cases if any(case.id in values[f] for f in formats)]
    return np.array(
        [[values[f].get(item, np.nan) for f in formats] for item in items], dtype=float
    ).reshape(len(items), len(formats))


def _paired(
    before: Evaluation, after: Evaluation, metric: str, group: str
) -> tuple[Matrix, Matrix]:
    """The measure in both runs, for the same items in the same formats: those that are of the group in both."""
    import numpy as np

    was, now = scores_by_format(before.scores, metric), scores_by_format(after.scores, metric)
    formats = [
        f.id
        for f in after.formats
        if before.groups.get(f.id) == after.groups[f.id] == group and f.id in was and f.id in now
    ]
    items = [
        case.id
        for case in after.cases
        if any(case.id in was[f] and case.id in now[f] for f in formats)
    ]
    both = [
        [[found[f].get(item, np.nan) for f in formats] for item in items] for found in (was, now)
    ]
    first, second = (
        np.array(values, dtype=float).reshape(len(items), len(formats)) for values in both
    )
    return first, second


def group_mean(evaluation: Evaluation, metric: str, group: str | None) -> Interval | None:
    """Mean of a measure over the formats of a group (None: all), items and formats both resampled."""
    values = matrix(evaluation, metric, group)
    if values.size == 0:
        return None
    return two_way_bootstrap(values, seed=evaluation.settings.seed)


def gap_closed(before: Evaluation, after: Evaluation) -> Interval | None:
    """1 − held-out NLL excess after ÷ before, items and formats both resampled in pairs (METRICS §1)."""
    pair = _paired(before, after, "nll_excess", "held-out")
    if pair[0].size == 0:
        return None
    left = two_way_ratio(pair[1], pair[0], seed=after.settings.seed)
    return left and Interval(1 - left.value, 1 - left.high, 1 - left.low, left.n)


def paired_change(
    before: Evaluation, after: Evaluation, metric: str, group: str
) -> Interval | None:
    """Mean change of a measure over the items scored in both runs, in the formats of a group; positive: it grew."""
    import numpy as np

    pair = _paired(before, after, metric, group)
    if pair[0].size == 0:
        return None
    change = np.nanmean(pair[1] - pair[0], axis=1)
    return mean_interval([float(value) for value in change if not np.isnan(value)])


def spreads(evaluation: Evaluation) -> dict[str, Spread]:
    """The main measures' spread over formats, for those that have one: two formats, and an item scored in all of them."""
    found = {}
    for metric in (*main_rates(), "nll_excess"):
        values = matrix(evaluation, metric)
        if values.shape[1] > 1:
            with suppress(ValueError):
                found[metric] = spread(values, seed=evaluation.settings.seed)
    return found


def summary(evaluations: Sequence[Evaluation]) -> list[SummaryLine]:
    """One line each: held-out gap closed, group means, recall excess, drift."""
    lines: list[SummaryLine] = []
    if len(evaluations) == 2:
        closed = gap_closed(*evaluations)
        if closed is not None:
            lines.append(
                _line(
                    "held-out gap closed",
                    closed,
                    f"{closed.value:.0%} of the held-out NLL excess is gone (95 % interval {closed.low:.0%} to {closed.high:.0%})",
                )
            )
        lines += _native_changes(*evaluations)
    for metric in ("nll_excess", *main_rates()):
        for group in ("native", "seen", "held-out"):
            found = [group_mean(evaluation, metric, group) for evaluation in evaluations]
            if found[-1] is not None and not (metric == "nll_excess" and group == "native"):
                path = " → ".join(f"{f.value:.2f}" for f in found if f is not None)
                lines.append(
                    _line(
                        f"{group} {metric}",
                        found[-1],
                        f"mean {metric} over {group} formats: {path}",
                    )
                )
    lines += _recall(evaluations)
    return lines + _drift(evaluations)


def _drift(evaluations: Sequence[Evaluation]) -> list[SummaryLine]:
    """Answers that drift, and how likely other scripts were where none was sampled. Items and formats both resampled."""
    lines = []
    last = evaluations[-1]
    drifted = [score.value for score in last.scores if score.metric == "drift"]
    rate = group_mean(last, "drift", None)
    if rate is not None:
        scored = [value for value in drifted if value is not None]
        text = f"{sum(scored):.0f} of {len(scored)} answers drift into another language ({len(drifted) - len(scored)} too short to score)"
        lines.append(_line("language drift", rate, text))
    for metric, path in (("hazard", "answers"), ("hazard_ref", "references")):
        found = [
            mean
            for evaluation in evaluations
            if (mean := group_mean(evaluation, metric, None)) is not None
        ]
        if found:
            course = " → ".join(f"{mean.value:.4f}" for mean in found)
            lines.append(
                _line(
                    f"drift {metric}",
                    found[-1],
                    f"drift hazard, the probability of another script along {path}: {course}",
                )
            )
    return lines


def _native_changes(before: Evaluation, after: Evaluation) -> list[SummaryLine]:
    """What training did to the model in its own format: worse only when the whole interval says so."""
    lines = []
    for metric, more_is_better in (("nll", False), ("choice", True)):
        change = paired_change(before, after, metric, "native")
        means = [group_mean(evaluation, metric, "native") for evaluation in (before, after)]
        if change is None or means[0] is None or means[1] is None:
            continue
        bound = change.high if more_is_better else -change.low
        word = "worse" if bound < 0 else "no worse than its interval"
        text = f"native {metric}: {means[0].value:.2f} → {means[1].value:.2f}, change {change.value:+.2f} (95 % interval {change.low:+.2f} to {change.high:+.2f}): {word}"
        lines.append(_line(f"native {metric} change", change, text))
    return lines


def _recall(evaluations: Sequence[Evaluation]) -> list[SummaryLine]:
    """Near-verbatim recall of training answers after half of their words, against twins never trained on."""
    rows = {e.label: e.recall.rows for e in evaluations if e.recall}
    if not rows:
        return []
    lines = []
    for metric in ("nv_recall@50%", "token_logprob"):
        last = [row for row in rows[evaluations[-1].label] if row.metric == metric]
        if not last:
            continue
        path = " → ".join(
            f"{_mean([row.excess for row in found if row.metric == metric]):+.3f}"
            for found in rows.values()
        )
        low, high = _mean([row.low for row in last]), _mean([row.high for row in last])
        value = _mean([row.excess for row in last])
        train, null = _mean([row.train for row in last]), _mean([row.null for row in last])
        note = f"; {last[0].note}" if last[0].note else ""
        text = f"recall of the training set, {metric}: {train:.3f} against {null:.3f} on twins never trained on, excess {path}{note}"
        lines.append(SummaryLine(f"recall {metric}", value, low, high, last[0].n_train, text))
    return lines


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _line(name: str, interval: Interval, text: str) -> SummaryLine:
    return SummaryLine(name, interval.value, interval.low, interval.high, interval.n, text)
