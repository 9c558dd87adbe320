"""Recall of the shipped artefacts, compared with recall of the adapter in transformers."""

from __future__ import annotations

from harness.errors import HarnessError
from harness.evaluation.analysis.recall_change import RecallChange, recall_changes
from harness.evaluation.analysis.recall_table import GAIN
from harness.evaluation.recall_rows import recall_sets_of
from harness.evaluation.results import RecallSets, RecallTable
from harness.evaluation.settings import EvalJob
from harness.ship.shipment import PairedScore
from harness.ship.trained_model import Trained

RECALL_GAIN = "recall gain"


def shipped_rows(trained: Trained, reference: EvalJob) -> tuple[RecallSets | None, str]:
    """The rows of the adapter's run with its controls, or why recall is not measured.

    A GGUF file does not know its run, so both sides get these rows.
    """
    if trained.adapter is None:
        return None, "there is no adapter"
    if trained.metadata is None:
        return None, "no run.json says what the adapter was trained on"
    try:
        return recall_sets_of(reference), ""
    except HarnessError as error:  # the training set may be on another machine
        return None, str(error)


def recall_scores(
    artefact: str, sets: RecallSets | None, known: RecallTable | None, own: RecallTable | None
) -> list[PairedScore]:
    """Rows of the table of scores; none if a side has no recall.

    They are never findings: the gate has no tolerance for recall.
    """
    if sets is None or known is None or own is None:
        return []
    return [_score(artefact, one) for one in recall_changes(sets, known, own)]


def _score(artefact: str, one: RecallChange) -> PairedScore:
    return PairedScore(
        artefact,
        one.format,
        RECALL_GAIN if one.metric == GAIN else one.metric,
        one.before,
        one.before + one.difference,
        one.difference,
        one.low,
        one.high,
        one.n,
    )
