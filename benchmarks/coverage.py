"""Coverage of the 95 % intervals on simulated populations: ``python -m benchmarks.coverage``.

Prints the table of docs/performance.md; ``--write`` puts it there. An interval that is withheld is not
wrong, and its share is printed beside. tests/slow/test_coverage.py holds the limits.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.page_table import write_table
from harness.stats import (
    Interval,
    difference_interval,
    mean_interval,
    rate_interval,
    ratio_interval,
)

SIZES = (12, 24, 48, 100)
SETS = 2000
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

Draw = Callable[[np.random.Generator, int], Any]


@dataclass(frozen=True)
class Population:
    """``draw`` gives the data of ``n`` items, ``interval`` its interval, ``truth`` what it means."""

    name: str
    draw: Draw
    interval: Callable[[Any], Interval | None]
    truth: float


@dataclass(frozen=True)
class Coverage:
    """Shares of the simulated sets: the interval misses the truth; there is no interval."""

    wrong: float
    withheld: float

    @property
    def covered(self) -> float:
        return 1 - self.wrong

    def __str__(self) -> str:
        if self.withheld == 1:
            return "–"
        text = f"{100 * self.covered:.1f}"
        return text + (f" ({100 * self.withheld:.0f} % –)" if self.withheld >= 0.005 else "")


def simulate(population: Population, n: int, sets: int = SETS, seed: int = 0) -> Coverage:
    """Draw ``sets`` sets of ``n`` items. An unbounded ratio counts as withheld."""
    rng = np.random.default_rng([seed, n])
    wrong = withheld = 0
    for _ in range(sets):
        found = population.interval(population.draw(rng, n))
        if found is None or found.low is None or found.high is None:
            withheld += 1
        else:
            wrong += not found.low <= population.truth <= found.high
    return Coverage(wrong / sets, withheld / sets)


def rate(p: float) -> Population:
    return Population(
        f"rate of {p:g}",
        lambda rng, n: (rng.random(n) < p).astype(float),
        rate_interval,
        p,
    )


def logistic(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


_Z = np.linspace(-8, 8, 4001)
_WEIGHT = np.exp(-_Z * _Z / 2) / np.exp(-_Z * _Z / 2).sum()


def centred(mean: float, deviation: float, effects: Any) -> float:
    """The logit at which items of this deviation have this mean rate over formats."""
    low, high = -30.0, 30.0
    for _ in range(80):
        middle = (low + high) / 2
        found = np.mean([(_WEIGHT * logistic(middle + deviation * _Z + e)).sum() for e in effects])
        low, high = (middle, high) if found < mean else (low, middle)
    return low


def clustered(mean: float, deviation: float, formats: int, spread: float = 1.0) -> Population:
    """A rate over these formats; the logit varies by item and by format."""
    effects = spread * np.linspace(-1, 1, formats)
    centre = centred(mean, deviation, effects)

    def draw(rng: np.random.Generator, n: int) -> Any:
        odds = centre + rng.normal(0, deviation, (n, 1)) + effects
        return (rng.random((n, formats)) < logistic(odds)).astype(float)

    name = f"rate of {mean:g} over {formats} formats, items differ by {deviation:g} in log-odds"
    return Population(name, draw, rate_interval, mean)


def broken_third(formats: int) -> Population:
    """Every third format is at .1, the others at .9, with items that differ."""
    effects = np.where(np.arange(formats) % 3 == 2, -4.4, 0.0)
    target = float(np.where(effects < 0, 0.1, 0.9).mean())
    centre = centred(target, 1.0, effects)

    def draw(rng: np.random.Generator, n: int) -> Any:
        odds = centre + rng.normal(0, 1.0, (n, 1)) + effects
        return (rng.random((n, formats)) < logistic(odds)).astype(float)

    return Population(
        f"rate over {formats} formats, a third of them broken", draw, rate_interval, target
    )


def normal(rng: np.random.Generator, n: int) -> Any:
    return rng.normal(0, 1, n)


def lognormal(rng: np.random.Generator, n: int) -> Any:
    return np.exp(rng.normal(0, 1.8, n))


def exponential(rng: np.random.Generator, n: int) -> Any:
    return rng.exponential(1, n)


def costly_tenth(rng: np.random.Generator, n: int) -> Any:
    return rng.normal(0, 0.2, n) + 2.0 * (rng.random(n) < 0.1)


def paired(lost: float, gained: float) -> Population:
    """Differences of two paired rates: these shares of the items were lost and gained."""

    def draw(rng: np.random.Generator, n: int) -> Any:
        at = rng.random(n)
        return np.where(at < lost, -1.0, np.where(at < lost + gained, 1.0, 0.0))

    return Population(
        f"difference of rates, {lost:.0%} lost and {gained:.0%} gained",
        draw,
        difference_interval,
        gained - lost,
    )


def paired_over(formats: int) -> Population:
    """Two unchanged runs of a sampled model of rate .7 in several formats."""
    centre = centred(0.7, 2.0, [0.0] * formats)

    def draw(rng: np.random.Generator, n: int) -> Any:
        rates = logistic(centre + rng.normal(0, 2.0, (n, 1)) + np.zeros(formats))
        first, second = (rng.random((n, formats)) < rates for _ in range(2))
        return second.astype(float) - first

    return Population(
        f"difference of rates over {formats} formats, nothing changed",
        draw,
        difference_interval,
        0.0,
    )


def gap(formats: int, scale: float) -> Population:
    """What is left of an excess of about ``scale`` nats: .35 of it, unevenly over formats."""
    effects = scale * np.resize([0.81, 0.15, 1.49, 0.12, 0.61, -0.05], formats)

    def draw(rng: np.random.Generator, n: int) -> Any:
        before = effects * (1 + rng.normal(0, 0.3, (n, 1))) + rng.normal(0, 0.2, (n, formats))
        return before, 0.35 * before + rng.normal(0, 0.2, (n, formats))

    return Population(
        f"share of an excess of {float(effects.mean()):.2f} nats left over {formats} formats",
        draw,
        lambda pair: ratio_interval(pair[1], pair[0]),
        0.35,
    )


def populations() -> Iterator[Population]:
    """All of METRICS: rates, clustered rates, means, differences and ratios."""
    yield from map(rate, (0.01, 0.05, 0.5, 0.95, 0.99))
    for mean, deviation in ((0.01, 1.5), (0.02, 4.0), (0.5, 1.5), (0.95, 2.0)):
        for formats in (2, 6, 18):
            yield clustered(mean, deviation, formats)
    yield from map(broken_third, (3, 6, 18))
    yield Population("normal mean", normal, mean_interval, 0.0)
    yield Population("exponential mean", exponential, mean_interval, 1.0)
    yield Population("lognormal mean, σ 1.8", lognormal, mean_interval, float(np.exp(1.8**2 / 2)))
    yield Population("mean, a tenth of the items cost 2 nats", costly_tenth, mean_interval, 0.2)
    for lost, gained in ((0.01, 0.01), (0.03, 0.03), (0.05, 0.0), (0.1, 0.1), (0.4, 0.1)):
        yield paired(lost, gained)
    yield from map(paired_over, (6, 18))
    for formats in (3, 6, 18):
        yield gap(formats, 1.0)
    yield gap(6, 0.02)


def table(sets: int = SETS, sizes: tuple[int, ...] = SIZES) -> str:
    """Markdown: populations × items, coverage in % and the share withheld."""
    lines = ["| population | " + " | ".join(f"n {n}" for n in sizes) + " |"]
    lines.append("|---|" + "---:|" * len(sizes))
    for population in populations():
        cells = [str(simulate(population, n, sets)) for n in sizes]
        lines.append(f"| {population.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and write it into the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--sets", type=int, default=SETS)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = table(options.sets)
    print(found)
    if options.write:
        write_table(PAGE, "coverage", found)


if __name__ == "__main__":
    main()
