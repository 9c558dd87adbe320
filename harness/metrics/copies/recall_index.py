"""An index of the whole training set: which example does an answer copy, and where?"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Indel

from harness.errors import HarnessError
from harness.metrics.copies.fingerprints import Postings
from harness.metrics.copies.match import compare
from harness.metrics.copies.spans import Aligner, WordText, common_span
from harness.metrics.normalise import Texts, normalised_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_DOCUMENTS = 500
CANDIDATES = 20
BRUTE_FORCE = 2000
"""Up to this many examples every answer is also compared with each, which finds copies with many
small edits.
"""
PIECE_CHARS, PIECE_OVERLAP = 10_000, 2_000
INDEX_FILE = "recall-index.json"
_VERSION = 1
_WORTH, _SHARED = 0.05, 3
_FEW, _MANY = (16, 8), (20, 8)
_LARGE = 200_000
_BRUTE_CHARS = 4096
_BRUTE_CUTOFF = 0.6


@dataclass(frozen=True, slots=True)
class RecallHit:
    """What an answer has in common with its likeliest source.

    ``source`` is None when it shares nothing.

    ``flags`` are the small-set signs that hold: ``indel`` (≥ .80), ``span`` (≥ 20 equal words, or
    20 words of which some were changed and that are alike by Indel ≥ .80), ``block`` (≥ 15 words
    unbroken); ``near`` is any of them. ``copied_frac`` is the share of the answer's words in spans
    of at least 8 words of any candidate, ``span`` and ``source_span`` the longest one in characters
    of both texts, ``span_words`` the equal words in it.
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
        """Whether a span of *another* example than ``own`` is in the answer.

        ``own#2`` and ``own#2#thought`` are later answers and thoughts of the same example.
        """
        of_own = self.source == own or (self.source or "").startswith(f"{own}#")
        return self.source is not None and not of_own and "span" in self.flags


class RecallIndex:
    """Fingerprints of texts by id. Make one with ``RecallIndex.build`` or ``RecallIndex.load``.

    Longer texts are kept as pieces of 10 000 characters that overlap by 2 000, so that alignment
    stays quick; their ``nv_recall`` is that of the piece.
    """

    def __init__(
        self, ids: Texts, pieces: Texts, places: NDArray[np.uint32], postings: Postings
    ) -> None:
        self._ids = ids
        self._pieces = pieces
        self._places = places  # for each piece: number of its id, character it begins at
        self._postings = postings
        few = self._pieces if len(self._pieces) <= BRUTE_FORCE else ()
        self._brute = {
            at: plain
            for at, piece in enumerate(few)
            if (plain := normalised_text(piece)[:_BRUTE_CHARS])
        }

    def __len__(self) -> int:
        """How many texts were indexed."""
        return len(self._ids)

    @classmethod
    def build(cls, texts: Iterable[tuple[str, str]]) -> RecallIndex:
        """Index (id, text) pairs, such as the answers of a training set.

        They are read once and need not fit a list.
        """
        ids: list[str] = []
        places = array("I")

        def pieces() -> Iterator[str]:
            for text_id, text in texts:
                for start in _piece_starts(text):
                    places.extend((len(ids), start))
                    yield text[start : start + PIECE_CHARS]
                ids.append(text_id)

        kept = Texts.of(pieces())
        k, w = _MANY if len(kept) > _LARGE else _FEW
        postings = Postings.build(
            (normalised_text(piece).encode("utf-8", "surrogatepass") for piece in kept),
            k,
            w,
            MOST_DOCUMENTS,
        )
        return cls(Texts.of(ids), kept, np.array(places, dtype=np.uint32).reshape(-1, 2), postings)

    def save(self, folder: str | Path) -> None:
        """Write the index to a folder of numpy files.

        Raises HarnessError where that is not possible.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._ids.save(folder, "ids")
            self._pieces.save(folder, "pieces")
            np.save(folder / "places.npy", self._places)
            self._postings.save(folder)
            facts = {
                "version": _VERSION,
                "texts": len(self),
                "k": self._postings.k,
                "w": self._postings.w,
            }
            (folder / INDEX_FILE).write_text(
                json.dumps(facts) + "\n", encoding="utf-8"
            )  # last: a half-written index has none
        except OSError as error:
            raise HarnessError(
                f"cannot write the index: {error.strerror}", where=str(folder)
            ) from None

    @classmethod
    def load(cls, folder: str | Path) -> RecallIndex:
        """Open a saved index; texts and fingerprints stay on disk.

        Raises HarnessError for what is none.
        """
        folder = Path(folder)
        try:
            facts = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
            if facts["version"] > _VERSION:
                raise HarnessError(
                    f"an index of version {facts['version']}, and this is version {_VERSION}",
                    where=str(folder),
                    hint="build it again",
                )
            postings = Postings.load(folder, facts["k"], facts["w"])
            return cls(
                Texts.load(folder, "ids"),
                Texts.load(folder, "pieces"),
                np.load(folder / "places.npy"),
                postings,
            )
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise HarnessError(
                f"no recall index: {error}",
                where=str(folder),
                hint="harness recall --save-index writes one",
            ) from None

    def query(self, answer: str, own: str | None = None) -> RecallHit:
        """The likeliest source of an answer.

        Of equally good ones ``own``, the example that was asked for, wins.
        """
        plain = normalised_text(answer)
        candidates = self._candidates(plain)
        ours = WordText.of(answer) if candidates else None
        if ours is None or not ours.words:
            return RecallHit()
        aligner = Aligner(ours.words)
        copied = np.zeros(len(ours.words), dtype=bool)
        matches = [
            match
            for at in candidates
            if (match := compare(at, self._pieces[at], plain, ours, aligner, copied))
        ]
        if not matches:
            return RecallHit()
        best = max(
            matches,
            key=lambda match: match.rank(
                own is not None and self._ids[self._places[match.piece, 0]] == own
            ),
        )
        source, offset = self._places[best.piece].tolist()
        span = common_span(best.stretch, ours, best.theirs)
        return RecallHit(
            source=self._ids[source],
            flags=best.flags,
            span_words=span.words,
            span_chars=span.answer_end - span.answer_start,
            block_words=best.block_words,
            span=(span.answer_start, span.answer_end),
            source_span=(offset + span.reference_start, offset + span.reference_end),
            indel=best.indel,
            copied_frac=float(copied.mean()),
            nv_recall=best.nv_recall,
        )

    def _candidates(self, plain: str) -> list[int]:
        """Up to 20 pieces by Σ 1/df of shared fingerprints, then the most similar one by brute
        force.
        """
        chosen: list[int] = []
        found, weights, shared = self._postings.sharing(plain.encode("utf-8", "surrogatepass"))
        if len(found):
            worth = (weights >= weights.max() * _WORTH) & (shared >= min(_SHARED, shared.max()))
            order = np.argsort(-weights[worth], kind="stable")[:CANDIDATES]
            chosen = [int(at) for at in found[worth][order]]
        similar = self._most_similar(plain)
        return chosen if similar is None or similar in chosen else [*chosen, similar]

    def _most_similar(self, plain: str) -> int | None:
        if not plain or not self._brute:
            return None
        match = process.extractOne(
            plain[:_BRUTE_CHARS],
            self._brute,
            scorer=Indel.normalized_similarity,
            score_cutoff=_BRUTE_CUTOFF,
        )
        return None if match is None else int(match[2])


def _piece_starts(text: str) -> range:
    return range(0, max(1, len(text) - PIECE_OVERLAP), PIECE_CHARS - PIECE_OVERLAP)
