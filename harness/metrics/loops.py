"""Degeneration: does the end of an answer repeat itself?"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from harness.metrics.registry import AnswerItem, Metric, scorer

TAIL = 400
MAX_RATIO = 3.0
MAX_PERIOD = 200
MIN_REPEATS = 4
MIN_CHARS = 40

_BLANKS = re.compile(r"[^\S\n]{2,}")


@dataclass(frozen=True, slots=True)
class LoopScore:
    """Whether an answer ends in a loop, and by which sign."""

    looping: bool
    why: str
    ratio: float
    period: int | None


def tail_ratio(text: str) -> float:
    """Bytes over zlib-compressed bytes of the last 400 characters, runs of blanks as one; 0 for an
    empty text.

    Blanks are collapsed because indented code is no loop (7.6 % of 800-character pieces of Python
    passed 3.0 with them). Above 3.0 in .3 % of real answers. The whole text is never compressed:
    gzip > 2.4 over all of it flags a fifth of real long answers.
    """
    raw = _BLANKS.sub(" ", text[-4 * TAIL :])[-TAIL:].encode("utf-8", "surrogatepass")
    return len(raw) / len(zlib.compress(raw, 9)) if raw else 0.0


def tail_period(text: str) -> int | None:
    """The shortest period of at most 200 characters that ends the text at least 4 times over at
    least 40 characters.
    """
    tail = text[-MAX_PERIOD * MIN_REPEATS :]
    for period in range(1, MAX_PERIOD + 1):
        length = max(MIN_REPEATS * period, MIN_CHARS)
        if length > len(tail):
            return None
        end = tail[-length:]
        if end[period:] == end[:-period]:
            return period
    return None


def loop(text: str) -> LoopScore:
    """Judge one answer.

    White space at its end is left out, so that trailing blank lines are no loop.
    """
    text = text.rstrip()
    ratio, period = tail_ratio(text), tail_period(text)
    if period is not None:
        return LoopScore(True, f"the end repeats every {period} characters", ratio, period)
    if ratio > MAX_RATIO and len(text) >= MIN_CHARS:
        return LoopScore(
            True, f"the last {TAIL} characters compress {ratio:.1f} times", ratio, None
        )
    return LoopScore(False, "", ratio, None)


@scorer(
    Metric(
        "loop",
        "answer",
        "the answer ends in a repetition",
        "lower",
        binary=True,
        tolerance=0.02,
        rank=56,
    )
)
def ends_in_loop(item: AnswerItem) -> tuple[float, str]:
    """Whether an answer ends in a loop, and by which sign."""
    found = loop(item.text)
    return float(found.looping), found.why
