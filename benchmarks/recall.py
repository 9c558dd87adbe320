"""The recall index against rapidfuzz's cdist on the same answers: build, memory, queries, and what
each finds.

Answers of about 900 characters are drawn from a vocabulary of 30 000 words with natural
frequencies; outputs to be judged hold a planted stretch of 200 characters with edits, a whole
answer with edits, or nothing. Nothing of it was used in tuning. Run: python benchmarks/recall.py
[--answers 1000000] [--queries 200] [--brute 3] [--check 20000] [--seed 1]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Iterator

import numpy as np

from harness.metrics.copies.recall_index import RecallIndex

SYLLABLES = [c + v + e for c in "bcdfghjklmnprstvwz" for v in "aeiou" for e in ("", "n", "r", "s")]
WORDS_AN_ANSWER = 150


class Writer:
    """Answers by number, each the same whenever it is asked for."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        lengths = rng.choice([1, 2, 3, 4], 40_000, p=[0.15, 0.45, 0.3, 0.1])
        drawn = list(dict.fromkeys("".join(rng.choice(SYLLABLES, size)) for size in lengths))[
            :30_000
        ]
        drawn.sort(key=lambda word: len(word) + rng.normal(0, 1.5))  # frequent words are short
        self.words = np.array(drawn, dtype=object)
        self.shares = np.cumsum(1 / (np.arange(len(self.words)) + 2.7))
        self.shares /= self.shares[-1]
        self.seed = seed

    def answers(self, first: int, n: int) -> Iterator[str]:
        for start in range(first, first + n, 1000):
            rng = np.random.default_rng((self.seed, start))
            rows = self.words[
                np.searchsorted(
                    self.shares, rng.random((min(1000, first + n - start), WORDS_AN_ANSWER))
                )
            ]
            yield from (" ".join(row) + "." for row in rows)

    def answer(self, number: int) -> str:
        start = number // 1000 * 1000
        return next(
            text for at, text in enumerate(self.answers(start, 1000), start) if at == number
        )


def edited(text: str, share: float, rng: np.random.Generator) -> str:
    """With that share of the characters replaced, left out or followed by another, at places drawn
    at random.
    """
    letters = list(text)
    for at in rng.choice(len(text), int(share * len(text)), replace=False):
        new = rng.choice(list("abcdefghijklmnopqrstuvwxyz"))
        letters[at] = (new, "", letters[at] + new)[rng.integers(3)]
    return "".join(letters)


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def build(writer: Writer, n: int) -> RecallIndex:
    """The index of the first ``n`` answers, built while they are written."""
    started = time.perf_counter()
    characters = sum(map(len, writer.answers(0, n)))
    writing = time.perf_counter() - started
    print(f"{n} answers of {characters / n:.0f} characters")
    started = time.perf_counter()
    index = RecallIndex.build((str(at), text) for at, text in enumerate(writer.answers(0, n)))
    building = time.perf_counter() - started - writing
    print(
        f"built in {building:.1f} s without the writing of the answers ({writing:.1f} s), {building / characters * 1e6:.2f} µs a byte, peak {peak_gib():.2f} GiB"
    )
    return index


def time_queries(
    index: RecallIndex,
    writer: Writer,
    options: argparse.Namespace,
    outside: list[str],
    rng: np.random.Generator,
) -> float:
    """Print what is found and how fast, by kind of output. Returns the slowest kind's median."""
    numbers = rng.integers(0, options.answers, options.queries).tolist()
    sources = [writer.answer(number) for number in numbers]
    slowest = 0.0
    for name, texts in {
        "200 characters, 5 % edited": [
            f"{outside[i][:350]} {edited(source[300:500], 0.05, rng)} {outside[-i - 1][:350]}"
            for i, source in enumerate(sources)
        ],
        "whole, 10 % edited": [edited(source, 0.1, rng) for source in sources],
        "nothing planted": outside[: options.queries],
    }.items():
        times, found = [], 0
        for text, number in zip(texts, numbers, strict=True):
            started = time.perf_counter()
            hit = index.query(text)
            times.append(time.perf_counter() - started)
            found += hit.source == str(number) and hit.near
        print(
            f"{name}: {found} of {len(texts)} found, {statistics.median(times) * 1e3:.2f} ms a query (mean {statistics.mean(times) * 1e3:.2f})"
        )
        slowest = max(slowest, statistics.median(times))
    return slowest


def time_brute_force(everything: list[str], outputs: list[str], slowest: float) -> None:
    """Print how long rapidfuzz takes to compare an output with everything."""
    from rapidfuzz import process
    from rapidfuzz.distance import Indel

    for workers in (1, -1):
        times = []
        for text in outputs:
            started = time.perf_counter()
            process.cdist([text], everything, scorer=Indel.normalized_similarity, workers=workers)
            times.append(time.perf_counter() - started)
        brute = statistics.median(times)
        print(
            f"rapidfuzz cdist, {'one core' if workers == 1 else 'all cores'}: {brute:.2f} s a query: {brute / slowest:.0f} times our slowest"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument(
        "--brute",
        type=int,
        default=3,
        help="queries that are also compared with every answer by rapidfuzz",
    )
    parser.add_argument(
        "--check",
        type=int,
        default=20_000,
        help="answers of which everything that brute force finds must be found",
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    writer, rng = Writer(options.seed), np.random.default_rng((options.seed, 7))
    index = build(writer, options.answers)
    outside = list(writer.answers(10**9, 2 * options.queries))
    slowest = time_queries(index, writer, options, outside, rng)
    if options.brute:
        everything = list(writer.answers(0, options.answers))
        time_brute_force(everything, outside[: options.brute], slowest)
    if options.check:
        compare_with_brute_force(writer, options.check, rng)


def compare_with_brute_force(writer: Writer, n: int, rng: np.random.Generator) -> None:
    """Is everything that brute force finds at Indel .80 found here too?

    0 to 20 % of the characters of whole answers are edited.
    """
    from rapidfuzz import process
    from rapidfuzz.distance import Indel

    texts = list(writer.answers(0, n))
    index = RecallIndex.build((str(number), text) for number, text in enumerate(texts))
    numbers = rng.integers(0, n, 100).tolist()
    outputs = [
        edited(texts[number], share, rng)
        for number, share in zip(numbers, np.linspace(0, 0.2, len(numbers)), strict=True)
    ]
    scores = process.cdist(outputs, texts, scorer=Indel.normalized_similarity, workers=-1)
    near = [(at, source) for at, source in zip(*np.nonzero(scores >= 0.8), strict=True)]
    hits = [index.query(output) for output in outputs]
    ours = sum(hits[at].near and hits[at].source == str(source) for at, source in near)
    print(
        f"of {n}: brute force finds {len(near)} of {len(outputs)} edited answers at Indel .80 or more, the index {ours} of those"
    )


if __name__ == "__main__":
    main()
