"""What is measured at a checkpoint: NLL of references, hazard, and recall of training rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.backends.local.backend import TransformersBackend
from harness.backends.protocol import GenerateRequest, ScoreRequest, Unscored
from harness.conversation import Conversation
from harness.evaluation.cases.case_files import limit_cases, load_cases, spread_evenly
from harness.evaluation.format_groups import NATIVE, native_format_id
from harness.evaluation.recall_rows import recall_cases, without_canaries
from harness.evaluation.requests import RequestBuilder
from harness.formats import load_formats
from harness.metrics.hazard import hazard
from harness.metrics.recall import ngram_score
from harness.records import Case, Format, Loglikelihood
from harness.resources import data_dir
from harness.training.selection.part_losses import PartLosses

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.training.preparation import Preparation

#: Tokens of the greedy answers whose n-grams are counted.
NGRAM_TOKENS = 48


class CheckpointMeasure:
    """Measures the model as it is: ``nll_<group>`` (nats a token), ``hazard_<group>``, ``recall``.

    Groups are the native, the seen and the held-out formats. ``recall`` is, for each format, the
    mean log-probability a token of training answers less that of controls that were never trained
    on, and is not there without controls; what counts is its gain since step 0 (docs/measures.md).
    ``ngram_score`` is the share of the answers' 5-grams in greedy answers in the first of the
    formats, of rows and of controls. ``nll_parts`` is, for each group, the NLL of controls by part
    (answers, thoughts, calls, stop), where these have thoughts or calls. Every checkpoint is
    measured on the same items.

    Next to the means are the values by item, which a bootstrap needs. ``nll_items_<group>`` has the
    nats a token of each reference, and ``recall_items`` the log-probability a token of each
    training answer and each control, both as means over formats.
    """

    def __init__(
        self, ready: Preparation, trained_on: Sequence[Conversation], loaded: LoadedModel
    ) -> None:
        """``trained_on``: the rows of ``ready`` that were not refused when they were encoded."""
        settings = ready.config.evaluation
        native_id = native_format_id(loaded.tokenizer, load_formats().values()) or NATIVE
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
            given = [row for row in trained_on if row.id in ready.rows.set_of]
            # Answers of the model's own are of another origin than the controls' answers.
            controls = ready.rows.controls if given else ()
            self.rows, self.controls = (
                spread_evenly(recall_cases(without_canaries(side)), settings.recall_rows)
                for side in (given or trained_on, controls)
            )

        controls = ready.rows.controls if ready.rows.set_aside else ()
        self.parts = PartLosses(controls, self.groups, loaded, settings.recall_rows)

    def __bool__(self) -> bool:
        return bool(self.references or self.rows or self.parts)

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
        parts = {"nll_parts": self.parts()} if self.parts else {}
        return {**metrics, **parts, **self._recall(), **self._ngram_score()}

    def _recall(self) -> dict[str, Any]:
        excess: dict[str, float] = {}
        all_rows, all_controls = [], []
        for chat_format in self.recall_formats:
            rows = self._score(self.rows, [chat_format])
            controls = self._score(self.controls, [chat_format])
            if rows and (controls or not self.controls):
                all_rows += rows
                all_controls += controls
            if rows and controls:
                excess[chat_format.id] = _per_token(rows) - _per_token(controls)
        if not all_rows:
            return {}
        items = {"rows": _by_case(all_rows), "controls": _by_case(all_controls)}
        return {"recall": excess, "recall_items": items} if excess else {"recall_items": items}

    def _ngram_score(self) -> dict[str, Any]:
        """An early warning: it rises before whole answers come back."""
        formats = self.recall_formats[:1]
        sides = {"rows": self.rows, "controls": self.controls}
        scores = {name: self._ngram_scores(cases, formats) for name, cases in sides.items()}
        means = {name: round(fmean(values), 6) for name, values in scores.items() if values}
        return {"ngram_score": means} if means else {}

    def _ngram_scores(self, cases: Sequence[Case], formats: Sequence[Format]) -> list[float]:
        backend = TransformersBackend.steady(self.loaded)
        references = {case.id: case.reference or "" for case in cases}
        planned = {
            one.key: one
            for one in RequestBuilder(backend, NGRAM_TOKENS).build_continuations(
                cases, formats, (0.0,), NGRAM_TOKENS
            )
        }
        requests = [one.request for one in planned.values()]
        scores = []
        for batch in backend.generate(
            [each for each in requests if isinstance(each, GenerateRequest)]
        ):
            for key, answer in batch:
                if isinstance(answer, Unscored):
                    continue
                wanted = references[planned[key].case]
                if answer.finish != "stop":  # then it is compared as far as it goes
                    wanted = wanted[: len(answer.text)]
                scores.append(ngram_score(answer.text, wanted))
        return [score for score in scores if score is not None]

    def _score(
        self, cases: Sequence[Case], formats: Sequence[Format]
    ) -> list[tuple[str, Loglikelihood]]:
        """Every case in every format that can express it, with the case's id."""
        backend = TransformersBackend.steady(self.loaded)
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
