"""The report document: what report.json holds, and the only thing that the pages are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from harness.metrics.registry import METRICS, Metric
from harness.records import Aggregate, Group, Verdict
from harness.report.json_document import from_table, optional, read_table
from harness.report.sample_document import CaseRow, Pieces, ReportSample
from harness.report.sweep_document import Sweep

SCHEMA: Literal["harness-report/1"] = "harness-report/1"
REPORT_FILE = "report.json"

#: A format that was chosen on half of the cases: [format, mean, low, high] on the other half.
Chosen = tuple[str, float, float | None, float | None]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model. ``native_format`` is the format that equals its own chat template."""

    name: str
    digest: str
    dtype: str
    native_format: str | None
    asked_for: str | None = optional()


@dataclass(frozen=True, slots=True)
class FormatFacts:
    """A prompt format. ``digest`` is of the template and its front matter."""

    id: str
    family: str
    group: Group
    digest: str
    stops: tuple[str, ...]
    example: Pieces
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One evaluation: its means by format and metric, and the verdict on each format.

    ``adapter`` is the path it was loaded from. ``trained_on`` and ``trained_formats`` are the files
    and the formats of its training run, where the adapter belongs to one.
    """

    label: str
    adapter: str | None
    cells: tuple[Aggregate, ...]
    verdicts: tuple[Verdict, ...]
    trained_on: tuple[str, ...] = ()
    trained_formats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SummaryLine:
    """One figure with a sentence and its 95 % interval, null where none can be given."""

    name: str
    value: float
    low: float | None
    high: float | None
    n: int
    text: str


@dataclass(frozen=True, slots=True)
class SpreadRow:
    """Best minus worst format in one metric, beside what shuffled formats give."""

    run: str
    metric: str
    max: float
    min: float
    mean: float
    spread: float
    null_low: float
    null_high: float
    p: float
    formats: int
    n: int


@dataclass(frozen=True, slots=True)
class AcrossRow:
    """One rate over the formats of a run; null where it could not be computed.

    ``low`` and ``high`` bound ``avg`` for these very formats, items as clusters. ``top`` is the
    fraction of held-out formats within 10 points of native. ``sees`` is the difference between two
    formats that this many items detect in 80 of 100 tries (one-sided test at 5 %, correlation .5).
    ``p`` is Cochran's. ``best`` and ``worst`` were chosen on one half of the items; their means and
    intervals are from the other half.
    """

    run: str
    metric: str
    formats: int
    n: int
    avg: float
    low: float | None
    high: float | None
    max: float
    min: float
    spread: float
    sat: float
    cps: float
    pss: float | None
    consistency: float | None
    sensitivity: float | None
    top: float | None
    sees: float
    p: float | None
    best: Chosen | None
    worst: Chosen | None


@dataclass(frozen=True, slots=True)
class Change:
    """A rate in one format before and after, on the cases that both runs scored.

    ``low`` and ``high`` bound the difference, paired by case. ``p`` is McNemar's, adjusted over
    formats.
    """

    format: str
    metric: str
    before: float
    after: float
    low: float | None
    high: float | None
    p: float
    n: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number that was estimated, not computed, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """One metric over all formats, estimated from ``cells`` of items × formats.

    ``by_format``: each format's estimate, and how many of its cells were computed.
    """

    run: str
    metric: str
    items: int
    formats: int
    cells: int
    mean: Estimate
    spread: Estimate
    quantiles: Mapping[str, Estimate]
    by_format: Mapping[str, tuple[Estimate, int]]


@dataclass(frozen=True, slots=True)
class FoundFormat:
    """The best or worst format that a search found.

    ``value`` with its interval is from ``n`` cases that were not searched on.
    """

    goal: str
    metric: str
    format: str
    value: float
    low: float | None
    high: float | None
    n: int
    searched_value: float
    searched_n: int


@dataclass(frozen=True, slots=True)
class Budget:
    """A run that computed ``cells`` of ``total``: estimates (``rows``), or a search's ``found``."""

    run: str
    cells: int
    total: int
    rows: tuple[BudgetRow, ...]
    found: tuple[FoundFormat, ...]
    text: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecallEntry:
    """Recall of the training set in one format: trained rows, controls, and the excess.

    ``format`` is "all formats" for the mean over them, row by row. Without controls ``null`` and
    ``excess`` are None, and the interval is that of the trained rows. Without an interval ``low``
    and ``high`` are None.
    """

    run: str
    format: str
    metric: str
    train: float
    null: float | None
    excess: float | None
    low: float | None
    high: float | None
    n_train: int
    n_null: int
    note: str
    group: Group | None = optional()  # noqa: RUF009  # a field without a value of its own


@dataclass(frozen=True, slots=True)
class Separation:
    """How well a metric separates trained rows from controls in one format.

    ``auc``: how often a trained row has the higher value, 0.5 by chance. ``found``: share of
    trained rows above all but 1 % of the controls, None with fewer than 99 of them.
    """

    run: str
    format: str
    metric: str
    auc: float
    auc_low: float | None
    auc_high: float | None
    found: float | None
    found_low: float | None
    found_high: float | None
    n_train: int
    n_null: int
    group: Group


