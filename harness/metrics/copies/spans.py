"""What two texts share: word blocks in order, merged into spans, and Indel similarity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from rapidfuzz.distance import Indel

from harness.metrics.normalise import Normalised, normalise, normalised_text
from harness.metrics.words import word_spans

MAX_GAP = 2
MAX_DRIFT = 1
SPAN_WORDS = 20
MOST_WORDS = 2000
"""Words of each text that are aligned: alignment is quadratic for a text that repeats itself."""
MOST_PAIRS = 200_000
"""Pairs of equal words above which only the first 300 words of each are aligned: two texts that
both loop.
"""
_LOOPED_WORDS = 300
MOST_CHARS = 20_000
"""Characters that Indel compares: .1 s for two texts of this length."""


@dataclass(frozen=True, slots=True)
class CommonSpan:
    """A stretch that two texts share, as characters ``[start, end)`` of each original.

    ``words`` are the equal words in it, ``longest`` those of its longest unbroken block.
    """

    answer_start: int
    answer_end: int
    reference_start: int
    reference_end: int
    words: int
    longest: int


@dataclass(frozen=True, slots=True)
class WordText:
    """A text cut into its first 2000 normalised words (characters for Han, kana and their like).

    ``places`` are the words' characters in the normalised text.
    """

    raw: str
    words: tuple[str, ...]
    places: tuple[tuple[int, int], ...]
    truncated: bool

    @classmethod
    def of(cls, text: str) -> WordText:
        """Normalise and cut. Only as much text is read as 2000 words can need."""
        raw = text[: MOST_WORDS * 40]
        plain = normalised_text(raw)
        places = tuple(word_spans(plain))
        cut = places[:MOST_WORDS]
        return cls(
            raw,
            tuple(plain[start:end] for start, end in cut),
            cut,
            len(places) > len(cut) or len(text) > len(raw),
        )

    def original(self, first: int, last: int) -> tuple[int, int]:
        """Characters of the original from word ``first`` to word ``last``, both included."""
        return _normalised(self.raw).original(self.places[first][0], self.places[last][1])


@lru_cache(maxsize=64)
def _normalised(raw: str) -> Normalised:
    return normalise(raw)


def indel(answer: str, reference: str) -> float:
    """Normalised Indel similarity of two normalised texts, 0 to 1; 0 when either is empty.

    Unrelated English already scores .39. rapidfuzz calls two empty texts identical: here they share
    nothing.
    """
    if not answer or not reference:
        return 0.0
    return Indel.normalized_similarity(answer[:MOST_CHARS], reference[:MOST_CHARS])


Block = tuple[int, int, int]
"""Index in the reference, index in the answer, number of words."""


class Aligner:
    """Aligns reference after reference with one answer, whose words are learnt once."""

    def __init__(self, answer: Sequence[str]) -> None:
        self._answer = answer
        self._counts = Counter(answer)
        self._matcher: SequenceMatcher[str] = SequenceMatcher(None, autojunk=False)
        self._matcher.set_seq2(answer)

    def runs(self, reference: Sequence[str]) -> list[list[Block]]:
        """Ordered matching blocks, neighbours put together when both gaps are at most 2 words, 1
        apart.
        """
        if sum(self._counts[word] for word in reference) > MOST_PAIRS:
            matcher = SequenceMatcher(
                None, reference[:_LOOPED_WORDS], self._answer[:_LOOPED_WORDS], autojunk=False
            )
        else:
            matcher = self._matcher
            matcher.set_seq1(reference)
        merged: list[list[Block]] = []
        for start, answer_start, size in matcher.get_matching_blocks():
            block = (start, answer_start, size)
            if size and merged and _adjoins(merged[-1][-1], block):
                merged[-1].append(block)
            elif size:
                merged.append([block])
        return merged


def block_words(run: Sequence[Block]) -> int:
    """Equal words in a run of blocks."""
    return sum(size for _, _, size in run)


def common_span(run: Sequence[Block], answer: WordText, reference: WordText) -> CommonSpan:
    """A run of blocks as characters of both originals."""
    (first_r, first_a, _), (last_r, last_a, size) = run[0], run[-1]
    return CommonSpan(
        *answer.original(first_a, last_a + size - 1),
        *reference.original(first_r, last_r + size - 1),
        words=block_words(run),
        longest=max(block[2] for block in run),
    )


def _adjoins(before: Block, after: Block) -> bool:
    gaps = after[0] - before[0] - before[2], after[1] - before[1] - before[2]
    return max(gaps) <= MAX_GAP and abs(gaps[0] - gaps[1]) <= MAX_DRIFT


def least_words(reference_words: int) -> int:
    """A span counts from 20 words, or from half of a shorter reference."""
    return min(SPAN_WORDS, max(1, math.ceil(reference_words / 2)))
