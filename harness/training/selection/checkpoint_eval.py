"""What is measured at a checkpoint: NLL of references, hazard, and recall of training rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.backends.local.backend import TransformersBackend
from harness.backends.protocol import ScoreRequest, Unscored
from harness.evaluation.analysis.recall_table import recall_cases
from harness.evaluation.cases.case_files import limit_cases, load_cases, recall_case, spread_evenly
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
    """Measures the model as it is: ``nll_<group>`` (nats a token), ``hazard_<group>``, ``recall``.

    Groups are the native, the seen and the held-out formats. ``recall`` is, for each format, the
    mean log-probability a token of training answers less that of controls that were never trained
    on: 0 without memorisation (docs/measures.md). Every checkpoint is measured on the same items.

    Next to the means are the values by item, which a bootstrap needs. ``nll_items_<group>`` has the
    nats a token of each reference, and ``recall_items`` the log-probability a token of each
    training answer and each control, both as means over formats.
    """

    def __init__(self, ready: Preparation, loaded: LoadedModel) -> None:
        settings = ready.config.evaluation
        native_id = native_format_id(loaded.tokenizer, load_formats().values())
        native = [known for known in ready.known if known.id == native_id]
        trained, held_out = ready.trained, ready.held_out
        self.loaded = loaded
        self.groups = {
            "native": native,
            "seen": list(trained[: settings.formats_measured]),
            "held_out": list(held_out[: settings.formats_measured]),
        }
        first, second = (*trained[:1], *held_out[:1]), (*trained[1:2], *held_out[1:2])
        self.recall_formats = list({each.id: each for each in (*native, *first, *second)}.values())
        self.references: Sequence[Case] = ()
        self.rows: Sequence[Case] = ()
        self.controls: Sequence[Case] = ()
        if settings.references:
            references = load_cases([str(data_dir("eval") / "dev.jsonl")])
            self.references = limit_cases(references, settings.references)
        if settings.recall_rows:
            rows = [case for case in map(recall_case, ready.conversations) if case is not None]
            controls = recall_cases([str(data_dir("eval") / "twins.jsonl")])
            self.rows = spread_evenly(rows, settings.recall_rows)
            self.controls = spread_evenly(controls, settings.recall_rows)

    def __bool__(self) -> bool:
        return bool(self.references or self.rows)

    def __call__(self, _step: int) -> dict[str, Any]:
        metrics: dict[str, Any] = {}
        for group, formats in self.groups.items():
            scored = self._score(self.references, formats)
            if scored:
                by_case = _by_case(scored).items()
                hazards = [hazard(each.off_script) for _, each in scored]
                metrics[f"nll_{group}"] = fmean(-each.logprob / each.tokens for _, each in scored)
                metrics[f"nll_items_{group}"] = {case: -value for case, value in by_case}
                metrics[f"hazard_{group}"] = fmean(each.value for each in hazards if each)
        return {**metrics, **self._recall()}

    def _recall(self) -> dict[str, Any]:
        excess: dict[str, float] = {}
        all_rows, all_controls = [], []
        for chat_format in self.recall_formats:
            rows = self._score(self.rows, [chat_format])
            controls = self._score(self.controls, [chat_format])
            if rows and controls:
                excess[chat_format.id] = _per_token(rows) - _per_token(controls)
                all_rows += rows
                all_controls += controls
        if not excess:
            return {}
        items = {"rows": _by_case(all_rows), "twins": _by_case(all_controls)}
        return {"recall": excess, "recall_items": items}

    def _score(
        self, cases: Sequence[Case], formats: Sequence[Format]
    ) -> list[tuple[str, Loglikelihood]]:
        """Every case in every format that can express it, with the case's id."""
        backend = TransformersBackend(self.loaded)
        requests: dict[str, ScoreRequest] = {}
        case_of: dict[str, str] = {}
        for planned in RequestBuilder(backend, 1).build(cases, formats):
            if isinstance(planned.request, ScoreRequest):
                requests[planned.key], case_of[planned.key] = planned.request, planned.case
        answers = (pair for batch in backend.score(list(requests.values())) for pair in batch)
        return [
            (case_of[key], scored)
            for key, all_scored in answers
            if not isinstance(all_scored, Unscored)
            for scored in all_scored
        ]


def _per_token(scored: Sequence[tuple[str, Loglikelihood]]) -> float:
    return fmean(each.logprob / max(1, each.tokens) for _, each in scored)


def _by_case(scored: Sequence[tuple[str, Loglikelihood]]) -> dict[str, float]:
    """Log-probability a token by case, mean over formats, rounded to 6 digits for the log."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for case, each in scored:
        values[case].append(each.logprob / max(1, each.tokens))
    return {case: round(fmean(numbers), 6) for case, numbers in values.items()}
