"""Checks of two runs and the reports beside them → the comparison document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from harness.gate.baseline import Baseline
from harness.metrics.registry import lower_is_better
from harness.records import GROUPS, GateCheck, Word
from harness.report.comparison import ComparedFormat, Comparison, Difference, Side
from harness.report.document import REPORT_FILE, read_report
from harness.report.sample_document import ReportSample
from harness.report.wording import changed_words

#: Pairs of samples kept, spread over the formats.
MAX_PAIRS = 200
#: The folder of one adapter of several is below the report's, and its name may have parts.
_PARENTS = 3


def build_comparison(
    before: Baseline,
    after: Baseline,
    checks: Sequence[GateCheck],
    paths: tuple[Path, Path],
    labels: tuple[str, str],
) -> Comparison:
    """The document of two evaluations, with the samples of the reports at ``paths``."""
    facts = {**before.formats, **after.formats}
    format_ids = {check.format for check in checks} & set(facts)
    first, second = runs = [run_samples(path) for path in paths]
    samples = paired_samples(first, second, labels) if all(runs) else []
    return Comparison(
        title=f"{labels[0]} → {labels[1]}",
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        before=_side(before, labels[0]),
        after=_side(after, labels[1]),
        formats=tuple(
            sorted(
                (
                    ComparedFormat(name, facts[name].group, _words(before, after, name))
                    for name in format_ids
                ),
                key=lambda compared: (GROUPS.index(compared.group), compared.id),
            )
        ),
        cells=tuple(map(_difference, checks)),
        samples=tuple(samples),
        note=_note(paths, runs, samples),
    )


def _words(before: Baseline, after: Baseline, name: str) -> tuple[Word, Word] | None:
    """The verdict on a format in both runs."""
    was, now = before.words.get(name), after.words.get(name)
    return None if was is None or now is None else (was, now)


def word_changes(before: Baseline, after: Baseline) -> list[tuple[str, Word, Word]]:
    """(format, word before, word after) of each verdict that changed, losses first."""
    pairs = [(name, _words(before, after, name)) for name in after.words]
    return changed_words((name, pair) for name, pair in pairs if pair is not None)


def run_samples(path: Path) -> list[ReportSample]:
    """The samples of the run written to a folder (or to the folder of this file).

    None where no report is beside or above it.
    """
    folder = (path if path.is_dir() else path.parent).resolve()
    for place in (folder, *folder.parents[:_PARENTS]):
        file = place / REPORT_FILE
        if file.is_file():
            report = read_report(file)
            own = place == folder
            label = report.runs[-1].label if own else folder.relative_to(place).as_posix()
            return [sample for sample in report.samples if sample.run == label]
    return []


def paired_samples(
    before: Sequence[ReportSample],
    after: Sequence[ReportSample],
    labels: tuple[str, str],
    limit: int = MAX_PAIRS,
) -> list[ReportSample]:
    """The answers to the same case in the same format, both runs one after the other.

    In a format the cases that became worse come first. At most ``limit`` pairs, and as many from
    each format.
    """
    was = {(sample.format, sample.case): sample for sample in before}
    pairs: dict[str, list[tuple[ReportSample, ReportSample]]] = {}
    for sample in after:
        if (first := was.get((sample.format, sample.case))) is not None:
            pairs.setdefault(sample.format, []).append((first, sample))
    each = max(1, limit // max(1, len(pairs)))
    return [
        replace(sample, run=label)
        for of_format in pairs.values()
        for pair in sorted(of_format, key=_losses, reverse=True)[:each]
        for sample, label in zip(pair, labels, strict=True)
    ]


def _losses(pair: tuple[ReportSample, ReportSample]) -> int:
    """The number of metrics in which the second answer is worse, less those where it is better."""
    before, after = (sample.scores for sample in pair)
    changes = [
        (metric, now > was)
        for metric, was in before.items()
        if was is not None and (now := after.get(metric)) is not None and now != was
    ]
    return sum(1 if rises == lower_is_better(metric) else -1 for metric, rises in changes)


def _side(baseline: Baseline, label: str) -> Side:
    return Side(
        label=label,
        name=baseline.name,
        model=baseline.model,
        adapter=baseline.adapter,
        native=baseline.native,
        environment={**baseline.environment, **baseline.settings},
    )


def _difference(check: GateCheck) -> Difference:
    low, high = check.interval or (None, None)
    return Difference(
        format=check.format,
        metric=check.metric,
        outcome=check.outcome,
        before=check.baseline,
        after=check.current,
        delta=check.delta,
        low=low,
        high=high,
        allowed=check.allowed,
        n=check.n,
        p=check.p,
        why=check.why,
        worst_case=check.worst_case,
        needed=check.needed,
    )


def _note(
    paths: tuple[Path, Path],
    runs: Sequence[Sequence[ReportSample]],
    samples: Sequence[ReportSample],
) -> str:
    """Why there are no samples."""
    missing = [path.name for path, run in zip(paths, runs, strict=True) if not run]
    if missing:
        return f"No samples: there is no {REPORT_FILE} beside {' and '.join(missing)}."
    return "" if samples else "No samples: the two reports have no case in common."
