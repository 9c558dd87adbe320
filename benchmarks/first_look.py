"""Error rates of a first look's words: ``python -m benchmarks.first_look``.

Prints the table of docs/performance.md; ``--write`` puts it there. Each simulated format is looked at
until it is settled or until the last look. That is the worst case for errors: a budget that ends
earlier leaves out looks, and each look can only add a wrong word.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import numpy as np

from benchmarks.words import RUNS, Model, run, table_of_words
from harness.evaluation.first_look import ROUNDS, is_settled, level_of_each, round_sizes
from harness.stats.intervals import LEAST_ITEMS

#: Numbers of formats, which decide how many looks there may be: 2, 3 and 4.
FORMATS = (18, 10, 6)


def look(model: Model, rng: np.random.Generator, formats: int) -> tuple[str, int]:
    """The word of one first look, and the cases of each kind that it took."""
    sizes = round_sizes(formats, ROUNDS[-1])
    values = model.draw_formats(rng, sizes[-1])
    own = list(values.values())[-1]
    for size, level in zip(sizes, level_of_each(sizes), strict=True):
        found = model.judge(asked(values, size), size, level)
        so_far = {metric: dict(list(one.items())[:size]) for metric, one in own.items()}
        if is_settled(found, so_far):
            break
    return found.word, size


def asked(values: dict[str, Any], size: int) -> dict[str, Any]:
    """The values of a round: references are those of the first, until an interval is possible."""
    if not ROUNDS[0] < size < LEAST_ITEMS:
        return values
    return {
        name: {
            metric: dict(islice(one.items(), ROUNDS[0])) if metric == "nll_excess" else one
            for metric, one in own.items()
        }
        for name, own in values.items()
    }


def rates(model: Model, formats: int, runs: int = RUNS, seed: int = 0) -> Counter[str]:
    """How often each word is given in ``runs`` first looks at this many formats."""
    rng = np.random.default_rng([seed, formats])
    return Counter(look(model, rng, formats)[0] for _ in range(runs))


def table(runs: int = RUNS) -> str:
    """Markdown: models × numbers of formats, in %: works ∕ unclear ∕ degraded ∕ broken."""
    heads = {f"{n} formats, at most {round_sizes(n, ROUNDS[-1])[-1]} cases": n for n in FORMATS}
    return table_of_words(heads, rates, runs)


if __name__ == "__main__":
    run(table, "first-look")
