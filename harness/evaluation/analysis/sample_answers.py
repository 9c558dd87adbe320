"""Answers to show in a report: the prompt, the answer, and what was noticed in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.backends.protocol import Answer, GenerateRequest, ScoreRequest
from harness.evaluation.analysis.case_outcomes import is_right, scores_of, shown_cases
from harness.evaluation.cases.case_files import kind_of
from harness.evaluation.cases.expected_answer import expected_answer
from harness.evaluation.requests import PlannedRequest
from harness.evaluation.results import Evaluation
from harness.evaluation.scorer import read_answer
from harness.metrics.choice import picked
from harness.metrics.drift import drift
from harness.metrics.phrases import find
from harness.metrics.roles import role_faults, users_of
from harness.metrics.stop import leaks
from harness.records import Case, Format, Loglikelihood
from harness.report.sample_document import Highlight, Pieces, ReportSample, ShownOption


def samples(
    evaluation: Evaluation, shown: Mapping[str, Sequence[str]] | None = None
) -> list[ReportSample]:
    """The answers to ``shown`` (format → cases), by default ``shown_cases``, in this order."""
    chosen = shown_cases([evaluation]) if shown is None else shown
    formats = {one.id: one for one in evaluation.formats}
    cases = {case.id: case for case in evaluation.cases}
    planned = {(one.case, one.format): one for one in evaluation.requests}
    scores = scores_of(evaluation)
    found = []
    for name, ids in chosen.items():
        for place in ((case, name) for case in ids if (case, name) in planned):
            case, of_case = cases[place[0]], scores.get(place, {})
            if (answer := _answered(case, planned[place], evaluation)) is None:
                continue
            sample = ReportSample(
                run=evaluation.label,
                format=name,
                case=case.id,
                prompt=_prompt(planned[place].request),
                answer="",
                finish="stop",
                scores=of_case,
                marks=(),
                kind=kind_of(case),
                expected=expected_answer(case),
                right=is_right(of_case),
            )
            if isinstance(answer, Answer):
                marks = _highlights(answer, case, formats[name], evaluation)
                sample = replace(sample, answer=answer.text, finish=answer.finish, marks=marks)
                found.append(replace(sample, stop=answer.stop))
            else:
                found.append(replace(sample, **_scored(case, answer)))
    return found


def _prompt(request: GenerateRequest | ScoreRequest) -> Pieces:
    """What the model read before the answer."""
    if isinstance(request, GenerateRequest):
        return request.prompt.pieces
    pieces = request.answers[0].pieces
    last = max((at for at, (_, kind) in enumerate(pieces) if kind == "content"), default=0)
    return pieces[:last]


def _answered(
    case: Case, planned: PlannedRequest, evaluation: Evaluation
) -> Answer | Sequence[Loglikelihood] | None:
    """The answer to a case, or the log-probabilities of its options or of its reference."""
    place = (case.id, planned.format)
    if isinstance(planned.request, GenerateRequest):
        return evaluation.results.answers.get((*place, 0.0))
    return evaluation.results.scorings.get(place)


def _scored(case: Case, scorings: Sequence[Loglikelihood]) -> dict[str, Any]:
    """The picked option and all of them, or the reference."""
    if not case.choices:
        return {"answer": case.reference or ""}
    options = tuple(
        ShownOption(text, one.logprob) for text, one in zip(case.choices, scorings, strict=True)
    )
    return {"answer": case.choices[picked(scorings)], "options": options}


def _highlights(
    answer: Answer, case: Case, chat_format: Format, evaluation: Evaluation
) -> tuple[Highlight, ...]:
    """Control text, canned phrases, other scripts, role faults and copies of training answers.

    They are sought in the answer's words, and what is around these is marked as thought or call.
    """
    opened = evaluation.results.opened.get((case.id, chat_format.id), "")
    parsed = read_answer(answer, case, chat_format, opened)
    text = answer.text if parsed is None else parsed.content
    at = answer.text.rfind(text)
    marks = _in_words(text, case, chat_format, evaluation)
    if at < 0 or text == answer.text:
        return tuple(marks) if at == 0 else ()
    marks = [replace(mark, start=mark.start + at, end=mark.end + at) for mark in marks]
    for start, end in ((0, at), (at + len(text), len(answer.text))):
        marks += [Highlight(start, end, "thought", "thought or call")] if start < end else []
    return tuple(sorted(marks, key=lambda mark: (mark.start, mark.end)))


def _in_words(
    text: str, case: Case, chat_format: Format, evaluation: Evaluation
) -> list[Highlight]:
    prompt = "\n".join(message.content for message in case.messages)
    marks: list[Highlight] = []
    if evaluation.control_index is not None:
        marks += [
            Highlight(
                leak.start, leak.end, "leak", f"control text of {', '.join(leak.formats[:3])}"
            )
            for leak in leaks(text, evaluation.control_index, chat_format, prompt)
        ]
    marks += [Highlight(hit.start, hit.end, "gptism", hit.kind) for hit in find(text)]
    marks += [
        Highlight(at, at + 1, "drift", "letter of another script")
        for at in drift(text, case.expect_language, prompt).off_script_chars
    ]
    if case.name:
        marks += [
            Highlight(fault.start, fault.end, "role", fault.kind)
            for fault in role_faults(text, case.name, users_of(case))
        ]
    hit = evaluation.training_index.query(text) if evaluation.training_index else None
    if hit is not None and hit.near and hit.span is not None:
        note = f"{hit.span_words} words of the training answer {hit.source}"
        marks.append(Highlight(*hit.span, "recall", note))
    return sorted(marks, key=lambda mark: (mark.start, mark.end))
