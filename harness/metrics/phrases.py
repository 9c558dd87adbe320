"""Which phrases does one set of texts use more than another? New canned phrases, found without a list (METRICS §4).

Weighted log-odds with an informative Dirichlet prior (Monroe, Colaresi, Quinn 2008, "Fightin' Words"): the difference of
log-odds over its standard deviation, where both sides are pulled towards what they have in common, so that rare words need
more evidence than frequent ones. A phrase counts once a text: a loop is one use.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.metrics.words import words

SIZES = (1, 2, 3, 4)
MIN_Z = 3.0
"""Among some ten thousand phrases chance alone reaches z = 3 a few times: look at these as suggestions."""
MIN_TEXTS = 3
_PRIOR_SHARE = 0.1
"""The prior weighs a tenth of both sides together: 18 texts of 200 against none give z = 3."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """One phrase: in how many texts of each side it stands, and by how many standard deviations its log-odds differ."""

    text: str
    texts: int
    base_texts: int
    z: float


def distinctive(texts: Sequence[str], base_texts: Sequence[str], most: int = 20, sizes: Sequence[int] = SIZES) -> list[Phrase]:
    """Phrases of 1 to 4 words that ``texts`` use more than ``base_texts``, most certain first.

    Those in at least 3 texts and with z ≥ 3. Of phrases that contain or continue each other and stand in as many texts one
    is kept. Empty when either side has no words.
    """
    ours, base = _counts(texts, sizes), _counts(base_texts, sizes)
    n, m = ours.total(), base.total()
    if not n or not m:
        return []
    total = _PRIOR_SHARE * (n + m)
    found = []
    for phrase, count in ours.items():
        if count < MIN_TEXTS:
            continue
        other = base[phrase]
        prior = _PRIOR_SHARE * (count + other)
        delta = _log_odds(count + prior, n + total) - _log_odds(other + prior, m + total)
        z = delta / math.sqrt(1 / (count + prior) + 1 / (other + prior))
        if z >= MIN_Z:
            found.append(Phrase(" ".join(phrase), count, other, z))
    found.sort(key=lambda item: (-len(item.text.split()), -item.z, item.text))
    kept: list[Phrase] = []
    for item in found:
        if not any(_told_by(item, other) for other in kept):
            kept.append(item)
    return sorted(kept, key=lambda item: (-item.z, item.text))[:most]


def _told_by(item: Phrase, other: Phrase) -> bool:
    """Whether a phrase is part of a longer one, or the next window over the same words."""
    if f" {item.text} " in f" {other.text} ":
        return item.texts <= other.texts
    ours, theirs = item.text.split(), other.text.split()
    shared = len(ours) - 1
    return item.texts == other.texts and shared > 0 and (ours[:-1] == theirs[-shared:] or ours[1:] == theirs[:shared])


def _log_odds(count: float, total: float) -> float:
    return math.log(count) - math.log(total - count)


def _counts(texts: Iterable[str], sizes: Sequence[int]) -> Counter[tuple[str, ...]]:
    return Counter(phrase for text in texts for phrase in set(_phrases(text, sizes)))


def _phrases(text: str, sizes: Sequence[int]) -> Iterator[tuple[str, ...]]:
    found = [word.lower() for word in words(text.replace("’", "'"))]
    for size in sizes:
        for at in range(len(found) - size + 1):
            yield tuple(found[at : at + size])