@dataclass(frozen=True, slots=True)
class FormatConfidence:
    """How far confidence in the options can be believed in one format."""

    format: str
    brier: float
    ece: float
    overconfidence: float
    accuracy: float
    n: int


@dataclass(frozen=True, slots=True)
class ConfidenceBin:
    """Mean confidence and accuracy of the items of one bin."""

    confidence: float
    accuracy: float
    n: int


@dataclass(frozen=True, slots=True)
class Admission:
    """How often the model says that a question has no answer: ``rate`` of ``answers``."""

    rate: float
    cases: int
    answers: int


@dataclass(frozen=True, slots=True)
class Confidence:
    """Confidence in the options of one run; parts without a measurement are left out.

    ``spread``: standard deviation over formats of an item's confidence in its right option.
    """

    run: str
    formats: tuple[FormatConfidence, ...] | None = optional()
    reliability: tuple[ConfidenceBin, ...] | None = optional()
    spread: float | None = optional()
    objects: Mapping[str, Admission] | None = optional()


@dataclass(frozen=True, slots=True)
class DepthRow:
    """One metric at one place: mean over formats of the cases there; ``n`` counts cases.

    ``by`` is what varies: ``turn`` (different cases by their number of questions), ``asked as
    turn`` (the same cases), ``depth`` (tokens of other talk), ``facts at % of 2000`` (where in that
    much talk the facts are).
    """

    run: str
    by: str
    place: int
    metric: str
    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class PhraseRow:
    """One kind of canned phrase: hits per 1000 words by run, and the last run's lifts.

    ``worst`` is the format with the highest rate in the last run. A kind that the training answers
    never use and the model does comes from its base.
    """

    kind: str
    rates: Mapping[str, float]
    training: float | None
    lift_over_base: float | None
    lift_over_training: float | None
    worst: str


@dataclass(frozen=True, slots=True)
class NewPhrase:
    """A phrase that no list holds: in how many answers it occurs, here and there."""

    text: str
    texts: int
    base_texts: int
    z: float


@dataclass(frozen=True, slots=True)
class Phrases:
    """Canned phrases by kind, and phrases used more than ``against``."""

    kinds: tuple[PhraseRow, ...] = ()
    against: str = ""
    new: tuple[NewPhrase, ...] = ()


@dataclass(frozen=True, slots=True)
class Training:
    """A training run: entries of its metrics.jsonl, and its settings."""

    schedule: str
    steps: tuple[Mapping[str, Any], ...]
    checkpoints: tuple[Mapping[str, Any], ...]
    config: Mapping[str, Any] | None = optional()


@dataclass(frozen=True)
class Report:
    """One model, one or two runs (before, after) on the same cases.

    ``created`` is in UTC, ISO 8601. ``environment``: versions, machine, threads, device.
    ``metrics``: those of the cells, so that the pages need no file that declares them.
    ``settings``: what decides the numbers besides model, cases and formats. ``format_leak``: per
    run, format → median log-probability of a training answer less that in the trained formats, in
    nats.
    """

    title: str
    created: str
    model: ModelFacts
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    formats: tuple[FormatFacts, ...]
    runs: Annotated[tuple[Run, ...], MinLen(1)]
    metrics: tuple[Metric, ...] = ()
    summary: tuple[SummaryLine, ...] = ()
    spread: tuple[SpreadRow, ...] = ()
    across: tuple[AcrossRow, ...] = ()
    changes: tuple[Change, ...] = ()
    budget: tuple[Budget, ...] = ()
    recall: tuple[RecallEntry, ...] = ()
    separations: tuple[Separation, ...] = ()
    format_leak: tuple[Mapping[str, str | float], ...] = ()
    confidence: tuple[Confidence, ...] = ()
    depth: tuple[DepthRow, ...] = ()
    phrases: Phrases | None = None
    samples: tuple[ReportSample, ...] = ()
    grid: tuple[CaseRow, ...] = ()
    training: Training | None = None
    sweep: Sweep | None = None
    schema: Literal["harness-report/1"] = SCHEMA

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "report") -> Report:
        """A report from its JSON object. Raises HarnessError naming the key that is wrong."""
        report = from_table(cls, table, where, "make the report again with this version")
        for metric in report.metrics:
            METRICS.describe(metric)
        return report

    def cells(self, run: int) -> dict[tuple[str, str], Aggregate]:
        """The means of run number ``run``: (format, metric) → Aggregate."""
        return {(cell.format, cell.metric): cell for cell in self.runs[run].cells}


def read_report(path: Path) -> Report:
    """Read a report.json. Raises HarnessError naming the file and the key that is wrong."""
    return Report.from_dict(read_table(path, "a report"), str(path))
