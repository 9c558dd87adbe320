"""One model evaluated: the whole way from cases and formats to scores and cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.backends.protocol import Backend
from harness.backends.sampling import Sampling
from harness.evaluate import run as runs
from harness.evaluate.budget import Sample
from harness.evaluate.cells import make_cells
from harness.evaluate.draws import score_draws
from harness.evaluate.plan import Plan, make_plan
from harness.evaluate.recall import RecallTable, recall_table
from harness.evaluate.run import Results
from harness.evaluate.scores import Scorer
from harness.evaluate.store import Store
from harness.evaluate.work import Untestable, Work
from harness.metrics.recall import RecallIndex
from harness.metrics.stop import ControlIndex
from harness.records import Case, Cell, Format, Group, Score


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """What decides the numbers besides model, cases and formats."""

    max_new_tokens: int = 64
    seed: int = 0
    recall_examples: int = 32
    recall_formats: int = 4
    flips: bool = False
    """Also ask each choice again after the right option was given and doubted."""
    budget: str = ""
    """Compute only so many cells (``10%`` or a number), and estimate the rest."""
    find: str = ""
    """Spend the budget on the search for the best or the worst format: ``best,worst``, or one of them."""
    find_by: str = ""
    """The measure to search by."""
    temperature: float = 0.0
    """0: the likeliest token. Above: answers are drawn, with a seed of its own for each (seed, case, format, draw)."""
    top_p: float = 1.0
    top_k: int = 0
    draws: int = 1
    """Answers drawn for each case in each format; their scores are averaged."""

    @property
    def sampling(self) -> Sampling | None:
        """How answers are drawn, or None where they are greedy."""
        return Sampling(self.temperature, self.top_p, self.top_k, self.seed) if self.temperature else None

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values; a budget that was not set is left out, so that older baselines stay comparable."""
        return {key: value for key, value in asdict(self).items() if value != ""}


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
        return next((cell for cell in self.cells if cell.format == format and cell.metric == metric), None)


@dataclass(frozen=True, slots=True)
class RecallSets:
    """What may have been memorised, and twins that cannot have been."""

    train: tuple[Case, ...]
    null: tuple[Case, ...]
    answers: tuple[tuple[str, str], ...] = ()
    """(id, text) of every answer of the training set, to find copies in what the model says unasked."""


def evaluate(
    backend: Backend,
    cases: Sequence[Case],
    formats: Sequence[Format],
    groups: dict[str, Group],
    native: str | None,
    store: Store,
    settings: EvalSettings,
    *,
    every_format: Iterable[Format] = (),
    recall: RecallSets | None = None,
    label: str = "evaluate",
    model: str = "",
    adapter: str | None = None,
    quiet: bool = False,
    verbose: bool = False,
) -> Evaluation:
    """Evaluate a backend on cases in formats. What the store already has is not computed again."""
    answers = recall.answers if recall else ()
    scorer = Scorer(formats, native, every_format or formats, RecallIndex.build(answers) if answers else None)
    plan = make_plan(backend, cases, formats, groups, scorer, store, settings, recall, label=label, quiet=quiet)
    computed = runs.run(plan.everything, backend, store, label=label, quiet=quiet, verbose=verbose)
    found = _scored(
        plan, scorer, store, native, settings, recall, label=label, model=model, adapter=adapter, fingerprint=backend.fingerprint, computed=computed
    )
    name = f"{model} + {adapter}" if adapter else model
    store.put_scores(label, name, backend.fingerprint, native, settings.as_dict(), found.scores, found.formats, found.cases)
    return found


def _scored(
    plan: Plan, scorer: Scorer, store: Store, native: str | None, settings: EvalSettings, recall: RecallSets | None, *, computed: int, **names: Any
) -> Evaluation:
    """What the store now holds of a plan, as scores and cells. ``names``: label, model, adapter and fingerprint."""
    results = runs.read(plan.work, store)
    scores = score_draws(scorer.score(plan.cases, results, plan.untestable), plan.draws, plan.cases, scorer, store)
    return Evaluation(
        **names,
        formats=plan.formats,
        groups=plan.groups,
        native=native,
        cases=plan.cases,
        work=plan.work,
        results=results,
        scores=tuple(scores),
        cells=tuple(make_cells(scores, plan.groups)),
        untestable=plan.untestable,
        settings=settings,
        computed=computed + (plan.spent.computed if plan.spent else 0),
        sample=plan.spent.sample if plan.spent else None,
        recall=recall_table(recall, runs.read(plan.recall_work, store), plan.recall_formats, plan.groups, settings.seed) if recall else None,
        index=scorer.index,
        corpus=scorer.corpus,
        training_answers=recall.answers if recall else (),
    )
