"""report.html: one self-contained page, readable without scripts; a pure function of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.metrics.registry import METRICS, about, lower_is_better
from harness.records import GROUPS, Word
from harness.report.chart import reliability_svg, spread_svg, training_svg
from harness.report.document import Change, Report, Training
from harness.report.format_table import case_grid, column_metrics, format_rows
from harness.report.frame import HERE, render, shown_samples
from harness.report.json_document import as_table
from harness.report.overview import overview
from harness.report.sweep_map import sweep_values
from harness.report.wording import (
    LONGEST,
    WORD_SYMBOLS,
    changed_words,
    group_names,
    verdicts_of,
    worst_first,
)

#: Characters of all samples together, so that a page stays under a megabyte.
_ROOM = 420_000
_CHECKPOINT_ROWS = tuple(
    f"{metric}_{group}" for metric in ("nll", "hazard") for group in ("native", "seen", "held_out")
)
_ABOUT_REFERENCES = (
    "nll: cost of references, nats a token. hazard: probability of at least one off-language token "
    "along a reference."
)
_ABOUT_RECALL = (
    "Log-probability per token that training answers have gained since the first checkpoint, less "
    "the gain of controls that were never trained on. High in trained formats alone: learnt with "
    "the format. High in all: the content is memorised."
)
_ABOUT_NGRAMS = (
    "Share of an answer's five-word sequences that a greedy answer has, of training rows and of "
    "controls: it rises before whole answers come back."
)


def render_html(report: Report, live: str = "") -> str:
    """The page. Everything that comes from a model or a user is escaped and made visible."""
    facts = (report.model, report.settings, report.environment)
    longest = min(LONGEST, max(300, _ROOM // max(1, len(report.samples))))
    order = [one.format for one in worst_first(report.runs[-1].verdicts)]
    samples = shown_samples(report.samples, order, longest)
    anchors = {block["format"]: {case["id"] for case in block["cases"]} for block in samples}
    main, others = column_metrics(report)
    found = [facts.group for facts in report.formats]
    names = group_names(found)
    changes, unchanged = _changes(report)
    phrases = report.phrases.kinds if report.phrases else ()
    return render_page(
        HERE / "page.html.jinja",
        report.training,
        title=report.title,
        skip="formats",
        live=live,
        report=report,
        top=overview(report, anchors),
        metrics=[metric_head(metric) for metric in (*main, *others)],
        main=len(main),
        others=others,
        native=report.model.native_format,
        groups=[names[group] for group in GROUPS if group in found],
        rows=[{**row, "group": names[row["group"]]} for row in format_rows(report, report.samples)],
        grid=case_grid(report, anchors),
        changes=changes,
        unchanged=unchanged,
        word_changes=_word_changes(report),
        spread=Markup(spread_svg(report.spread)),  # noqa: S704  # matplotlib's, from numbers
        reliability=Markup(reliability_svg(report.confidence)),  # noqa: S704  # matplotlib escapes
        confidence=[(run.run, row) for run in report.confidence for row in run.formats or ()],
        phrases=[row for row in phrases if any(row.rates.values())],
        new_phrases=report.phrases.new if report.phrases else (),
        samples=samples,
        named=len(report.runs) > 1,
        longest=longest,
        symbols=WORD_SYMBOLS,
        sweep=sweep_values(report.sweep) if report.sweep else None,
        facts=[(key, value) for part in facts for key, value in as_table(part).items()],
    )


def _changes(report: Report) -> tuple[list[tuple[Change, bool]], int]:
    """The rates that changed, losses first, each with whether it is better; how many did not."""
    changed = []
    for row in report.changes:
        if row.low is not None and row.high is not None and not row.low <= 0 <= row.high:
            changed.append((row, (row.low > 0) != lower_is_better(row.metric)))
    changed.sort(key=lambda one: (one[1], -abs(one[0].after - one[0].before)))
    return changed, len(report.changes) - len(changed)


def _word_changes(report: Report) -> list[tuple[str, Word, Word]]:
    """(format, word before, word after) of each verdict that changed, losses first."""
    if len(report.runs) < 2:
        return []
    before = verdicts_of(report, 0)
    ranked = worst_first(report.runs[-1].verdicts)
    pairs = [
        (one.format, (before[one.format].word, one.word)) for one in ranked if one.format in before
    ]
    return changed_words(pairs)


def render_page(template: Path, training: Training | None, **values: Any) -> str:
    """A page with a training's chart and tables: ``chart`` and ``checkpoints`` in the template."""
    chart = Markup(training_svg(training)) if training else ""  # noqa: S704  # matplotlib's
    return render(template, chart=chart, checkpoints=checkpoint_tables(training), **values)


def metric_head(metric: str) -> dict[str, Any]:
    """A metric as the head of a column."""
    title = METRICS[metric].title if metric in METRICS else metric
    low = lower_is_better(metric)
    return {"id": metric, "title": title, "about": about(metric), "low": low}


def checkpoint_tables(training: Training | None) -> list[dict[str, Any]]:
    """Tables by checkpoint: references and hazard, recall by format, and n-gram scores."""
    found = training.checkpoints if training else ()
    rows = [
        (name, [checkpoint.get(name) for checkpoint in found])
        for name in _CHECKPOINT_ROWS
        if any(name in checkpoint for checkpoint in found)
    ]
    recall = _by_name(found, "recall")
    gains = [(name, [_since(value, row[0]) for value in row]) for name, row in recall if row]
    steps = [f"step {checkpoint['step']}" for checkpoint in found]
    tables = (
        ("References at each checkpoint", "metric", rows, "%.3g", _ABOUT_REFERENCES),
        ("Recall gained, format by checkpoint", "format", gains, "%+.2f", _ABOUT_RECALL),
        ("n-gram score", "side", _by_name(found, "ngram_score"), "%.2f", _ABOUT_NGRAMS),
    )
    names = ("caption", "corner", "rows", "form", "about")
    return [
        {"steps": steps, **dict(zip(names, table, strict=True))} for table in tables if table[2]
    ]


def _by_name(
    checkpoints: Sequence[Mapping[str, Any]], key: str
) -> list[tuple[str, list[float | None]]]:
    """A table of the checkpoints' values of one key, which are tables by name."""
    values = [checkpoint.get(key, {}) for checkpoint in checkpoints]
    names = dict.fromkeys(name for table in values for name in table)
    return [(name, [table.get(name) for table in values]) for name in names]


def _since(value: float | None, first: float | None) -> float | None:
    return None if value is None or first is None else value - first
