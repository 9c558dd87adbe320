"""The status of a format: each limit has a case on either side of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from harness.evaluation.aggregate import aggregate_scores
from harness.evaluation.analysis.compatibility import compatibility
from harness.records import Case, Format, Message, Score

CHOICES = {options: ("a", "b", "c", "d")[:options] for options in (2, 4)}


@dataclass
class Run:
    """The parts of an evaluation that compatibility reads."""

    formats: tuple[Format, ...]
    aggregates: list
    cases: tuple[Case, ...]
    native: str | None = "native"
    budget: None = None
    untestable: tuple = field(default=())

    def aggregate(self, name, metric):
        return next((c for c in self.aggregates if (c.format, c.metric) == (name, metric)), None)


def run(options=2, **values):
    """A native format without a fault beside one with these values: ``choice=(1, 0, …)``."""
    n = len(next(iter(values.values())))
    native = {"choice": 1.0, "on_task": 1.0, "stopped": 1.0, "empty": 0.0, "leak": 0.0}
    cases = [Case(f"c{at}", (Message("user", "?"),), CHOICES[options], 0) for at in range(n)]
    scores = [
        Score(case.id, "native", metric, native.get(metric, 0.0))
        for metric in values
        for case in cases
    ]
    scores += [
        Score(case.id, "other", metric, float(value))
        for metric, row in values.items()
        for case, value in zip(cases, row, strict=True)
    ]
    formats = tuple(Format(name, name, "", (), "") for name in ("native", "other"))
    groups = {"native": "native", "other": "held-out"}
    return Run(formats, aggregate_scores(scores, groups), tuple(cases))


def status(**values):
    return compatibility(run(**values))[1]


def ones(count, n):
    return [1.0] * count + [0.0] * (n - count)


@pytest.mark.parametrize(("right", "n", "options"), [(30, 120, 4), (12, 24, 2), (5, 24, 4)])
def test_choices_at_chance_are_broken(right, n, options):
    found = status(options=options, choice=ones(right, n))
    assert found.word == "broken" and "chance" in found.reason


def test_choices_above_chance_are_not_broken():
    assert status(options=4, choice=ones(60, 120)).word == "degraded"
    assert status(options=4, choice=ones(114, 120)).word == "works"


def test_a_guessing_format_is_called_broken_and_a_good_one_is_not():
    """Level and power over 300 runs of 48 cases with four options."""
    rng = np.random.default_rng(3)
    guessing = [status(options=4, choice=rng.random(48) < 0.25).word for _ in range(300)]
    good = [status(options=4, choice=rng.random(48) < 0.6).word for _ in range(300)]
    assert guessing.count("broken") >= 0.95 * 300
    assert good.count("broken") == 0


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"empty": ones(50, 100)}, "broken"),
        ({"empty": ones(49, 100)}, "degraded"),
        ({"empty": ones(6, 100)}, "degraded"),
        ({"empty": ones(5, 100)}, "works"),
        ({"leak": ones(50, 100)}, "broken"),
        ({"leak": ones(49, 100)}, "degraded"),
        ({"leak": ones(6, 100)}, "degraded"),
        ({"leak": ones(5, 100)}, "works"),
        ({"stopped": ones(49, 100)}, "broken"),
        ({"stopped": ones(50, 100)}, "degraded"),
        ({"stopped": ones(89, 100)}, "degraded"),
        ({"stopped": ones(90, 100)}, "works"),
        ({"on_task": ones(89, 100)}, "degraded"),
        ({"on_task": ones(91, 100)}, "works"),
        ({"choice": ones(89, 100)}, "degraded"),
        ({"choice": ones(91, 100)}, "works"),
        ({"nll_excess": [0.36] * 100}, "degraded"),
        ({"nll_excess": [0.34] * 100}, "works"),
    ],
)
def test_each_limit_from_both_sides(values, word):
    assert status(**values).word == word
