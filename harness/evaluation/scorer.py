"""Results → scores: each metric of each case in each format. Pure, so a new metric needs no run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness.backends.protocol import Answer
from harness.conversation import ParsedAnswer
from harness.evaluation.cases.case_files import kind_of
from harness.evaluation.cases.variants import with_challenge
from harness.evaluation.requests import Untestable, format_asked
from harness.evaluation.results import NOT_COMPUTED, Results
from harness.formats.parse import parse_answer
from harness.formats.render import resolved_stops
from harness.metrics.control_strings import control_strings
from harness.metrics.copies.recall_index import RecallIndex
from harness.metrics.registry import METRICS, AnswerItem, ChoiceItem, ReferenceItem
from harness.records import Case, Format, Score

Values = dict[str, tuple[float | None, str]]


class Scorer:
    """Scores the results of one model.

    ``native`` is the format that NLL excess is measured against. With a ``corpus``, the training
    set's answers, each answer is searched for copies of it.
    """

    def __init__(
        self,
        formats: Sequence[Format],
        native: str | None,
        every_format: Iterable[Format],
        corpus: RecallIndex | None = None,
    ) -> None:
        self.formats = {chat_format.id: chat_format for chat_format in formats}
        self.native = native
        self.corpus = corpus
        self.index = control_strings(every_format)

    def score(
        self, cases: Sequence[Case], results: Results, untestable: Iterable[Untestable]
    ) -> list[Score]:
        """All scores, in the order of cases, formats and metrics."""
        reasons = {(item.case, item.format): item.why for item in untestable}
        scores: list[Score] = []
        for case in cases:
            for chat_format in self.formats.values():
                why_not = reasons.get((case.id, chat_format.id))
                for metric, (value, why) in self.values(
                    case, chat_format, results, why_not
                ).items():
                    scores.append(Score(case.id, chat_format.id, metric, value, why))
        return scores

    def values(
        self, case: Case, chat_format: Format, results: Results, why_not: str | None = None
    ) -> Values:
        """Each metric of one case in one format, with its reason.

        ``why_not`` says why there is no result, where there cannot be one.
        """
        kind = kind_of(case)
        item = self._item(case, chat_format, results)
        why_not = why_not or results.unscored.get((case.id, chat_format.id))
        if item is None:
            return {
                metric.name: (None, why_not or NOT_COMPUTED)
                for metric in METRICS.computed(kind)
                if not metric.optional
            }
        values: Values = {}
        for scorer in METRICS.scorers(kind):
            values |= scorer(item)
        return values

    def _item(
        self, case: Case, chat_format: Format, results: Results
    ) -> ChoiceItem | AnswerItem | ReferenceItem | None:
        place = (case.id, chat_format.id)
        if case.checks:
            answer = results.answers.get((*place, 0.0))
            if answer is None:
                return None
            opened = results.opened.get(place, "")
            return self._answer_item(case, chat_format, answer, opened)
        scorings = results.scorings.get(place)
        if scorings is None:
            return None
        if case.choices:
            doubted = results.scorings.get((with_challenge(case).id, chat_format.id))
            return ChoiceItem(case, chat_format, scorings, doubted)
        native = results.scorings.get((case.id, self.native)) if self.native else None
        return ReferenceItem(case, chat_format, scorings[0], native[0] if native else None)

    def _answer_item(
        self, case: Case, chat_format: Format, answer: Answer, opened: str
    ) -> AnswerItem:
        parsed = read_answer(answer, case, chat_format, opened)
        asked = format_asked(case, chat_format)
        return AnswerItem(
            case,
            chat_format,
            answer.text if parsed is None else parsed.content,
            answer.finish,
            answer.token_ids,
            answer.off_script,
            resolved_stops(chat_format, case.conversation, case.name),
            self.index,
            self.corpus,
            parsed,
            None if chat_format.reasoning == "none" else asked.thinks,
        )


def read_answer(
    answer: Answer, case: Case, chat_format: Format, opened: str = ""
) -> ParsedAnswer | None:
    """The thought, words and calls of an answer; None in a format that has words alone.

    ``opened`` is what the prompt has written of the thought.
    """
    thinks = chat_format.reasoning != "none"
    if answer.parsed is not None:
        return answer.parsed if thinks else replace(answer.parsed, reasoning=None)
    if not thinks and not chat_format.calls:
        return None
    return parse_answer(answer.text, chat_format, opened=opened, tools=case.tools)
