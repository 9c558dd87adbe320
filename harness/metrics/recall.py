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

NEAR = 0.9
"""``near`` from this similarity is a near copy: about 10 % of the characters edited."""
MIN_NULL = 100
_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class NvRecall:
    """Near-verbatim recall: the share of the reference's words in kept spans, and those spans.

    ``truncated`` when only the first 2000 words of either text were compared.
    """

    value: float
    spans: tuple[CommonSpan, ...]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Excess:
    """Mean over training examples minus mean over controls, with its 95 % bootstrap interval.

    ``note`` says why it is no headline: fewer than 100 controls, or nothing to compare (then the
    numbers are None).
    """

    value: float | None
    low: float | None
    high: float | None
    n_train: int
    n_null: int
    note: str = ""


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


def excess(train: Sequence[float], null: Sequence[float], seed: int) -> Excess:
    """Difference of the means of two unpaired samples of one metric.

    Its interval comes from 2000 bootstrap resamples of both.
    """
    if not train or not null:
        return Excess(
            None,
            None,
            None,
            len(train),
            len(null),
            "nothing to compare with" if train else "nothing scored",
        )
    import numpy as np

    rng = np.random.default_rng(seed)
    means = [
        np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(_DRAWS)])
        for values in (np.asarray(train, dtype=float), np.asarray(null, dtype=float))
    ]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    value = float(np.mean(train) - np.mean(null))
    note = (
        f"only {len(null)} controls (under {MIN_NULL}): no headline" if len(null) < MIN_NULL else ""
    )
    return Excess(value, float(low), float(high), len(train), len(null), note)


@scorer(
    Metric(
        "copied",
        "answer",
        "share of the answer's words in stretches of eight or more that are in the training set"
        " (with `--recall`)",
        "lower",
        label="copied from the training set",
        optional=True,
        margin=0.05,
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
