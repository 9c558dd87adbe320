"""What a checkpoint is worth: references in native, seen and held-out formats, and how well it knows its training rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.backends.local.backend import TransformersBackend
from harness.backends.protocol import ScoreRequest
from harness.evaluation.analysis.recall_table import recall_cases
from harness.evaluation.cases.case_files import limit_cases, load_cases, recall_case
from harness.evaluation.format_groups import native_format_id
from harness.evaluation.requests import RequestBuilder
from harness.formats import load_formats
from harness.metrics.hazard import hazard
from harness.records import Case, Format, Loglikelihood
from harness.resources import data_dir

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.training.preparation import Preparation


class CheckpointMeasure:
    """Called with the model as it is, gives ``nll_<group>`` (nats a token), ``hazard_<group>`` and ``recall``.

    Beside the means stand the values by item, which a bootstrap needs: ``nll_items_<group>`` (nats a token of each reference,
    mean over the group's formats) and ``recall_items`` (log-probability a token of each training answer and each twin, mean over formats).

    ``recall`` is, for each format, the mean log-probability per token of training answers less that of twins that were
    never trained on: 0 without memory (METRICS §2). Every checkpoint is read on the same references, rows and twins.
    """

    def __init__(self, ready: Preparation, loaded: LoadedModel) -> None:
        settings = ready.config.evaluation
        most = settings.formats_measured
        native_id = native_format_id(loaded.tokenizer, load_formats().values())
        native = [format for format in ready.known if format.id == native_id]
        self.loaded = loaded
        self.groups = {
            "native": native,
            "seen": list(ready.trained[:most]),
            "held_out": list(ready.held_out[:most]),
        }
        self.cases = (
            limit_cases(load_cases([str(data_dir("eval") / "dev.jsonl")]), settings.references)
            if settings.references
            else []
        )
        self.recall_formats = list(
            {
                f.id: f
                for f in (
                    *native,
                    *ready.trained[:1],
                    *ready.held_out[:1],
                    *ready.trained[1:2],
                    *ready.held_out[1:2],
                )
            }.values()
        )
        self.rows: Sequence[Case] = ()
        self.twins: Sequence[Case] = ()
        if settings.recall_rows:
            rows = [case for case in map(recall_case, ready.conversations) if case is not None]
            self.rows = limit_cases(rows, settings.recall_rows)
            self.twins = limit_cases(
                recall_cases([str(data_dir("eval") / "twins.jsonl")]), settings.recall_rows
            )

    def __bool__(self) -> bool:
        return bool(self.cases or self.rows)

    def __call__(self, _step: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for group, formats in self.groups.items():
            scored = self._score(self.cases, formats)
            if scored:
                found[f"nll_{group}"] = fmean(
                    -scoring.logprob / scoring.tokens for _, scoring in scored
                )
                found[f"nll_items_{group}"] = {
                    case: -value for case, value in _by_case(scored).items()
                }
                found[f"hazard_{group}"] = fmean(
                    sum_up.value for _, scoring in scored if (sum_up := hazard(scoring.off_script))
                )
        return {**found, **self._recall()}

    def _recall(self) -> dict[str, Any]:
        excess: dict[str, float] = {}
        rows, twins = [], []
        for format in self.recall_formats:
            trained, null = self._score(self.rows, [format]), self._score(self.twins, [format])
            if trained and null:
                excess[format.id] = _per_token(trained) - _per_token(null)
                rows += trained
                twins += null
        return (
            {"recall": excess, "recall_items": {"rows": _by_case(rows), "twins": _by_case(twins)}}
            if excess
            else {}
        )

    def _score(self, cases: Sequence[Case], formats: Sequence[Format]) -> list[tuple[str, Loglikelihood]]:
        """Every case in every format that can carry it, with the case's id."""
        backend = TransformersBackend(self.loaded)
        planned = RequestBuilder(backend, 1).build(cases, formats)
        asked = {
            item.key: (item.case, item.request)
            for item in planned
            if isinstance(item.request, ScoreRequest)
        }
        answers = (
            pair
            for batch in backend.score([request for _, request in asked.values()])
            for pair in batch
        )
        return [(asked[key][0], scoring) for key, scorings in answers for scoring in scorings]


def _per_token(scored: Sequence[tuple[str, Loglikelihood]]) -> float:
    return fmean(scoring.logprob / max(1, scoring.tokens) for _, scoring in scored)


def _by_case(scored: Sequence[tuple[str, Loglikelihood]]) -> dict[str, float]:
    """Log-probability a token by case, mean over formats; rounded, since a log of 6 digits holds all that a bootstrap sees."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for case, scoring in scored:
        values[case].append(scoring.logprob / max(1, scoring.tokens))
    return {case: round(fmean(found), 6) for case, found in values.items()}
