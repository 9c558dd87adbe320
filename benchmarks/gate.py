"""How often the gate fails without reason, and which losses it sees, on simulated models.

A model has, for each case in each format, a margin (choices), a hidden one (answers: it is right
where that is above 0) and the likelihood of a reference. A margin is the case's difficulty, the
format's effect and what is particular to both. A fine-tune moves every margin at random, half of
it shared by a case's formats, as far as turns 5, 10 or 20 % of the answers. With sampling an answer
is right with a probability between 0 and 1, and two runs draw it apart. Everything is decided by
``compare_baselines`` with the shipped tolerances.

Run: python -m benchmarks.gate [--runs 500] [--losses 200] [--write] (--write: the tables of
docs/gate.md)
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from benchmarks.page_table import write_table
from harness.gate.baseline import Baseline, BaselineEntry, FormatIdentity
from harness.gate.compare_baselines import compare_baselines
from harness.gate.thresholds import Tolerance
from harness.metrics.registry import METRICS
from harness.records import GateCheck, Group

Table = NDArray[np.float64]
FORMATS: dict[str, Group] = {
    "native": "native",
    "seen-1": "seen",
    "seen-2": "seen",
    "new-1": "held-out",
    "new-2": "held-out",
    "new-3": "held-out",
}
LOSING = list(FORMATS).index("new-2")
POINTS = 0.05
#: Answer metrics and the rate at which each is right (on_task) or free of the fault (the others).
ANSWERS = {
    "on_task": 0.60,
    "answer_strict": 0.50,
    "answer_lenient": 0.58,
    "stopped": 0.95,
    "empty": 0.99,
    "leak": 0.99,
    "role_run_on": 0.98,
    "echo": 0.98,
    "loop": 0.97,
    "drift": 0.995,
    "gptisms": 0.85,
}
SHARED = 0.5
"""The part of a fine-tune's random changes that is the same in all formats of a case."""
TOLERANCES = {
    name: Tolerance(name, metric.tolerance)
    for name, metric in METRICS.items()
    if metric.tolerance is not None
}


@dataclass(frozen=True)
class World:
    """One model's tables, cases × formats: what two runs of it have in common."""

    cases: int
    margins: Table
    answers: dict[str, Table]
    nll: Table


@dataclass(frozen=True)
class Change:
    """What lies between two runs: noise of a fine-tune, sampling, and a planted loss."""

    turned: float = 0.0
    """The share of answers that the fine-tune turns, either way."""
    sampled: bool = False
    metric: str = ""
    points: float = 0.0
    everywhere: bool = False
    broken: bool = False
    """The loss breaks that share of the right answers altogether instead of moving all margins."""
    nats: float = 0.0
    gained: float = 0.0
    """The points of choice that all other formats gain, while this one loses nothing."""


def build_world(rng: np.random.Generator, cases: int) -> World:
    def table(rate: float) -> Table:
        """Margins above 0 in a share ``rate``: difficulty, the format's effect, and the rest."""
        difficulty = rng.normal(0, 0.8, (cases, 1))
        effect = rng.normal(0, 0.15, (1, len(FORMATS)))
        rest = rng.normal(0, 0.6, (cases, len(FORMATS)))
        return difficulty + effect + rest + float(ndtri(rate))

    on_task = table(ANSWERS["on_task"])
    answers = {
        name: on_task + float(ndtri(rate) - ndtri(ANSWERS["on_task"]))
        if name.startswith(("on_", "answer"))
        else table(rate)
        for name, rate in ANSWERS.items()
    }
    nll = rng.lognormal(0.5, 0.4, (cases, 1)) + abs(rng.normal(0.2, 0.2, (1, len(FORMATS))))
    return World(cases, table(0.65), answers, nll + rng.normal(0, 0.1, (cases, len(FORMATS))))


def both_runs(rng: np.random.Generator, table: Table, turned: float) -> tuple[Table, Table]:
    """Two tables that are alike but for random changes, which turn about this share of the signs.

    Both are changed, each apart: noise added to one of them alone would draw its rate towards a
    half, which is a loss.
    """
    if not turned:
        return table, table
    first, second = (_noise(rng, table.shape) for _ in range(2))
    low, high = 0.0, 8.0
    for _ in range(12):
        middle = (low + high) / 2
        share = np.mean((table + middle * first > 0) != (table + middle * second > 0))
        low, high = (middle, high) if share < turned else (low, middle)
    return table + low * first, table + low * second


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Table:
    shared, own = rng.normal(0, 1, (shape[0], 1)), rng.normal(0, 1, shape)
    return math.sqrt(SHARED) * shared + math.sqrt(1 - SHARED) * own


