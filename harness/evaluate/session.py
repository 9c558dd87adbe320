"""One model evaluated: the whole way from cases and formats to scores and cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

from harness.backends.protocol import Backend
from harness.backends.sampling import Sampling
from harness.evaluate import run as runs
from harness.evaluate.budget import Sample, budgeted
from harness.evaluate.cells import make_cells
from harness.evaluate.confidence import challenged
from harness.evaluate.draws import plan_draws, score_draws
from harness.evaluate.recall import RECALL_SHARES, RecallTable, recall_table
from harness.evaluate.run import Results
from harness.evaluate.scores import Scorer
from harness.evaluate.spend import spend
from harness.evaluate.store import Store
from harness.evaluate.work import Planner, Untestable, Work
from harness.metrics.recall import RecallIndex
from harness.metrics.stop import ControlIndex
from harness.records import Case, Cell, Format, Group, Score

RECALL_TOKENS = 50


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
    planner = Planner(backend, settings.max_new_tokens, settings.sampling)
    answers = recall.answers if recall else ()
    corpus = RecallIndex.build(answers) if answers else None
    scorer = Scorer(formats, native, every_format or formats, corpus)
    cases = budgeted(cases, settings.find, settings.find_by) if settings.budget else cases
    work = planner.plan(cases, formats)
    spent = spend(work, cases, formats, scorer, backend, store, settings, label, quiet) if settings.budget else None
    work = spent.work if spent else work
    if settings.flips and spent is None:
        work += planner.plan([challenged(case) for case in cases if case.choices], formats)
    recall_work: list[Work] = []
    recall_formats = pick_recall_formats(formats, groups, settings.recall_formats)
    if recall is not None:
        both = (*recall.train, *recall.null)
        recall_work = planner.plan(both, recall_formats) + planner.plan_continuations(both, recall_formats, RECALL_SHARES, RECALL_TOKENS)
    draws = plan_draws(backend, settings.max_new_tokens, settings.sampling, settings.draws, cases, formats)
    computed = runs.run([*work, *chain(*draws), *recall_work], backend, store, label=label, quiet=quiet, verbose=verbose)
    results = runs.read(work, store)
    scores = score_draws(scorer.score(cases, results, planner.untestable), draws, cases, scorer, store)
    name = f"{model} + {adapter}" if adapter else model
    store.put_scores(label, name, backend.fingerprint, native, settings.as_dict(), scores, formats, cases)
    return Evaluation(
        label=label,
        model=model,
        adapter=adapter,
        fingerprint=backend.fingerprint,
        formats=tuple(formats),
        groups=groups,
        native=native,
        cases=tuple(cases),
        work=tuple(work),
        results=results,
        scores=tuple(scores),
        cells=tuple(make_cells(scores, groups)),
        untestable=tuple(planner.untestable),
        settings=settings,
        computed=computed + (spent.computed if spent else 0),
        sample=spent.sample if spent else None,
        recall=recall_table(recall, runs.read(recall_work, store), recall_formats, groups, settings.seed) if recall else None,
        index=scorer.index,
        corpus=corpus,
        training_answers=answers,
    )


def pick_recall_formats(formats: Sequence[Format], groups: dict[str, Group], most: int) -> list[Format]:
    """The native format, then seen and held-out ones in turn: recall is dear, and its question is trained against untrained."""
    native = [format for format in formats if groups[format.id] == "native"]
    seen = [format for format in formats if groups[format.id] == "seen"]
    held = [format for format in formats if groups[format.id] == "held-out"]
    rest = [format for pair in zip(seen, held, strict=False) for format in pair]
    rest += [format for format in (*seen, *held) if format not in rest]
    return (native + rest)[:most]
