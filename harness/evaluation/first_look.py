"""A first look: few cases in every format, then more where the verdict is still open.

The cases are asked in rounds. A format whose word is settled gets no further ones, and the budget
goes to those that need the fewest more. Looking several times must not raise the rate of wrong
words, so each look has its part of the 5 % (docs/decisions/032-first-look.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.backends.protocol import Backend
from harness.evaluation.analysis.criteria import LEVEL, Values, cases_to_a_word
from harness.evaluation.analysis.format_verdicts import (
    judge_formats,
    mostly_faulty,
    values_by_format,
)
from harness.evaluation.cases.case_files import kind_of, limit_cases
from harness.evaluation.execute import execute, read_results
from harness.evaluation.requests import PlannedRequest, RequestBuilder
from harness.evaluation.results import FirstLook
from harness.evaluation.scorer import Scorer
from harness.evaluation.store.results_file import Store
from harness.progress import note
from harness.records import Case, Format, Score, Verdict

if TYPE_CHECKING:
    from harness.metrics.registry import Kind

#: Cases of each kind that a format has been asked after each round.
ROUNDS = (10, 20, 40, 80)
#: Cases of each kind that are asked in all formats together, if the first round leaves any.
PER_KIND = 300


@dataclass(frozen=True, slots=True)
class LookPlan:
    """The requests that a first look made, the cases that they ask, and what it found."""

    requests: list[PlannedRequest]
    cases: list[Case]
    look: FirstLook
    computed: int


def round_sizes(formats: int, most: int) -> list[int]:
    """Cases of each kind after each possible round, for this number of formats.

    The last round is the largest that half of the formats could reach within the budget. ``most``
    is the number of cases of the largest kind. All of this is known before the first answer.
    """
    sizes = [size for size in ROUNDS if size == ROUNDS[0] or formats * size <= 2 * PER_KIND]
    return [size for size in sizes if size < most] + ([most] if most <= sizes[-1] else [])


def level_of_each(sizes: Sequence[int]) -> list[float]:
    """The level of each look: the 5 % divided in proportion to the root of the cases.

    Whatever decides when a format's last look is, the chance of a wrong word is at most the sum.
    The first has enough for a format in which ten of ten answers do not end.
    """
    roots = [math.sqrt(size) for size in sizes]
    return [LEVEL * root / sum(roots) for root in roots]


def nested_rounds(cases: Sequence[Case], sizes: Sequence[int]) -> list[list[Case]]:
    """The cases of each round, spread evenly over the files; each holds those before."""
    rounds: list[list[Case]] = []
    for size in reversed(sizes):
        rounds.append(limit_cases(rounds[-1] if rounds else cases, size))
    return rounds[::-1]


def worth_asking(rounds: Sequence[Sequence[Case]], cases: Sequence[Case]) -> list[list[Case]]:
    """The rounds of these cases without references that could not change a verdict.

    A mean cost of fewer than 30 references has no interval (``mean_interval``), and so shows no
    loss and no absence of one. Beyond the first round they are asked where there are enough, or no
    more of them.
    """
    from harness.stats.intervals import LEAST_ITEMS

    kept = [case for case in rounds[0] if kind_of(case) == "reference"]
    every = sum(kind_of(case) == "reference" for case in cases)
    found = [list(rounds[0])]
    for part in rounds[1:]:
        references = [case for case in part if kind_of(case) == "reference"]
        few = len(references) < min(LEAST_ITEMS, every)
        found.append([case for case in part if kind_of(case) != "reference" or not few])
        found[-1] += kept if few else []
    return found


@dataclass
class _Progress:
    """What is known after some rounds."""

    native: str | None
    found: dict[str, Verdict] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)

    def judge(
        self,
        going: Sequence[Format],
        cases: Sequence[Case],
        builder: RequestBuilder,
        size: int,
        level: float,
    ) -> None:
        """Give a word to each format that this round asked."""
        names = [one.id for one in going]
        some = [score for score in self.scores if score.format in names]
        judged = judge_formats(names, some, cases, self.native, builder.untestable, level)
        self.found |= {verdict.format: verdict for verdict in judged}
        self.asked |= dict.fromkeys(names, size)

    def next_formats(self, going: Sequence[Format], most: int) -> list[Format]:
        """At most ``most`` formats that get another round; empty where there is none to settle.

        The reference is among them: the native format, or else every format that works or may.
        """
        values = values_by_format(self.scores)
        pending = [
            one for one in going if not is_settled(self.found[one.id], values.get(one.id, {}))
        ]
        native = [one for one in going if one.id == self.native and one.id in values]
        if native:
            reference = values[native[0].id]
            others = sorted(
                (one for one in pending if one.id != self.native),
                key=lambda one: cases_to_a_word(values[one.id], reference),
            )
            chosen = {one.id for one in (*native, *others[: max(0, most - 1)])}
            return [one for one in going if one.id in chosen] if pending and most else []
        rest = [one for one in going if one in pending or self.found[one.id].word == "works"]
        enough = len(rest) > 1 or len(self.found) == 1
        return rest if pending and enough and len(rest) <= most else []


def is_settled(verdict: Verdict, own: Values) -> bool:
    """Whether more cases would not change a word.

    A degraded format most of whose answers are faulty may still be shown to be broken.
    """
    if verdict.word == "degraded":
        return not mostly_faulty(own)
    return verdict.word != "unclear"


def look_in_rounds(
    builder: RequestBuilder,
    cases: Sequence[Case],
    formats: Sequence[Format],
    native: str | None,
    scorer: Scorer,
    backend: Backend,
    store: Store,
    *,
    label: str = "evaluate",
    quiet: bool = False,
    verbose: bool = False,
) -> LookPlan:
    """Ask the cases round by round, through the store, until every word is settled or paid for."""
    kinds = sizes_of_kinds(cases)
    sizes = round_sizes(len(formats), max(kinds.values()))
    whole, levels = nested_rounds(cases, sizes), level_of_each(sizes)
    rounds = worth_asking(whole, cases)
    left = PER_KIND * len(kinds)
    progress = _Progress(native)
    going, reached, requests, computed = list(formats), list[Case](), list[PlannedRequest](), 0
    for at, (size, part, level) in enumerate(zip(sizes, rounds, levels, strict=True)):
        before = {case.id for case in reached}
        new = [case for case in part if case.id not in before]
        paid = len(part) if not at else len(whole[at]) - len(whole[at - 1])
        if at:
            going = progress.next_formats(going, left // max(1, paid))
        if not going:
            break
        asked = builder.build(new, going)
        computed += execute(
            asked, backend, store, label=f"{label}: round {at + 1}", quiet=quiet, verbose=verbose
        )
        requests += asked
        left -= paid * len(going)
        reached = part
        names = {one.id for one in going}
        scored = scorer.score(new, read_results(asked, store), builder.untestable)
        progress.scores += [score for score in scored if score.format in names]
        progress.judge(going, part, builder, size, level)
        note(words={name: verdict.word for name, verdict in progress.found.items()})
    look = FirstLook(
        asked=progress.asked,
        shared=frozenset(case.id for case in rounds[0]),
        verdicts=tuple(progress.found[one.id] for one in formats),
        pairs=len(requests),
        total=len(cases) * len(formats),
    )
    return LookPlan(requests, reached, look, computed)


def sizes_of_kinds(cases: Sequence[Case]) -> dict[tuple[Kind, bool | None], int]:
    """How many cases of each kind there are, as ``limit_cases`` counts them."""
    sizes: dict[tuple[Kind, bool | None], int] = {}
    for case in cases:
        kind = (kind_of(case), case.thinking)
        sizes[kind] = sizes.get(kind, 0) + 1
    return sizes