def lost(rng: np.random.Generator, table: Table, change: Change) -> Table:
    """The table with the planted loss, in one format or in all."""
    table = table.copy()
    for column in range(table.shape[1]) if change.everywhere else (LOSING,):
        values = table[:, column]
        if change.broken:
            right = values > 0
            values[right & (rng.random(len(values)) < change.points / right.mean())] -= 3.0
        else:
            values -= shift(values, change.points)
    return table


def gained(table: Table, points: float) -> Table:
    """The table with all formats but one moved up, until that share of the answers turns right."""
    table = table.copy()
    for column in range(table.shape[1]):
        if column != LOSING:
            table[:, column] -= shift(table[:, column], -points)
    return table


def shift(values: Table, points: float) -> float:
    """How far these margins fall for the model to lose this share of all cases like them.

    Margins are normal, so their mean and deviation give it. How many of these very cases turn then
    varies, as it does between one set of cases and the next. To turn a fixed number of them takes
    a shift that varies by a third from set to set (the tenth smallest of 200), and is no property
    of a model.
    """
    mean, deviation = float(values.mean()), float(values.std())
    return mean - deviation * float(ndtri(ndtr(mean / deviation) - points))


def answered(rng: np.random.Generator, table: Table, sampled: bool) -> Table:
    """1 where right. Sampled answers are right with the probability of their margin."""
    if sampled:
        return (rng.random(table.shape) < ndtr(table / 0.4)).astype(float)
    return (table > 0).astype(float)


def run_of(world: World, rng: np.random.Generator, sampled: bool) -> dict[str, Table]:
    """Every metric's values, cases × formats. A margin is in nats, six to a unit."""
    values = {
        "choice": (world.margins > 0).astype(float),
        "choice_norm": (world.margins > 0).astype(float),
        "choice_margin": 6 * world.margins,
        "choice_norm_margin": world.margins / 2,
        "brier": 2 * (1 - ndtr(world.margins)) ** 2,
        "nll": world.nll,
        "nll_excess": world.nll - world.nll[:, :1],
    }
    for name, table in world.answers.items():
        right = answered(rng, table, sampled)
        values[name] = 1 - right if METRICS[name].lower_is_better else right
    return values


def two_runs(seed: int, cases: int, change: Change) -> tuple[Baseline, Baseline]:
    """A baseline and a later run of a model that differs by the change."""
    rng = np.random.default_rng((seed, cases))
    world = build_world(rng, cases)
    margins = both_runs(rng, world.margins, change.turned)
    answers = {name: both_runs(rng, table, change.turned) for name, table in world.answers.items()}
    noise = 0.1 if change.turned else 0.0
    nll = [world.nll + rng.normal(0, noise, world.nll.shape) for _ in range(2)]
    nll[1][:, LOSING] += change.nats
    if change.metric == "choice":
        margins = margins[0], lost(rng, margins[1], change)
    elif change.gained:
        margins = margins[0], gained(margins[1], change.gained)
    elif change.metric in answers:
        was, now = answers[change.metric]
        answers[change.metric] = was, lost(rng, now, change)
    first, second = (
        World(cases, margins[at], {name: both[at] for name, both in answers.items()}, nll[at])
        for at in (0, 1)
    )
    return tuple(as_baseline(run_of(each, rng, change.sampled)) for each in (first, second))


def as_baseline(values: dict[str, Table]) -> Baseline:
    kinds = {name: METRICS[name].kind for name in values}
    counts = {kinds[name]: len(table) for name, table in values.items()}
    entries = [
        BaselineEntry(
            format=format_id,
            metric=name,
            mean=float(np.mean(column)),
            low=None,
            high=None,
            n=len(column),
            kind=kinds[name],
            values=tuple(column.tolist()),
        )
        for name, table in values.items()
        for format_id, column in zip(FORMATS, table.round(4).T, strict=True)
    ]
    return Baseline(
        name="simulated",
        model="m",
        adapter="",
        native="native",
        environment={},
        settings={},
        formats={name: FormatIdentity("d", group) for name, group in FORMATS.items()},
        cases={kind: {f"{kind}-{at}": "0" * 8 for at in range(n)} for kind, n in counts.items()},
        entries=tuple(entries),
    )


def checks_of(seed: int, cases: int, change: Change) -> list[GateCheck]:
    """The gate's checks of one simulated pair of runs."""
    return compare_baselines(*two_runs(seed, cases, change), TOLERANCES)


