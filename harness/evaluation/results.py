"""Work × backend → results in the store. Only what is missing is computed, and by one evaluator alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harness.backends.protocol import Answer
from harness.evaluation.requests import Untestable, Work
from harness.evaluation.settings import EvalSettings
from harness.metrics.copies.recall_index import RecallIndex
from harness.metrics.stop import ControlIndex
from harness.records import Case, Cell, Format, Group, Score, Scoring


@dataclass(frozen=True, slots=True)
class Results:
    """The results of some work: (probe, case, format, share) → Answer or list of Scoring."""

    answers: dict[tuple[str, str, float], Answer]
    scorings: dict[tuple[str, str], list[Scoring]]


@dataclass(frozen=True, slots=True)
class Found:
    """The best or worst format that a search came to. ``value`` with its interval is from ``n`` cases that were not searched on."""

    goal: str
    metric: str
    format: str
    value: float
    low: float
    high: float
    n: int
    searched_value: float
    searched_n: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What a budget came to: ``cells`` of ``total`` were wanted; ``found`` is empty unless best or worst were searched for."""

    cells: int
    total: int
    found: tuple[Found, ...] = ()


@dataclass(frozen=True, slots=True)
class RecallRow:
    """One measure of recall in one format: the mean on training rows, on twins, and the difference with its interval."""

    format: str
    group: Group
    metric: str
    train: float
    null: float
    excess: float
    low: float
    high: float
    n_train: int
    n_null: int
    note: str


@dataclass(frozen=True, slots=True)
class RecallTable:
    """All rows, and per format the median log-probability of a training answer in nats.

    ``format_leak`` is that median less the median over the trained formats: far below 0 where the content is known in the
    trained formats only.
    """

    rows: tuple[RecallRow, ...]
    median_log_pz: dict[str, float]
    format_leak: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation. Everything in a report is made from this."""

    label: str
    model: str
    adapter: str | None
    fingerprint: dict[str, str]
    formats: tuple[Format, ...]
    groups: dict[str, Group]
    native: str | None
    cases: tuple[Case, ...]
    work: tuple[Work, ...]
    results: Results
    scores: tuple[Score, ...]
    cells: tuple[Cell, ...]
    untestable: tuple[Untestable, ...]
    settings: EvalSettings
    computed: int
    sample: Sample | None = None
    recall: RecallTable | None = None
    index: ControlIndex | None = field(default=None, repr=False)
    corpus: RecallIndex | None = field(default=None, repr=False)
    training_answers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def cell(self, format: str, metric: str) -> Cell | None:
        """The cell of a format and measure, or None."""
        return next(
            (cell for cell in self.cells if cell.format == format and cell.metric == metric), None
        )


@dataclass(frozen=True, slots=True)
class RecallSets:
    """What may have been memorised, and twins that cannot have been."""

    train: tuple[Case, ...]
    null: tuple[Case, ...]
    answers: tuple[tuple[str, str], ...] = ()
    """(id, text) of every answer of the training set, to find copies in what the model says unasked."""


def table(scores: Iterable[Score], metric: str) -> Mapping[str, dict[str, float]]:
    """Scored values of one measure: format → case → value."""
    found: dict[str, dict[str, float]] = {}
    for score in scores:
        if score.metric == metric and score.value is not None:
            found.setdefault(score.format, {})[score.case] = score.value
    return found
