"""One text of the training set aligned with an answer: is it a copy, and of which stretch?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.metrics.copies.spans import (
    SPAN_WORDS,
    Aligner,
    Block,
    WordText,
    block_words,
    indel,
    least_words,
)
from harness.metrics.normalise import normalised_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEAR_INDEL = 0.80
LONG_BLOCK = 15
COPIED_WORDS = 8
_CHAIN_GAP, _CHAIN_DRIFT = 8, 3


@dataclass(frozen=True, slots=True)
class Match:
    """One candidate aligned with the answer.

    The stretch is as words; its characters are only looked up for the best.
    """

    piece: int
    theirs: WordText
    stretch: Sequence[Block]
    flags: tuple[str, ...]
    block_words: int
    indel: float
    nv_recall: float

    def rank(self, is_own: bool) -> tuple[bool, int, float, bool]:
        return bool(self.flags), block_words(self.stretch), round(self.indel, 6), is_own


def compare(
    at: int, text: str, plain: str, ours: WordText, aligner: Aligner, copied: NDArray[np.bool_]
) -> Match | None:
    """Align one candidate with the answer.

    Marks the answer's words of its spans in ``copied``.
    """
    theirs = WordText.of(text)
    runs = aligner.runs(theirs.words)
    if not runs:
        return None
    for run in runs:
        if block_words(run) >= COPIED_WORDS:
            copied[run[0][1] : run[-1][1] + run[-1][2]] = True
    their_plain = normalised_text(text)
    stretch = max(runs, key=block_words)
    long = block_words(stretch) >= SPAN_WORDS
    if not long and (edited := _edited_stretch(runs, plain, their_plain, ours, theirs)):
        stretch, long = edited, True
    block = max(size for run in runs for _, _, size in run)
    similarity = indel(plain, their_plain)
    tells = min(len(ours.words), len(theirs.words)) >= COPIED_WORDS  # "Paris." is no copy
    signs = {
        "indel": tells and similarity >= NEAR_INDEL,
        "span": long,
        "block": block >= LONG_BLOCK,
    }
    least = least_words(len(theirs.words))
    return Match(
        piece=at,
        theirs=theirs,
        stretch=stretch,
        flags=tuple(name for name, holds in signs.items() if holds),
        block_words=block,
        indel=similarity,
        nv_recall=sum(block_words(run) for run in runs if block_words(run) >= least)
        / len(theirs.words),
    )


def _edited_stretch(
    runs: Sequence[Sequence[Block]], plain: str, their_plain: str, ours: WordText, theirs: WordText
) -> list[Block] | None:
    """A stretch of 20 words or more in which letters were changed: runs a few words apart, alike by
    Indel as a whole.

    One changed letter in each fourth word leaves no 20 equal words in a copy of 200 characters.
    """
    chains: list[list[Block]] = []
    for run in runs:
        last = chains[-1][-1] if chains else None
        gaps = (
            (run[0][0] - last[0] - last[2], run[0][1] - last[1] - last[2])
            if last
            else (_CHAIN_GAP + 1, 0)
        )
        if max(gaps) <= _CHAIN_GAP and abs(gaps[0] - gaps[1]) <= _CHAIN_DRIFT:
            chains[-1].extend(run)
        else:
            chains.append(list(run))
    chain = max(chains, key=block_words)
    first, last = chain[0], chain[-1]
    if last[0] + last[2] - first[0] < SPAN_WORDS or block_words(chain) < COPIED_WORDS:
        return None
    mine = plain[ours.places[first[1]][0] : ours.places[last[1] + last[2] - 1][1]]
    their = their_plain[theirs.places[first[0]][0] : theirs.places[last[0] + last[2] - 1][1]]
    return chain if indel(mine, their) >= NEAR_INDEL else None
