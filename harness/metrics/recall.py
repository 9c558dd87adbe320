"""Has the model learnt its training set by heart?

String matching is a lower bound on memorisation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.metrics.copies.spans import (
    MOST_CHARS,
    Aligner,
    CommonSpan,
    WordText,
    block_words,
    common_span,
    indel,
    least_words,
)
from harness.metrics.normalise import normalised_text
from harness.metrics.registry import AnswerItem, Metric, Scored, scorer
from harness.metrics.words import words

NEAR = 0.9
"""``near`` from this similarity is a near copy: about 10 % of the characters edited."""
GRAM = 5
"""Words of the grams of ``ngram_score`` (arXiv 2510.11372)."""


@dataclass(frozen=True, slots=True)
class NvRecall:
    """Near-verbatim recall: the share of the reference's words in kept spans, and those spans.

    ``truncated`` when only the first 2000 words of either text were compared.
    """

    value: float
    spans: tuple[CommonSpan, ...]
    truncated: bool = False


def diverge_at(a: Sequence[object], b: Sequence[object]) -> int:
    """The first index at which two sequences differ; the length of the shorter when it begins the
    longer.
    """
    shorter = min(len(a), len(b))
    return next((at for at in range(shorter) if a[at] != b[at]), shorter)


def near(answer: str, reference: str) -> float:
    """Indel similarity of the normalised reference and as many characters of the answer, 0 to 1.

    A longer answer is cut, a shorter one is not padded: an answer of one right word is no copy.
    Only the beginning is aligned; a verbatim stretch elsewhere is what ``nv_recall`` finds.
    """
    wanted = normalised_text(reference.lstrip()[:MOST_CHARS])
    return indel(normalised_text(answer.lstrip()[: 2 * MOST_CHARS])[: len(wanted)], wanted)


def nv_recall(answer: str, reference: str) -> NvRecall:
    """Words of the reference in spans of at least 20 words (or half of it), over its words.

    Words are characters where a script writes no spaces.
    """
    ours, theirs = WordText.of(answer), WordText.of(reference)
    if not ours.words or not theirs.words:
        return NvRecall(0.0, ())
    least = least_words(len(theirs.words))
    runs = Aligner(ours.words).runs(theirs.words)
    spans = tuple(common_span(run, ours, theirs) for run in runs if block_words(run) >= least)
    value = sum(span.words for span in spans) / len(theirs.words)
    return NvRecall(value, spans, ours.truncated or theirs.truncated)


def ngram_score(answer: str, reference: str) -> float | None:
    """Share of the reference's 5-grams of words that occur in the answer, at any place.

    It rises before whole answers are recalled (arXiv 2510.11372). A reference of fewer words is one
    gram. None for a reference without words.
    """
    wanted, given = (words(normalised_text(text)) for text in (reference, answer))
    n = min(GRAM, len(wanted))
    if not n:
        return None
    found = set(_grams(given, n))
    grams = _grams(wanted, n)
    return sum(gram in found for gram in grams) / len(grams)


def _grams(of: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(of[at : at + n]) for at in range(len(of) - n + 1)]


def samples_needed(log_pz: float, p: float) -> float:
    """How many samples show an answer of this log-probability (nats) at least once with probability
    ``p`` (Hayes 2024).

    n = log(1 − p) ∕ log(1 − p_z), at least 1; infinite where that leaves the range of a float.
    Raises ValueError for p outside (0, 1).
    """
    if not 0 < p < 1:
        raise ValueError(f"p is between 0 and 1, not {p}")
    pz = math.exp(min(0.0, log_pz))
    if pz == 0.0:
        return math.inf
    return 1.0 if pz == 1.0 else max(1.0, math.log1p(-p) / math.log1p(-pz))


def extractable(log_pz: float, n: int, p: float) -> bool:
    """Whether ``n`` samples show the answer with probability ``p`` or more: (n, p)-discoverable
    extraction.
    """
    return samples_needed(log_pz, p) <= n


@scorer(
    Metric(
        "copied",
        "answer",
        "share of the answer's words in stretches of eight or more that are in the training set"
        " (with `--recall`)",
        "lower",
        label="copied from the training set",
        optional=True,
        tolerance=0.02,
        rank=53,
    )
)
def copied(item: AnswerItem) -> Mapping[str, Scored]:
    """The share of an answer that is in the training set, where that set is known."""
    if item.training_set is None:
        return {}
    hit = item.training_set.query(item.text)
    where = f"{hit.span_words} words of {hit.source}" if hit.near else ""
    return {"copied": (hit.copied_frac, where)}
