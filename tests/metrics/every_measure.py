"""All measures on one pair of texts, with what must hold of each whatever the texts are."""

from __future__ import annotations

import math

from harness.formats import load_formats
from harness.metrics.control_strings import control_strings
from harness.metrics.copies.recall_index import RecallIndex
from harness.metrics.drift import drift
from harness.metrics.loops import loop, tail_period, tail_ratio
from harness.metrics.normalise import normalise
from harness.metrics.parsing import first_object, number_spans
from harness.metrics.phrases import find
from harness.metrics.recall import near, nv_recall
from harness.metrics.roles import role_faults
from harness.metrics.stop import leaks, stop_scores
from harness.metrics.words import word_spans
from tests.metrics.cost import computes_within

SLOWEST = 5.0
"""Seconds that all measures together may take on texts of a few thousand characters: a bound
against blow-up, not a benchmark.
"""

_FORMATS = list(load_formats().values())
_CONTROLS = control_strings(_FORMATS)
_OWN = next(format for format in _FORMATS if format.id == "alpaca-newline")


def judge(text: str, other: str) -> None:
    """Run every measure.

    Raises AssertionError when one breaks its promise, and whatever a measure raises.
    """
    with computes_within(SLOWEST):
        _drift(text, other)
        _recall(text, other)
        _rest(text, other)


def _drift(text: str, other: str) -> None:
    for expect in ("en", "zh", "ru"):
        found = drift(text, (expect,), other)
        assert 0 <= found.off_script <= 1
        assert found.sticky is None or 0 < found.sticky <= 1
        assert found.onset_char is None or 0 <= found.onset_char < len(text)
        assert found.drift is not None or found.why


def _recall(text: str, other: str) -> None:
    for answer, reference in ((text, other), (text, text)):
        index = RecallIndex.build([("one", reference)])
        hit = index.query(answer)
        assert 0 <= hit.indel <= 1 and 0 <= hit.copied_frac <= 1 and 0 <= hit.nv_recall <= 1
        for span, of in ((hit.span, answer), (hit.source_span, reference)):
            assert span is None or 0 <= span[0] <= span[1] <= len(of)
        assert 0 <= near(answer, reference) <= 1 and 0 <= nv_recall(answer, reference).value <= 1
    folded = normalise(text)
    assert len(folded.text) <= 20 * len(text) + 1


def _rest(text: str, other: str) -> None:
    for value, start, end in number_spans(text):
        assert math.isfinite(value) and 0 <= start < end <= len(text)
    assert tail_ratio(text) >= 0 and (tail_period(text) or 1) >= 1
    assert loop(text).looping in (True, False)
    first_object(text)
    assert all(0 <= start < end <= len(text) for start, end in word_spans(text))
    assert all(0 <= hit.start < hit.end <= len(text) for hit in find(text))
    assert all(fault.kind for fault in role_faults(text, "Mira", ["Dov"]))
    assert all(
        0 <= leak.start < leak.end <= len(text) for leak in leaks(text, _CONTROLS, _OWN, other)
    )
    scores = stop_scores(text, "stop", _OWN, _CONTROLS, other)
    assert all(value is None or 0 <= value <= 1 for value in scores.values())
