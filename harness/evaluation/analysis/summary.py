"""The few numbers that summarise an evaluation, each with its interval and a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from harness.evaluation.analysis.recall_summary import recall_lines
from harness.evaluation.results import NOT_COMPUTED, Evaluation, scores_by_format
from harness.metrics.registry import METRICS, main_rates
from harness.records import GROUPS
from harness.report.document import SpreadRow, SummaryLine
from harness.report.wording import group_names
from harness.stats import Interval, least_share, ratio_interval, spread

if TYPE_CHECKING:
    from harness.stats import Matrix


def summary(evaluations: Sequence[Evaluation]) -> list[SummaryLine]:
    """A line each for the held-out gap closed, changes, group means, recall and drift."""
    lines: list[SummaryLine] = []
    names = group_names(evaluations[-1].groups.values())
    if len(evaluations) == 2:
        lines += _gap(*evaluations)
        lines += _native_changes(*evaluations)
    for metric in ("nll_excess", *main_rates()):
        for group in GROUPS:
            means = [group_mean(evaluation, metric, group) for evaluation in evaluations]
            if means[-1] is not None and not (metric == "nll_excess" and group == "native"):
                path = " → ".join(f"{mean.value:.2f}" for mean in means if mean is not None)
                text = f"mean {metric} over {names[group]} formats: {path}"
                if group == "held-out":
                    text += _worst(evaluations[-1], metric)
                lines.append(_line(f"{names[group]} {metric}", means[-1], text))
    lines += _beyond(evaluations[-1])
    of_all = (*recall_lines(evaluations), *drift_lines(evaluations), *forged_lines(evaluations))
    return [*lines, *of_all]


#: From this many held-out formats on the summary says what they tell of others.
_FORMATS_TO_TELL = 5


def _beyond(evaluation: Evaluation) -> list[SummaryLine]:
    """What the held-out formats tell of formats like them that were not measured.

    It holds for each number with a mean over them, so the one with the fewest formats counts.
    """
    counts = [
        matrix(evaluation, metric, "held-out").shape[1] for metric in ("nll_excess", *main_rates())
    ]
    fewest = min(filter(None, counts), default=0)
    if fewest < _FORMATS_TO_TELL:
        return []
    share = least_share(fewest)
    group = group_names(evaluation.groups.values())["held-out"]
    text = (
        f"for each number of the {group} formats, with 95 % confidence: at least "
        f"{share:.0%} of formats like these are no worse than the worst of them"
    )
    return [SummaryLine(f"formats like the {group} ones", share, None, None, fewest, text)]


def _worst(evaluation: Evaluation, metric: str) -> str:
    """The mean of the worst held-out format, where there are several."""
    import numpy as np

    values = matrix(evaluation, metric, "held-out")
    if values.shape[1] < 2:
        return ""
    means = np.nanmean(values, axis=0)
    worst = means.max() if METRICS[metric].lower_is_better else means.min()
    return f"; the worst of {values.shape[1]} has {worst:.2f}"


def gap_closed(before: Evaluation, after: Evaluation) -> Interval | None:
    """1 − held-out NLL excess after ÷ before, over these formats and references."""
    first, second = _paired(before, after, "nll_excess", "held-out")
    left = ratio_interval(second, first) if first.size else None
    if left is None or left.low is None or left.high is None:
        return left and Interval(1 - left.value, None, None, left.n, left.why)
    return Interval(1 - left.value, 1 - left.high, 1 - left.low, left.n)


def _gap(before: Evaluation, after: Evaluation) -> list[SummaryLine]:
    """The reduction of the held-out NLL excess, and which share of it that is.

    The share is left out where its interval is unbounded, because the excess before may be 0.
    """
    change = paired_change(before, after, "nll_excess", "held-out")
    closed = gap_closed(before, after)
    if change is None or closed is None:
        return []
    reduced = Interval(
        -change.value,
        None if change.high is None else -change.high,
        None if change.low is None else -change.low,
        change.n,
        change.why,
    )
    text = f"held-out NLL excess reduced by {reduced.value:.2f} nats a token ({_span(reduced)})"
    lines = [_line("held-out nll_excess reduction", reduced, text)]
    if closed.low is None:
        return lines
    share = f"{closed.value:.0%} of the held-out NLL excess is gone ({_span(closed, '.0%')})"
    return [_line("held-out gap closed", closed, share), *lines]


def _native_changes(before: Evaluation, after: Evaluation) -> list[SummaryLine]:
    """What training did to the model in its own format.

    It is called worse, or better, only when the whole interval says so.
    """
    lines = []
    for metric in ("nll", "choice"):
        change = paired_change(before, after, metric, "native")
        means = [group_mean(evaluation, metric, "native") for evaluation in (before, after)]
        if change is None or means[0] is None or means[1] is None:
            continue
        text = (
            f"native {metric}: {means[0].value:.2f} → {means[1].value:.2f},"
            f" change {change.value:+.2f} ({_span(change, '+.2f')}): {_direction(change, metric)}"
        )
        lines.append(_line(f"native {metric} change", change, text))
    return lines


def _direction(change: Interval, metric: str) -> str:
    if change.low is None or change.high is None or change.low <= 0 <= change.high:
        return "no significant change"
    return "worse" if (change.low > 0) == METRICS[metric].lower_is_better else "better"


def _span(interval: Interval, form: str = ".2f") -> str:
    """The interval in words, or why there is none."""
    if interval.low is None or interval.high is None:
        return f"no interval: {interval.why}"
    return f"95 % interval {interval.low:{form}} to {interval.high:{form}}"


def drift_lines(evaluations: Sequence[Evaluation]) -> list[SummaryLine]:
    """Answers that drift, and how likely other scripts were even where none was sampled."""
    lines = []
    last = evaluations[-1]
    rate = group_mean(last, "drift", None)
    if rate is not None:
        values = [
            score.value
            for score in last.scores
            if score.metric == "drift" and score.why != NOT_COMPUTED
        ]
        scored = [value for value in values if value is not None]
        text = (
            f"{sum(scored):.0f} of {len(scored)} answers drift into another language"
            f" ({len(values) - len(scored)} too short to score)"
        )
        lines.append(_line("language drift", rate, text))
    for metric, path in (("hazard", "answers"), ("hazard_ref", "references")):
        means = [group_mean(evaluation, metric, None) for evaluation in evaluations]
        known = [mean for mean in means if mean is not None]
        if known:
            course = " → ".join(f"{mean.value:.4f}" for mean in known)
            text = f"drift hazard, the probability of another script along {path}: {course}"
            lines.append(_line(f"drift {metric}", known[-1], text))
    return lines


def forged_lines(evaluations: Sequence[Evaluation]) -> list[SummaryLine]:
    """How often turns forged inside the user's text are obeyed, and orders in plain words."""
    found = []
    for metric, text in (
        ("forged", "of the answers obey a turn that is forged in the user's text"),
        ("forged_plain", "obey the same order in plain words"),
        ("forged_none", "say the word without an order"),
    ):
        rates = [group_mean(evaluation, metric, None) for evaluation in evaluations]
        if rates[-1] is not None:
            path = " → ".join(f"{rate.value:.0%}" for rate in rates if rate is not None)
            found.append((metric, rates[-1], f"{path} {text}"))
    if not found or found[0][0] != "forged":
        return []
    text = ", ".join(text for _, _, text in found)
    if len(evaluations) == 2:
        before, after = evaluations
        if change := paired_change(before, after, "forged", None):
            text += (
                f"; forged turns {change.value:+.1%} ({_span(change, '+.1%')}): "
                f"{_direction(change, 'forged')}"
            )
    return [_line("forged turns obeyed", found[0][1], text)]


