"""What the gate compares: an evaluation reduced to its cells, their values case by case, and the facts behind them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.evaluation.cases.case_files import kind_of
from harness.formats.properties import check_format, render_digest
from harness.records import GROUPS, Case, Aggregate, Format, Group, Score

if TYPE_CHECKING:
    from harness.evaluation.results import Evaluation

#: Decimals kept of every number: enough for a rate of thousands of cases, few enough for a diff.
DECIMALS = 4


@dataclass(frozen=True, slots=True)
class FormatFact:
    """The template's digest, what the format is to the model, and what rendering it gives: compared by equality, without margin.

    ``rendered`` is a digest of probe conversations as text with their trained parts, so that a change in how templates are run is
    seen as well; ``facts`` are the format's computed properties (stop in the trained text, leading BOS, …).
    """

    digest: str
    group: Group
    rendered: str = ""
    facts: Mapping[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ValueError(f"unknown group {self.group!r}")


@dataclass(frozen=True, slots=True)
class MetricScores:
    """A scored cell with its value for each case of its kind, in the order of the baseline's cases. None is not scored."""

    format: str
    metric: str
    mean: float
    low: float
    high: float
    n: int
    kind: str
    values: tuple[float | None, ...]

    def __post_init__(self) -> None:
        scored = [value for value in self.values if value is not None]
        if not scored or self.n != len(scored):
            raise ValueError(
                f"{self.format} {self.metric}: n is {self.n}, but {len(scored)} values are scored"
            )
        mean = math.fsum(scored) / self.n
        if not math.isclose(self.mean, mean, rel_tol=1e-3, abs_tol=1e-3):
            raise ValueError(
                f"{self.format} {self.metric}: the mean says {self.mean}, its values give {mean:.{DECIMALS}f}"
            )


