"""Answers to show in a report: the prompt, the answer, and what was noticed in it."""

from __future__ import annotations

from dataclasses import replace

from harness.backends.protocol import Answer, GenerateRequest
from harness.evaluation.results import Evaluation
from harness.evaluation.scorer import read_answer
from harness.metrics.drift import drift
from harness.metrics.phrases import find
from harness.metrics.roles import role_faults, users_of
from harness.metrics.stop import leaks
from harness.records import Case, Format
from harness.report.document import Highlight, ReportSample

#: Cases shown for each format.
SHOWN = 6


def samples(evaluation: Evaluation) -> list[ReportSample]:
    """The answers to a few cases in each format: the same cases in every format and run."""
    formats = {one.id: one for one in evaluation.formats}
    checked = [case for case in evaluation.cases if case.checks]
    shown = {case.id: case for case in checked[:: max(1, len(checked) // SHOWN)][:SHOWN]}
    scores: dict[tuple[str, str], dict[str, float | None]] = {}
    for score in evaluation.scores:
        if score.case in shown:
            scores.setdefault((score.case, score.format), {})[score.metric] = score.value
    chosen = []
    for planned in evaluation.requests:
        answer = evaluation.results.answers.get((planned.case, planned.format, 0.0))
        request, case = planned.request, shown.get(planned.case)
        if case is None or answer is None or not isinstance(request, GenerateRequest):
            continue
        chosen.append(
            ReportSample(
                run=evaluation.label,
                format=planned.format,
                case=planned.case,
                prompt=request.prompt.pieces,
                answer=answer.text,
                finish=answer.finish,
                scores=scores.get((planned.case, planned.format), {}),
                marks=_highlights(answer, case, formats[planned.format], evaluation),
                stop=answer.stop,
            )
        )
    return chosen


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