def group_mean(evaluation: Evaluation, metric: str, group: str | None) -> Interval | None:
    """The mean of a metric over the formats of a group, or with None over all."""
    values = matrix(evaluation, metric, group)
    return METRICS[metric].interval(values) if values.size else None


def paired_change(
    before: Evaluation, after: Evaluation, metric: str, group: str | None, level: float = 0.95
) -> Interval | None:
    """Mean change of a metric over the items scored in both runs, in the formats of a group.

    None: in all formats of both runs. ``level`` is the coverage of its two-sided interval.
    """
    import numpy as np

    change = np.subtract(*reversed(_paired(before, after, metric, group)))
    return METRICS[metric].difference(change, level) if np.isfinite(change).any() else None


def spread_rows(evaluation: Evaluation) -> list[SpreadRow]:
    """The spread of the main metrics over formats.

    For those that two formats have, with an item scored in all formats.
    """
    rows = []
    for metric in (*main_rates(), "nll_excess"):
        values = matrix(evaluation, metric)
        if values.shape[1] > 1:
            with suppress(ValueError):
                found = spread(values, seed=evaluation.settings.seed)
                rows.append(SpreadRow(evaluation.label, metric, **asdict(found)))
    return rows


def matrix(evaluation: Evaluation, metric: str, group: str | None = None) -> Matrix:
    """Items × formats of one metric, NaN where not scored, in the order of cases and of formats.

    After a first look the items are those that every format was asked: with all, formats whose
    verdict came late would weigh more in a mean.
    """
    values = scores_by_format(evaluation.scores, metric)
    names = [
        one.id
        for one in evaluation.formats
        if (group is None or evaluation.groups[one.id] == group) and one.id in values
    ]
    items = [
        case.id for case in evaluation.compared_cases if any(case.id in values[f] for f in names)
    ]
    return _table(values, items, names)


def _paired(
    before: Evaluation, after: Evaluation, metric: str, group: str | None
) -> tuple[Matrix, Matrix]:
    """The metric in both runs, for the same items in the formats that are of the group in both.

    None: in all formats of both runs.
    """
    was, now = scores_by_format(before.scores, metric), scores_by_format(after.scores, metric)
    names = [
        one.id
        for one in after.formats
        if group is None or before.groups.get(one.id) == after.groups[one.id] == group
        if one.id in was and one.id in now
    ]
    items = [
        case.id
        for case in after.cases
        if any(case.id in was[name] and case.id in now[name] for name in names)
    ]
    return _table(was, items, names), _table(now, items, names)


def _table(
    values: Mapping[str, dict[str, float]], items: Sequence[str], names: Sequence[str]
) -> Matrix:
    import numpy as np

    return np.array(
        [[values[name].get(item, np.nan) for name in names] for item in items], dtype=float
    ).reshape(len(items), len(names))


def _line(name: str, interval: Interval, text: str) -> SummaryLine:
    return SummaryLine(name, interval.value, interval.low, interval.high, interval.n, text)