@dataclass(frozen=True)
class Baseline:
    """One model's numbers. The same record is made of the evaluation that is judged, so like is compared with like.

    ``name`` is the model's, for people; the digests identify it. ``cases`` holds, by kind of case, the
    digest of each case by its id: a case that was rewritten under its old id is never paired. ``reasons``
    tells why a cell was not scored at all; it is not kept on disk.
    """

    name: str
    model: str
    adapter: str
    native: str | None
    environment: Mapping[str, str]
    settings: Mapping[str, Any]
    formats: Mapping[str, FormatFact]
    cases: Mapping[str, Mapping[str, str]]
    cells: tuple[MetricScores, ...]
    reasons: Mapping[tuple[str, str], str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        seen: set[tuple[str, str]] = set()
        for cell in self.cells:
            place = f"{cell.format} {cell.metric}"
            if (cell.format, cell.metric) in seen:
                raise ValueError(f"{place}: stands twice")
            seen.add((cell.format, cell.metric))
            if cell.format not in self.formats:
                raise ValueError(f"{place}: the format has no digest")
            if cell.kind not in self.cases:
                raise ValueError(f"{place}: there are no {cell.kind!r} cases")
            if len(cell.values) != len(self.cases[cell.kind]):
                raise ValueError(
                    f"{place}: {len(cell.values)} values for {len(self.cases[cell.kind])} cases"
                )

    def cell(self, format: str, metric: str) -> MetricScores | None:
        """The cell of a format and measure, or None if it was not scored."""
        return next(
            (cell for cell in self.cells if (cell.format, cell.metric) == (format, metric)), None
        )

    def scored(self, cell: MetricScores) -> dict[str, float]:
        """Case id → value, of the cases that were scored."""
        return {
            id: value
            for id, value in zip(self.cases[cell.kind], cell.values, strict=True)
            if value is not None
        }


def to_baseline(evaluation: Evaluation) -> Baseline:
    """Reduce an evaluation to what the gate compares."""
    cases: dict[str, dict[str, str]] = {}
    for case in sorted(evaluation.cases, key=lambda case: case.id):
        cases.setdefault(kind_of(case), {})[case.id] = scored_digest(case)
    values, reasons = _scored(evaluation.scores)
    cells = [
        _cell_values(cell, cases, values[cell.format, cell.metric])
        for cell in evaluation.cells
        if (cell.format, cell.metric) in values
    ]
    return Baseline(
        name=evaluation.model,
        model=evaluation.fingerprint.get("model", ""),
        adapter=evaluation.fingerprint.get("adapter", ""),
        native=evaluation.native,
        environment={
            key: value
            for key, value in sorted(evaluation.fingerprint.items())
            if key not in ("model", "adapter")
        },
        # How recall is sampled decides no cell.
        settings={
            key: value
            for key, value in evaluation.settings.as_dict().items()
            if not key.startswith("recall")
        },
        formats={
            format.id: format_fact(format, evaluation.groups[format.id])
            for format in sorted(evaluation.formats, key=lambda format: format.id)
        },
        cases=dict(sorted(cases.items())),
        cells=tuple(sorted(cells, key=lambda cell: (cell.format, cell.metric))),
        reasons=reasons,
    )


def with_new_cells(old: Baseline, current: Baseline) -> Baseline:
    """The old baseline with the cells, formats and kinds of case that it does not have yet. What it has stays as it is.

    Raises HarnessError when new cells were measured on other cases of a kind than the baseline's: one list of cases serves all cells.
    """
    places = {(cell.format, cell.metric) for cell in old.cells}
    added = [cell for cell in current.cells if (cell.format, cell.metric) not in places]
    for kind in sorted({cell.kind for cell in added} & set(old.cases)):
        if dict(old.cases[kind]) != dict(current.cases[kind]):
            raise HarnessError(
                f"the {kind} cases are not those of the baseline ({len(old.cases[kind])} there, {len(current.cases[kind])} here)",
                hint="write it anew: --update-baseline",
            )
    kinds = {cell.kind for cell in added}
    return replace(
        old,
        formats=dict(
            sorted(
                {
                    **{cell.format: current.formats[cell.format] for cell in added},
                    **old.formats,
                }.items()
            )
        ),
        cases=dict(sorted({**{kind: current.cases[kind] for kind in kinds}, **old.cases}.items())),
        cells=tuple(sorted([*old.cells, *added], key=lambda cell: (cell.format, cell.metric))),
    )


def format_fact(format: Format, group: Group) -> FormatFact:
    """What is deterministic about a format: nothing of it depends on a model."""
    found = check_format(format).properties
    return FormatFact(
        format.digest,
        group,
        render_digest(format),
        {name: value for name, value in sorted(found.items()) if isinstance(value, bool)},
    )


def scored_digest(case: Case) -> str:
    """Eight hexadecimal digits over all of a case that decides its scores (its tags and its place do not)."""
    facts = [
        [asdict(message) for message in case.messages],
        case.choices,
        case.answer,
        [asdict(check) for check in case.checks],
        case.reference,
        case.expect_language,
        case.name,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def _scored(
    scores: Iterable[Score],
) -> tuple[dict[tuple[str, str], dict[str, float]], dict[tuple[str, str], str]]:
    """The values of each (format, measure) that was scored, and of each other one the reason why it was not.

    A cell with a value that is no finite number counts as not scored as a whole: to leave such values out
    would make a diverged model look better than it is.
    """
    values: dict[tuple[str, str], dict[str, float]] = {}
    reasons: dict[tuple[str, str], str] = {}
    for score in scores:
        if score.value is None:
            reasons.setdefault((score.format, score.metric), score.why)
        else:
            values.setdefault((score.format, score.metric), {})[score.case] = score.value
    reasons = {place: why for place, why in reasons.items() if place not in values}
    for place, found in list(values.items()):
        if bad := sum(not math.isfinite(value) for value in found.values()):
            reasons[place] = f"{bad} of {len(found)} values are no finite numbers"
            del values[place]
    return values, reasons


def _cell_values(
    cell: Aggregate, cases: Mapping[str, Mapping[str, str]], values: Mapping[str, float]
) -> MetricScores:
    assert cell.mean is not None and cell.low is not None and cell.high is not None  # noqa: S101  # a cell with values has all three
    first = next(iter(values))
    kind = next(kind for kind, ids in cases.items() if first in ids)
    kept = tuple(rounded(values[id]) if id in values else None for id in cases[kind])
    return MetricScores(
        cell.format,
        cell.metric,
        rounded(cell.mean),
        rounded(cell.low),
        rounded(cell.high),
        cell.n,
        kind,
        kept,
    )


def rounded(value: float) -> float:
    """A number as a baseline keeps it, never −0."""
    return round(float(value), DECIMALS) + 0.0