def runs_of(runs: int, cases: int, change: Change) -> list[list[GateCheck]]:
    """The checks of many simulated pairs, on two processes."""
    with ProcessPoolExecutor(2) as pool:
        return list(pool.map(checks_of, range(runs), repeat(cases), repeat(change), chunksize=10))


def any_fails(checks: list[GateCheck]) -> bool:
    return any(check.fails for check in checks)


def seen_where_planted(change: Change) -> Callable[[list[GateCheck]], bool]:
    """Whether a check of the planted metric fails in a losing format, or in a group of them."""
    names = {"choice": ("choice", "choice_norm", "brier"), "": ("nll", "nll_excess")}
    metrics = names.get(change.metric, (change.metric,))
    places = (*FORMATS, "seen formats", "held-out formats") if change.everywhere else ("new-2",)
    return lambda checks: any(
        check.fails and check.metric in metrics and check.format in places for check in checks
    )


UNCHANGED = {
    "the same model, greedy": Change(),
    "the same model, answers sampled": Change(sampled=True),
    "a fine-tune, 10 % turned, greedy": Change(0.10),
    "a fine-tune, 20 % turned, answers sampled": Change(0.20, sampled=True),
    "a fine-tune, 10 % turned, five formats gain 5 points of choice, the sixth nothing": Change(
        0.10, gained=0.05
    ),
}
LOSSES = {
    "choice, 5 points, the same model": Change(metric="choice", points=0.05),
    "choice, 5 points, 5 % turned": Change(0.05, metric="choice", points=0.05),
    "choice, 5 points, 10 % turned": Change(0.10, metric="choice", points=0.05),
    "choice, 5 points, 15 % turned": Change(0.15, metric="choice", points=0.05),
    "choice, 5 points, 20 % turned": Change(0.20, metric="choice", points=0.05),
    "choice, 5 points broken outright, 10 % turned": Change(
        0.10, metric="choice", points=0.05, broken=True
    ),
    "choice, 5 points in all formats, 20 % turned": Change(
        0.20, metric="choice", points=0.05, everywhere=True
    ),
    "on_task, 5 points, 10 % turned": Change(0.10, metric="on_task", points=0.05),
    "on_task, 10 points, 10 % turned": Change(0.10, metric="on_task", points=0.10),
    "on_task, 20 points, 10 % turned": Change(0.10, metric="on_task", points=0.20),
    "stopped, 5 points, the same model": Change(metric="stopped", points=0.05),
    "stopped, 10 points, the same model": Change(metric="stopped", points=0.10),
    "stopped, 10 points, 5 % turned": Change(0.05, metric="stopped", points=0.10),
    "stopped, 20 points, 5 % turned": Change(0.05, metric="stopped", points=0.20),
    "stopped, 5 points in all formats, 5 % turned": Change(
        0.05, metric="stopped", points=0.05, everywhere=True
    ),
    "likelihood of references, .3 nats a token, 10 % turned": Change(0.10, nats=0.3),
}

PAGE = Path(__file__).resolve().parents[1] / "docs" / "gate.md"
CASES = 200


def tables(runs: int, losses: int) -> str:
    """The two tables of docs/gate.md. Counts, not rates, of the runs that must not fail."""
    lines = ["| nothing lost | runs that failed | of their checks passed | inconclusive |"]
    lines.append("|---|---|---|---|")
    for name, change in UNCHANGED.items():
        found = runs_of(runs, CASES, change)
        outcomes = [check.outcome for checks in found for check in checks]
        passed, undecided = (outcomes.count(word) for word in ("passed", "inconclusive"))
        lines.append(
            f"| {name} | {sum(map(any_fails, found))} of {runs} "
            f"| {passed / len(outcomes):.0%} | {undecided / len(outcomes):.0%} |"
        )
        print(lines[-1], flush=True)
    lines += ["", f"| lost (in one of six formats, {CASES} cases a kind) | seen |", "|---|---|"]
    for name, change in LOSSES.items():
        found = runs_of(losses, CASES, change)
        seen = sum(map(seen_where_planted(change), found)) / losses
        lines.append(f"| {name} | {seen:.0%} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="runs in which nothing is lost")
    parser.add_argument("--losses", type=int, default=200, help="runs of each planted loss")
    parser.add_argument("--write", action="store_true", help="write the tables to docs/gate.md")
    options = parser.parse_args()
    found = tables(options.runs, options.losses)
    if options.write:
        write_table(PAGE, "power", found)


if __name__ == "__main__":
    main()
