"""Error rates of the words works, degraded, broken: ``python -m benchmarks.words``.

Prints the table of docs/performance.md; ``--write`` puts it there. tests/slow/test_words.py holds the
limits.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.coverage import SIZES, centred, logistic
from benchmarks.page_table import write_table
from harness.evaluation.analysis.criteria import LEVEL
from harness.evaluation.analysis.format_verdicts import best_others, judge
from harness.records import Verdict

RUNS = 1000
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
CHANCE = 0.25


@dataclass(frozen=True)
class Model:
    """A model in a native and in another format: rates in both, and how alike the items are.

    ``agreement``: the standard deviation of the items' difficulty in log-odds, shared by both
    formats; 3 makes about a tenth of the items change between two formats of rate .6.
    """

    name: str
    choice: tuple[float, float] = (0.6, 0.6)
    on_task: tuple[float, float] = (0.5, 0.5)
    stopped: tuple[float, float] = (0.9, 0.9)
    leak: tuple[float, float] = (0.01, 0.01)
    excess: float = 0.05
    thinks: tuple[float, float] | None = None
    call_valid: tuple[float, float] | None = None
    call_exact: tuple[float, float] | None = None
    agreement: float = 3.0
    formats: int = 0
    """With this many formats like the other one, and no native one."""
    centres: dict[float, float] = field(default_factory=dict, compare=False)

    def logit(self, rate: float) -> float:
        if rate not in self.centres:
            self.centres[rate] = centred(rate, self.agreement, [0.0])
        return self.centres[rate]

    def draw(self, rng: np.random.Generator, n: int) -> tuple[Any, Any]:
        """The values of both formats: metric → case → value."""
        native: dict[str, dict[str, float]] = {}
        other: dict[str, dict[str, float]] = {}
        for metric in ("choice", "on_task", "stopped", "leak"):
            self._draw_rate(rng, n, metric, getattr(self, metric), (native, other))
        for metric in ("thinks", "call_valid", "call_exact"):
            if (rates := getattr(self, metric)) is not None:
                self._draw_rate(rng, n, metric, rates, (native, other))
        costs = rng.normal(self.excess, 0.5, n)
        native["nll_excess"] = {f"ref-{at}": 0.0 for at in range(n)}
        other["nll_excess"] = {f"ref-{at}": float(one) for at, one in enumerate(costs)}
        return native, other

    def _draw_rate(
        self, rng: np.random.Generator, n: int, metric: str, rates: Any, sides: Any
    ) -> None:
        items = rng.normal(0, self.agreement, n)
        for values, rate in zip(sides, rates, strict=True):
            drawn = rng.random(n) < logistic(self.logit(rate) + items)
            values[metric] = {f"{metric}-{at}": float(one) for at, one in enumerate(drawn)}

    def word(self, rng: np.random.Generator, n: int) -> str:
        return self.judge(self.draw_formats(rng, n), n).word

    def judge(self, values: dict[str, Any], n: int, level: float = LEVEL) -> Verdict:
        """The verdict on the last of these formats, from the first n cases of each kind."""
        part = {
            name: {metric: dict(islice(by_case.items(), n)) for metric, by_case in own.items()}
            for name, own in values.items()
        }
        name, own = part.popitem()
        if not self.formats:
            return judge(name, own, part["native"], "native", CHANCE, level)
        reference = best_others({**part, name: own})[name]
        return judge(name, own, reference, None, CHANCE, level)

    def draw_formats(self, rng: np.random.Generator, n: int) -> dict[str, Any]:
        """The values of all formats, the one to judge last: name → metric → case → value."""
        if not self.formats:
            native, other = self.draw(rng, n)
            return {"native": native, "other": other}
        values = {}
        items = {metric: rng.normal(0, self.agreement, n) for metric in ("choice", "on_task")}
        for name in map(str, range(self.formats)):
            values[name] = {
                metric: {
                    f"{metric}-{at}": float(one)
                    for at, one in enumerate(
                        rng.random(n) < logistic(self.logit(getattr(self, metric)[1]) + of_metric)
                    )
                }
                for metric, of_metric in items.items()
            }
        return values


def models() -> Iterator[Model]:
    """What must not be called degraded or broken, and what must not be called works."""
    yield Model("as good as native")
    yield Model("as good, other items than native", agreement=0.5)
    yield Model("as good as six others, no native format", formats=6)
    yield Model("20 points worse", choice=(0.6, 0.4), on_task=(0.5, 0.3))
    yield Model("20 points worse in free answers only", on_task=(0.5, 0.3))
    yield Model("20 points worse in choices only", choice=(0.6, 0.4))
    yield Model("choices at chance", choice=(0.6, 0.25))
    yield Model("both at chance, a weak model", choice=(0.25, 0.25), on_task=(0.1, 0.1))
    yield Model("stops in 70 % instead of 90 %", stopped=(0.9, 0.7))
    yield Model("never stops", stopped=(0.9, 0.05))
    yield Model("leaks in 21 % instead of 1 %", leak=(0.01, 0.21))
    yield Model("references cost .7 nats a token", excess=0.7)
    able = {"thinks": (0.95, 0.95), "call_valid": (0.9, 0.9), "call_exact": (0.7, 0.7)}
    yield Model("as good as native, with thoughts and calls", **able)
    yield Model("thinks in 75 % instead of 95 %", **{**able, "thinks": (0.95, 0.75)})
    yield Model("never thinks", **{**able, "thinks": (0.95, 0.01)})
    lost = {"call_valid": (0.9, 0.7), "call_exact": (0.7, 0.5)}
    yield Model("20 points fewer calls are valid and exact", **{**able, **lost})
    yield Model(
        "calls never parse", **{**able, "call_valid": (0.9, 0.01), "call_exact": (0.7, 0.01)}
    )


def rates(model: Model, n: int, runs: int = RUNS, seed: int = 0) -> Counter[str]:
    """How often each word is given in ``runs`` evaluations with n cases of each kind."""
    rng = np.random.default_rng([seed, n])
    return Counter(model.word(rng, n) for _ in range(runs))


def table(runs: int = RUNS) -> str:
    """Markdown: models × cases, in % of evaluations: works ∕ unclear ∕ degraded ∕ broken."""
    return table_of_words({f"n {n}": n for n in SIZES}, rates, runs)


def table_of_words(
    columns: Mapping[str, int], rates: Callable[[Model, int, int], Counter[str]], runs: int
) -> str:
    """Markdown: models × columns, the words' shares in %. ``columns``: head → what rates takes."""
    order = ("works", "unclear", "degraded", "broken")
    lines = [f"| {' ∕ '.join(order)}, % | " + " | ".join(columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for model in models():
        counted = [rates(model, size, runs) for size in columns.values()]
        cells = [" ∕ ".join(f"{100 * one[word] / runs:.0f}" for word in order) for one in counted]
        lines.append(f"| {model.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def run(table: Callable[[int], str], name: str) -> None:
    """Print a table of words, and with ``--write`` put it into the page between its comments."""
    parser = argparse.ArgumentParser(description=f"Print the table {name}.")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = table(options.runs)
    print(found)
    if options.write:
        write_table(PAGE, name, found)


if __name__ == "__main__":
    run(table, "words")
