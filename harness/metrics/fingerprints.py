"""An index of the whole training set: which example does an answer copy, and where (METRICS §2.4)?

Winnowing (Schleimer, Wilkerson, Aiken 2003): of every ``w`` neighbouring hashes of ``k`` bytes the smallest is kept, so
any copy of k + w − 1 bytes shares a fingerprint, at some 3.5 bytes of memory a byte of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Indel

from harness.metrics.normalised import normalised_text
from harness.metrics.spans import (
    SPAN_WORDS,
    Aligner,
    WordText,
    block_words,
    common_span,
    indel,
    least_words,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

NEAR_INDEL = 0.80
LONG_BLOCK = 15
COPIED_WORDS = 8
MOST_DOCUMENTS = 500
CANDIDATES = 20
BRUTE_FORCE = 2000
"""Up to this many examples every answer is also compared with each, which finds copies with many small edits."""

PIECE_CHARS, PIECE_OVERLAP = 10_000, 2_000

_WORTH, _SHARED = 0.05, 3
_FEW, _MANY = (16, 8), (24, 16)
_LARGE = 200_000
_BRUTE_CHARS = 4096
_BRUTE_CUTOFF = 0.6
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True, slots=True)
class RecallHit:
    """What an answer has in common with its likeliest source. ``source`` is None when it shares nothing.

    ``flags`` are the small-set signs that hold: ``indel`` (≥ .80), ``span`` (≥ 20 words), ``block`` (≥ 15 words
    unbroken); ``near`` is any of them. ``copied_frac`` is the share of the answer's words in spans of at least 8 words
    of any candidate, ``span`` and ``source_span`` the longest one in characters of both texts.
    """

    source: str | None = None
    flags: tuple[str, ...] = ()
    span_words: int = 0
    span_chars: int = 0
    block_words: int = 0
    span: tuple[int, int] | None = None
    source_span: tuple[int, int] | None = None
    indel: float = 0.0
    copied_frac: float = 0.0
    nv_recall: float = 0.0

    @property
    def near(self) -> bool:
        """Whether the answer counts as a copy of its source."""
        return bool(self.flags)

    def misplaced(self, own: str) -> bool:
        """Whether 20 words or more of *another* example than ``own`` stand in the answer."""
        return self.source not in (None, own) and self.span_words >= SPAN_WORDS


@dataclass(frozen=True, slots=True)
class _Piece:
    """A text of the index, or 10 000 characters of a longer one from ``offset`` on."""

    source: str
    offset: int
    text: str


class RecallIndex:
    """Fingerprints of texts by id. Build with ``RecallIndex.build``.

    Longer texts are kept as pieces of 10 000 characters that overlap by 2 000, so that alignment stays quick; their
    ``nv_recall`` is that of the piece.
    """

    def __init__(self, texts: Sequence[tuple[str, str]]) -> None:
        self._pieces = [piece for id, text in texts for piece in _pieces(id, text)]
        self._k, self._w = _MANY if len(self._pieces) > _LARGE else _FEW
        self._hashes, self._owners = self._postings()
        few = self._pieces if len(self._pieces) <= BRUTE_FORCE else ()
        self._brute = {at: plain for at, piece in enumerate(few) if (plain := normalised_text(piece.text)[:_BRUTE_CHARS])}

    @classmethod
    def build(cls, texts: Sequence[tuple[str, str]]) -> RecallIndex:
        """Index (id, text) pairs, such as the answers of a training set."""
        return cls(texts)

    def _postings(self) -> tuple[Hashes, NDArray[np.uint32]]:
        """Fingerprints in order, and for each the piece it stands in; those of more than 500 pieces are dropped."""
        found = [np.unique(_winnow(_gram_hashes(normalised_text(piece.text), self._k), self._w)) for piece in self._pieces]
        hashes = np.concatenate([np.zeros(0, dtype=np.uint64), *found])
        owners = np.repeat(np.arange(len(found), dtype=np.uint32), [len(part) for part in found])
        order = np.argsort(hashes, kind="stable")
        hashes, owners = hashes[order], owners[order]
        _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        rare = counts[inverse] <= MOST_DOCUMENTS if len(hashes) else np.zeros(0, dtype=bool)
        return hashes[rare], owners[rare]

    def query(self, answer: str, own: str | None = None) -> RecallHit:
        """The likeliest source of an answer. Of equally good ones ``own``, the example that was asked for, wins."""
        plain = normalised_text(answer)
        candidates = self._candidates(plain)
        ours = WordText.of(answer)
        if not candidates or not ours.words:
            return RecallHit()
        aligner = Aligner(ours.words)
        copied = np.zeros(len(ours.words), dtype=bool)
        best = RecallHit()
        for at in candidates:
            hit = _compare(self._pieces[at], plain, ours, aligner, copied)
            if _rank(hit, own) > _rank(best, own):
                best = hit
        return replace(best, copied_frac=float(copied.mean()))

    def _candidates(self, plain: str) -> list[int]:
        """Up to 20 pieces by Σ 1/df of shared fingerprints, then the most similar one by brute force."""
        grams = np.unique(_gram_hashes(plain, self._k))
        low = np.searchsorted(self._hashes, grams, side="left")
        counts = np.searchsorted(self._hashes, grams, side="right") - low
        low, counts = low[counts > 0], counts[counts > 0]
        chosen: list[int] = []
        if len(low):
            places = np.arange(counts.sum()) + np.repeat(low - np.cumsum(counts) + counts, counts)
            found, inverse = np.unique(self._owners[places], return_inverse=True)
            weights = np.bincount(inverse, weights=np.repeat(1 / counts, counts))
            shared = np.bincount(inverse)
            worth = (weights >= weights.max() * _WORTH) & (shared >= min(_SHARED, shared.max()))
            order = np.argsort(-weights[worth], kind="stable")[:CANDIDATES]
            chosen = [int(at) for at in found[worth][order]]
        similar = self._most_similar(plain)
        return chosen if similar is None or similar in chosen else [*chosen, similar]

    def _most_similar(self, plain: str) -> int | None:
        if not plain or not self._brute:
            return None
        match = process.extractOne(plain[:_BRUTE_CHARS], self._brute, scorer=Indel.normalized_similarity, score_cutoff=_BRUTE_CUTOFF)
        return None if match is None else int(match[2])


def _pieces(id: str, text: str) -> list[_Piece]:
    step = PIECE_CHARS - PIECE_OVERLAP
    starts = range(0, max(1, len(text) - PIECE_OVERLAP), step)
    return [_Piece(id, start, text[start : start + PIECE_CHARS]) for start in starts]


def _compare(piece: _Piece, plain: str, ours: WordText, aligner: Aligner, copied: NDArray[np.bool_]) -> RecallHit:
    """Align one candidate with the answer. Marks the answer's words that stand in its spans in ``copied``."""
    theirs = WordText.of(piece.text)
    runs = aligner.runs(theirs.words)
    for run in runs:
        if block_words(run) >= COPIED_WORDS:
            copied[run[0][1] : run[-1][1] + run[-1][2]] = True
    if not runs:
        return RecallHit()
    longest = max(runs, key=block_words)
    span = common_span(longest, ours, theirs)
    block = max(size for run in runs for _, _, size in run)
    similarity = indel(plain, normalised_text(piece.text))
    signs = {"indel": similarity >= NEAR_INDEL, "span": span.words >= SPAN_WORDS, "block": block >= LONG_BLOCK}
    least = least_words(len(theirs.words))
    return RecallHit(
        source=piece.source,
        flags=tuple(name for name, holds in signs.items() if holds),
        span_words=span.words,
        span_chars=span.answer_end - span.answer_start,
        block_words=block,
        span=(span.answer_start, span.answer_end),
        source_span=(piece.offset + span.reference_start, piece.offset + span.reference_end),
        indel=similarity,
        nv_recall=sum(block_words(run) for run in runs if block_words(run) >= least) / len(theirs.words),
    )


def _rank(hit: RecallHit, own: str | None) -> tuple[bool, int, float, bool]:
    return hit.near, hit.span_words, round(hit.indel, 6), hit.source == own and own is not None


def _gram_hashes(plain: str, k: int) -> Hashes:
    """A hash of every k bytes of a text in UTF-8."""
    data = np.frombuffer(plain.encode("utf-8", "surrogatepass"), dtype=np.uint8).astype(np.uint64)
    n = len(data) - k + 1
    if n <= 0:
        return np.zeros(0, dtype=np.uint64)
    hashes = np.zeros(n, dtype=np.uint64)
    for at in range(k):
        hashes = hashes * _PRIME + data[at : at + n]
    hashes ^= hashes >> np.uint64(29)
    hashes *= _MIX
    return hashes ^ (hashes >> np.uint64(32))


def _winnow(hashes: Hashes, w: int) -> Hashes:
    """The smallest of every ``w`` neighbouring hashes; of a shorter text its smallest one."""
    if len(hashes) <= w:
        return hashes.min(keepdims=True) if len(hashes) else hashes
    smallest = hashes[: len(hashes) - w + 1].copy()
    for at in range(1, w):
        np.minimum(smallest, hashes[at : at + len(smallest)], out=smallest)
    return smallest
