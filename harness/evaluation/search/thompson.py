"""The best and the worst format within a budget of cells, by Thompson sampling (FormatSpread, Sclar et al. 2024, arXiv 2310.11324)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Literal

from harness.errors import HarnessError
from harness.evaluation.results import Found

if TYPE_CHECKING:
    import numpy as np

Goal = Literal["best", "worst"]
GOALS: tuple[Goal, ...] = ("best", "worst")
Place = tuple[str, str]
#: Computes cells, (case, format) → value or None for what cannot be scored.
Compute = Callable[[Sequence[Place]], Mapping[Place, float | None]]

#: Cells computed between two looks at the results.
ROUND = 32
#: The share of a goal's cells kept for the cases on which the found format is reported.
KEPT = 0.25


@dataclass
class Arm:
    """One format: what it was right and wrong in so far, and the cases it may still be asked."""

    right: int = 0
    wrong: int = 0
    left: list[str] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """The mean of its Beta posterior, from an even prior."""
        return (1 + self.right) / (2 + self.right + self.wrong)


def read_goals(text: str) -> tuple[Goal, ...]:
    """``best,worst``, or one of them. Raises HarnessError for another word."""
    goals: list[Goal] = []
    for word in text.split(","):
        goal = next((goal for goal in GOALS if goal == word), None)
        if goal is None:
            raise HarnessError(
                f"--find {word!r} is neither best nor worst",
                hint="for example --find best,worst --budget 10%",
            )
        goals.append(goal)
    return tuple(dict.fromkeys(goals))


def search(
    goals: Sequence[Goal],
    metric: str,
    places: Iterable[Place],
    cells: int,
    compute: Compute,
    seed: int,
) -> list[Found]:
    """Spend at most ``cells`` of ``places``, taking turns between the goals, and say which formats they came to.

    Each pick draws an accuracy for every format from its Beta posterior and asks the highest (for ``worst``: the lowest) one
    more case; 32 picks are computed at a time. Half of the cases are searched on; the rest are kept for the format found,
    since the best of many noisy means is better than the format is. All formats meet the cases in the same order.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    places = list(places)
    cases = list(dict.fromkeys(case for case, _ in places))
    order = [cases[at] for at in rng.permutation(len(cases))]
    searched, kept = order[: (len(order) + 1) // 2], order[(len(order) + 1) // 2 :]
    there = set(places)
    arms = {
        format: Arm(left=[case for case in searched if (case, format) in there][::-1])
        for format in dict.fromkeys(format for _, format in places)
    }
    reserve = min(len(kept), max(1, int(cells / len(goals) * KEPT)))
    _pull(arms, goals, cells - reserve * len(goals), compute, rng)
    tried = {format: arm for format, arm in arms.items() if arm.right + arm.wrong}
    if not tried:
        raise HarnessError(
            f"a budget of {cells} cells is too small for a search",
            hint=f"at least some two for each of {len(arms)} formats",
        )
    found = []
    for goal in goals:
        format = (max if goal == "best" else min)(tried, key=lambda id: tried[id].mean)
        values = compute([(case, format) for case in kept if (case, format) in there][:reserve])
        found.append(
            _found(
                goal,
                metric,
                format,
                [value for value in values.values() if value is not None],
                tried[format],
            )
        )
    return found


def _pull(
    arms: Mapping[str, Arm],
    goals: Sequence[Goal],
    cells: int,
    compute: Compute,
    rng: np.random.Generator,
) -> None:
    """Ask the formats that look best, then those that look worst, and so on, until ``cells`` are spent or nothing is left to ask."""
    ids = list(arms)
    for goal in cycle(goals):
        if cells <= 0 or not any(arm.left for arm in arms.values()):
            return
        picks = _picks(arms, ids, goal, min(ROUND, cells), rng)
        cells -= len(picks)
        for (_, format), value in compute(picks).items():
            if value is not None:
                arms[format].right += value >= 0.5
                arms[format].wrong += value < 0.5


def _picks(
    arms: Mapping[str, Arm], ids: Sequence[str], goal: Goal, most: int, rng: np.random.Generator
) -> list[Place]:
    """At most ``most`` picks, each by a draw of its own from all posteriors."""
    import numpy as np

    picks: list[Place] = []
    for _ in range(most):
        draws = rng.beta([1 + arms[id].right for id in ids], [1 + arms[id].wrong for id in ids])
        draws = draws if goal == "best" else 1 - draws
        draws[[not arms[id].left for id in ids]] = -1.0
        at = int(np.argmax(draws))
        if draws[at] < 0:
            break
        picks.append((arms[ids[at]].left.pop(), ids[at]))
    return picks


def _found(goal: Goal, metric: str, format: str, values: Sequence[float], arm: Arm) -> Found:
    from harness.stats import mean_interval

    n = arm.right + arm.wrong
    if not values:
        raise HarnessError(
            "nothing is left to report the found format on",
            hint="give more cases or a larger --budget",
        )
    mean = mean_interval(values)
    return Found(goal, metric, format, mean.value, mean.low, mean.high, mean.n, arm.right / n, n)
