"""The records of a finished evaluation: everything in a report is made from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.backends.protocol import Answer
from harness.errors import HarnessError
from harness.evaluation.requests import PlannedRequest, Untestable
from harness.evaluation.settings import EvalSettings
from harness.metrics.control_strings import ControlIndex
from harness.metrics.copies.recall_index import RecallIndex
from harness.records import Aggregate, Case, Format, Group, Loglikelihood, Score, Verdict
from harness.report.document import FoundFormat, RecallEntry, Separation

#: Why a pair of case and format that was never asked has no score.
NOT_COMPUTED = "not computed"


@dataclass(frozen=True, slots=True)
class Results:
    """What the model answered.

    ``answers``: (case id, format id, prefix fraction) → answer. ``scorings``: (case id, format
    id) → log-likelihood of each scored text. ``unscored``: the same → why a result is not usable.
    ``opened``: the same → what the prompt has written of the answer's thought, where it has.
    """

    answers: dict[tuple[str, str, float], Answer]
    scorings: dict[tuple[str, str], list[Loglikelihood]]
    unscored: dict[tuple[str, str], str] = field(default_factory=dict)
    opened: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BudgetSample:
    """How many of ``total`` (case, format) pairs a budget paid for, and what a search found."""

    pairs: int
    total: int
    found_formats: tuple[FoundFormat, ...] = ()


@dataclass(frozen=True, slots=True)
class FirstLook:
    """Which cases a first look asked, and the verdict on each format at its last look.

    ``asked``: format id → cases of each kind. ``shared``: the ids of the cases that were asked in
    every format. ``pairs`` of ``total`` (case, format) pairs were asked.
    """

    asked: Mapping[str, int]
    shared: frozenset[str]
    verdicts: tuple[Verdict, ...]
    pairs: int
    total: int

    @property
    def text(self) -> str:
        """What a reader must know of the numbers beside it."""
        return (
            f"first look: {self.pairs} of {self.total} questions (a case in a format) were asked; "
            "--full asks all"
        )

    def as_dict(self) -> dict[str, Any]:
        """How much was asked, for JSON: its verdicts are the evaluation's."""
        return {"asked": dict(self.asked), "pairs": self.pairs, "total": self.total}


@dataclass(frozen=True, slots=True)
class RecallSets:
    """What may have been memorised, and controls that cannot have been, where there are any."""

    train: tuple[Case, ...]
    controls: tuple[Case, ...]
    answers: tuple[tuple[str, str], ...] = ()
    """(id, text) of every training answer, to find copies of it in free answers."""


@dataclass(frozen=True, slots=True)
class RecallTable:
    """All rows of recall, and how well it separates trained rows from controls in each format.

    ``format_leak`` is the median log-probability of a training answer, in nats, less its median
    over the trained formats: far below 0 where the model knows the content in those only.
    """

    rows: tuple[RecallEntry, ...]
    format_leak: dict[str, float]
    separations: tuple[Separation, ...] = ()
    note: str = ""
    """Why the numbers are no headline, or ""."""
    by_case: Mapping[str, Mapping[str, Mapping[str, float]]] = field(
        default_factory=dict, repr=False
    )
    """Format → row or control → metric → value: two runs of the same rows are paired by it."""
    traits: Mapping[str, tuple[float, float]] = field(default_factory=dict, repr=False)
    """Row or control → what makes its answer likely, whether it was trained or not."""


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation of one model."""

    label: str
    model: str
    adapter: str | None
    fingerprint: dict[str, str]
    formats: tuple[Format, ...]
    groups: dict[str, Group]
    native: str | None
    cases: tuple[Case, ...]
    requests: tuple[PlannedRequest, ...]
    results: Results
    scores: tuple[Score, ...]
    aggregates: tuple[Aggregate, ...]
    untestable: tuple[Untestable, ...]
    settings: EvalSettings
    computed: int
    budget: BudgetSample | None = None
    first_look: FirstLook | None = None
    recall: RecallTable | None = None
    control_index: ControlIndex | None = field(default=None, repr=False)
    training_index: RecallIndex | None = field(default=None, repr=False)
    training_answers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    no_loglikelihood: str = ""
    """Why the backend cannot score given answers; "" if it can, and if no case needs that."""

    def refuse_if_nothing_scored(self) -> None:
        """Raise HarnessError when the model gave no usable result at all, as one full of NaN."""
        results = self.results
        if results.unscored and not results.answers and not results.scorings:
            why, count = Counter(results.unscored.values()).most_common(1)[0]
            raise HarnessError(
                f"nothing can be scored: {why} (in {count} of {len(self.requests)} cells); NaN or "
                "infinite log-probabilities come from the model's weights or from its dtype",
                where=self.adapter or self.model,
                hint="look for NaN in the weights, or try --dtype float32",
            )

    @property
    def compared_cases(self) -> tuple[Case, ...]:
        """The cases that every format was asked: what formats are compared and averaged over."""
        if self.first_look is None:
            return self.cases
        return tuple(case for case in self.cases if case.id in self.first_look.shared)

    def aggregate(self, format_id: str, metric: str) -> Aggregate | None:
        """The mean of a metric in a format with its interval, or None."""
        place = (format_id, metric)
        return next((a for a in self.aggregates if (a.format, a.metric) == place), None)


def scores_by_format(scores: Iterable[Score], metric: str) -> Mapping[str, dict[str, float]]:
    """The values of one metric: format id → case id → value. What was not scored is left out."""
    values: dict[str, dict[str, float]] = {}
    for score in scores:
        if score.metric == metric and score.value is not None:
            values.setdefault(score.format, {})[score.case] = score.value
    return values
