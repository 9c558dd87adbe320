"""Verdicts and the reports of two runs → the comparison document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.gate.baseline import Baseline
from harness.records import GROUPS, Verdict
from harness.report.comparison import Comparison
from harness.report.document import read_report
from harness.report.wording import LOWER_IS_BETTER

REPORT_FILE = "report.json"
#: Pairs of samples kept, spread over the formats.
MOST = 200
_PARENTS = (
    3  # the folder of one adapter of several lies below the report's, and its name may have parts
)

Sample = Mapping[str, Any]


def build_comparison(
    before: Baseline,
    after: Baseline,
    verdicts: Sequence[Verdict],
    paths: tuple[Path, Path],
    labels: tuple[str, str],
) -> Comparison:
    """The document of two evaluations. Samples are read from the reports beside them, where there are any; ``labels`` name the two."""
    facts = {**before.formats, **after.formats}
    first, second = found = [run_samples(path) for path in paths]
    samples = paired_samples(first, second, labels) if all(found) else []
    return Comparison(
        title=f"{labels[0]} → {labels[1]}",
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        before=_side(before, labels[0]),
        after=_side(after, labels[1]),
        formats=tuple(
            {"id": id, "group": facts[id].group}
            for id in sorted(
                {verdict.format for verdict in verdicts} & set(facts),
                key=lambda id: (GROUPS.index(facts[id].group), id),
            )
        ),
        cells=tuple(_cell(verdict) for verdict in verdicts),
        samples=tuple(samples),
        note=_note(paths, found, samples),
    )


def run_samples(path: Path) -> list[Sample]:
    """The samples of the run that was written to a folder (or to the folder of this file); none where no report tells of it."""
    folder = (path if path.is_dir() else path.parent).resolve()
    for place in (folder, *folder.parents[:_PARENTS]):
        file = place / REPORT_FILE
        if not file.is_file():
            continue
        report = read_report(file)
        labels = [run["label"] for run in report.runs]
        label = labels[-1] if place == folder else folder.relative_to(place).as_posix()
        return (
            [sample for sample in report.samples if sample["run"] == label]
            if label in labels
            else []
        )
    return []


def paired_samples(
    before: Sequence[Sample], after: Sequence[Sample], labels: tuple[str, str], most: int = MOST
) -> list[Sample]:
    """The answers to the same case in the same format, both runs one after the other. The cases that became worse come first in a format.

    At most ``most`` pairs, as many of each format.
    """
    was = {(sample["format"], sample["case"]): sample for sample in before}
    pairs: dict[str, list[tuple[Sample, Sample]]] = {}
    for sample in after:
        if (first := was.get((sample["format"], sample["case"]))) is not None:
            pairs.setdefault(sample["format"], []).append((first, sample))
    each = max(1, most // max(1, len(pairs)))
    kept = [
        pair for found in pairs.values() for pair in sorted(found, key=_losses, reverse=True)[:each]
    ]
    return [
        {**sample, "run": label}
        for pair in kept
        for sample, label in zip(pair, labels, strict=True)
    ]


def _losses(pair: tuple[Sample, Sample]) -> int:
    """In how many measures the second answer is worse, less those in which it is better."""
    before, after = (sample["scores"] for sample in pair)
    both = [
        metric
        for metric in before
        if before[metric] is not None
        and after.get(metric) is not None
        and before[metric] != after[metric]
    ]
    return sum(
        1 if (after[metric] > before[metric]) == (metric in LOWER_IS_BETTER) else -1
        for metric in both
    )


def _side(baseline: Baseline, label: str) -> dict[str, Any]:
    """What one run is and was made with."""
    return {
        "label": label,
        "name": baseline.name,
        "model": baseline.model,
        "adapter": baseline.adapter,
        "native": baseline.native,
        "environment": {**baseline.environment, **baseline.settings},
    }


def _cell(verdict: Verdict) -> dict[str, Any]:
    values = asdict(verdict)
    low, high = values.pop("interval") or (None, None)
    return {
        **values,
        "before": values.pop("baseline"),
        "after": values.pop("current"),
        "delta": verdict.delta,
        "low": low,
        "high": high,
    }


def _note(
    paths: tuple[Path, Path], found: Sequence[Sequence[Sample]], samples: Sequence[Sample]
) -> str:
    """Why there are no samples."""
    missing = [path.name for path, its in zip(paths, found, strict=True) if not its]
    if missing:
        return f"No samples: no {REPORT_FILE} stands beside {' and '.join(missing)}."
    return "" if samples else "No samples: the two reports show no case in common."
