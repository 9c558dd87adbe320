"""What the tests of a run can see: the power after Holm's adjustment, by simulation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from harness.gate.decide import Paired, family, loss_p
from harness.metrics.registry import METRICS, headline, lower_is_better
from harness.records import GROUPS

PLANTED = 0.05
"""The planted loss: 5 points of a rate."""
DRAWS = 300
"""Simulated runs of a metric. 300 give the power to within 5 points, 19 times in 20."""


def power_line(pairs: Sequence[Paired]) -> str:
    """``power: a 5-point loss in one format would be seen in …``, for the headline rates.

    Nothing where no value differs between the two runs: they hold no noise to learn from.
    """
    _, share = family(pairs)
    found = []
    for metric in headline():
        own = [pair for pair in pairs if pair.metric == metric and not _is_group(pair)]
        if own and METRICS[metric].binary and any(map(_noisy, own)):
            seen = power(own, share)
            n = min(len(pair.before) for pair in own)
            found.append(f"{metric} {100 * seen:.0f} % (n {n})")
    if not found:
        return ""
    points = round(100 * PLANTED)
    return f"power: a {points}-point loss in one format would be seen in {', '.join(found)} of runs"


def power(pairs: Sequence[Paired], share: float, draws: int = DRAWS, seed: int = 0) -> float:
    """How often a loss of `PLANTED` in one format would fail, as noisy as these pairs are.

    ``pairs`` are one metric's in several formats, ``share`` the level of each test in the run's
    family. Each draw takes cases with replacement and exchanges the two runs of each at random, so
    that only noise is left between them. Then the format loses:
    every margin falls by as much as turns that share of the answers wrong; where there are no
    margins, right answers are lost at random.
    """
    rng = random.Random(f"power-{seed}")
    shifts = [_shift(pair) for pair in pairs]
    found = 0
    for draw in range(draws):
        pair, shift = pairs[draw % len(pairs)], shifts[draw % len(pairs)]
        lossy = _with_margins(pair, shift, rng) if shift is not None else _without(pair, rng)
        found += lossy.loss >= lossy.tolerance - 1e-9 and loss_p(lossy) <= share
    return found / draws


def _noisy(pair: Paired) -> bool:
    return any(pair.gains) or any(pair.margin_gains or ())


def _is_group(pair: Paired) -> bool:
    return pair.format in {f"{group} formats" for group in GROUPS}


def _shift(pair: Paired) -> float | None:
    """By how much all margins fall when `PLANTED` of the answers turn wrong.

    None without margins, or with fewer right answers than that. The margins' density is smoothed
    (Gaussian kernel, Scott's rule): the n-th smallest of a few right answers varies by a third
    from one set of cases to the next.
    """
    if pair.margins is None:
        return None
    from scipy.optimize import brentq
    from scipy.stats import gaussian_kde

    values = [value for run in pair.margins for value in run.values()]
    most = max(values)
    if most <= 0 or most == min(values):
        return None
    density = gaussian_kde(values)

    def lacking(shift: float) -> float:
        return PLANTED - float(density.integrate_box_1d(0, shift))

    return float(brentq(lacking, 0, most)) if lacking(most) < 0 else None


def _drawn(pair: Paired, rng: random.Random) -> list[tuple[str, bool]]:
    """Cases with replacement, and whether the two runs of each change places."""
    cases = list(pair.before)
    return [(rng.choice(cases), rng.random() < 0.5) for _ in cases]


def _with_margins(pair: Paired, shift: float, rng: random.Random) -> Paired:
    assert pair.margins is not None  # noqa: S101  # there is a shift
    runs: list[dict[str, float]] = [{}, {}]
    elsewhere: dict[str, float] = {}
    for at, (case_id, turned) in enumerate(_drawn(pair, rng)):
        first, second = (run[case_id] for run in pair.margins)
        was, now = (second, first) if turned else (first, second)
        runs[0][str(at)], runs[1][str(at)] = was, now - shift
        if pair.elsewhere is not None:
            elsewhere[str(at)] = pair.elsewhere[case_id] * (-1 if turned else 1)
    before, after = ({key: float(value > 0) for key, value in run.items()} for run in runs)
    return replace(
        pair,
        before=before,
        after=after,
        margins=(runs[0], runs[1]),
        elsewhere=elsewhere or None,
    )


def _without(pair: Paired, rng: random.Random) -> Paired:
    worst = 1.0 if lower_is_better(pair.metric) else 0.0
    good = [abs(value - worst) for run in (pair.before, pair.after) for value in run.values()]
    rate = PLANTED / max(PLANTED, sum(good) / len(good))
    was: dict[str, float] = {}
    now: dict[str, float] = {}
    for at, (case_id, turned) in enumerate(_drawn(pair, rng)):
        first, second = pair.before[case_id], pair.after[case_id]
        was[str(at)], now[str(at)] = (second, first) if turned else (first, second)
        if rng.random() < rate:
            now[str(at)] = worst
    return Paired(pair.format, pair.metric, pair.tolerance, was, now)
