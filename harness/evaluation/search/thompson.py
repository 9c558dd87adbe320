"""The best and the worst format within a budget, by Thompson sampling.

FormatSpread, Sclar et al. 2024, arXiv 2310.11324.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Literal

from harness.errors import HarnessError
from harness.metrics.registry import METRICS
from harness.report.document import FoundFormat

if TYPE_CHECKING:
    import numpy as np

Goal = Literal["best", "worst"]
GOALS: tuple[Goal, ...] = ("best", "worst")
#: (case, format).
Pair = tuple[str, str]
#: Computes (case, format) pairs: the metric's value, or None for what cannot be scored.
Compute = Callable[[Sequence[Pair]], Mapping[Pair, float | None]]

#: Pairs computed between two looks at the results.
ROUND = 32
#: The fraction of a goal's pairs reserved for the cases that the format found is reported on.
RESERVED = 0.25


@dataclass
class Arm:
    """One format: how many values were good and bad so far, and the cases not yet asked."""

    good: int = 0
    bad: int = 0
    remaining: list[str] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """The mean of its Beta posterior, from an even prior."""
        return (1 + self.good) / (2 + self.good + self.bad)


def read_goals(text: str) -> tuple[Goal, ...]:
    """``best,worst``, or one of them. Raises HarnessError for another word."""
    goals: list[Goal] = []
    for word in text.split(","):
        goal = next((goal for goal in GOALS if goal == word), None)
        if goal is None:
            raise HarnessError(
                f"invalid --find {word!r}: expected best, worst or best,worst",
                hint="for example --find best,worst --budget 10%",
            )
        goals.append(goal)
    return tuple(dict.fromkeys(goals))


def search(
    goals: Sequence[Goal],
    metric: str,
    pairs: Iterable[Pair],
    budget: int,
    compute: Compute,
    seed: int,
) -> list[FoundFormat]:
    """Spend at most ``budget`` of the pairs, in turn for each goal, and name the formats found.

    A value counts as good by the metric's direction: 1 where more is better, 0 where less is. Each
    pick draws a rate of good values for every format from its Beta posterior and asks the format
    with the highest (for ``worst`` the lowest) one more case; 32 picks are computed at a time. Half
    of the cases are searched on. The format found is reported on the others, since the best of many
    noisy means looks better than the format is. All formats meet the cases in the same order.
    Raises HarnessError when the budget is too small.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    pairs = list(pairs)
    cases = list(dict.fromkeys(case for case, _ in pairs))
    order = [cases[at] for at in rng.permutation(len(cases))]
    searched, held_back = order[: (len(order) + 1) // 2], order[(len(order) + 1) // 2 :]
    known = set(pairs)
    arms = {
        name: Arm(remaining=[case for case in searched if (case, name) in known][::-1])
        for name in dict.fromkeys(name for _, name in pairs)
    }
    reserve = min(len(held_back), max(1, int(budget / len(goals) * RESERVED)))
    lower = METRICS[metric].lower_is_better
    _pull(arms, goals, lower, budget - reserve * len(goals), compute, rng)
    tried = {name: arm for name, arm in arms.items() if arm.good + arm.bad}
    if not tried:
        raise HarnessError(
            f"a budget of {budget} (case, format) pairs is too small for a search",
            hint=f"give at least {2 * len(arms)}, two for each format",
        )
    results = []
    for goal in goals:
        name = (max if goal == "best" else min)(tried, key=lambda name: tried[name].mean)
        values = compute([(case, name) for case in held_back if (case, name) in known][:reserve])
        scored = [value for value in values.values() if value is not None]
        results.append(_report(goal, metric, name, scored, tried[name]))
    return results


def _pull(
    arms: Mapping[str, Arm],
    goals: Sequence[Goal],
    lower_is_better: bool,
    budget: int,
    compute: Compute,
    rng: np.random.Generator,
) -> None:
    """Ask the formats that look best, then those that look worst, and so on, within the budget."""
    names = list(arms)
    for goal in cycle(goals):
        if budget <= 0 or not any(arm.remaining for arm in arms.values()):
            return
        picks = _picks(arms, names, goal, min(ROUND, budget), rng)
        budget -= len(picks)
        for (_, name), value in compute(picks).items():
            if value is not None:
                good = (value >= 0.5) != lower_is_better
                arms[name].good += good
                arms[name].bad += not good


def _picks(
    arms: Mapping[str, Arm], names: Sequence[str], goal: Goal, most: int, rng: np.random.Generator
) -> list[Pair]:
    """At most ``most`` picks, each by its own draw from all posteriors."""
    import numpy as np

    picks: list[Pair] = []
    for _ in range(most):
        rates = rng.beta(
            [1 + arms[name].good for name in names], [1 + arms[name].bad for name in names]
        )
        rates = rates if goal == "best" else 1 - rates
        rates[[not arms[name].remaining for name in names]] = -1.0
        at = int(np.argmax(rates))
        if rates[at] < 0:
            break
        picks.append((arms[names[at]].remaining.pop(), names[at]))
    return picks


def _report(goal: Goal, metric: str, name: str, values: Sequence[float], arm: Arm) -> FoundFormat:
    if not values:
        raise HarnessError(
            "no case is left to report the format found on",
            hint="give more cases or a larger --budget",
        )
    n = arm.good + arm.bad
    searched = (arm.bad if METRICS[metric].lower_is_better else arm.good) / n
    mean = METRICS[metric].interval(values)
    return FoundFormat(goal, metric, name, mean.value, mean.low, mean.high, mean.n, searched, n)
