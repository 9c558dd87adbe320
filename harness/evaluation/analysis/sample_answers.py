"""Answers to show: the prompt with its scaffolding, the answer, and what in it was noticed."""

from __future__ import annotations

from typing import Any

from harness.backends.protocol import Answer, GenerateRequest
from harness.evaluation.results import Evaluation
from harness.metrics.drift import drift
from harness.metrics.phrases import find
from harness.metrics.roles import role_faults, users_of
from harness.metrics.stop import leaks
from harness.records import Case, Format

#: Cases shown per format. The rest are numbers in the cells.
SHOWN = 6


def samples(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The first few answered cases of each format, the same cases in every format and run."""
    formats = {format.id: format for format in evaluation.formats}
    answered = [case for case in evaluation.cases if case.checks]
    shown = {case.id: case for case in answered[:: max(1, len(answered) // SHOWN)][:SHOWN]}
    scores: dict[tuple[str, str], dict[str, float | None]] = {}
    for score in evaluation.scores:
        if score.case in shown:
            scores.setdefault((score.case, score.format), {})[score.metric] = score.value
    found = []
    for work in evaluation.requests:
        answer = evaluation.results.answers.get((work.case, work.format, 0.0))
        if (
            work.case not in shown
            or answer is None
            or not isinstance(work.request, GenerateRequest)
        ):
            continue
        prompt = work.request.prompt
        found.append(
            {
                "run": evaluation.label,
                "format": work.format,
                "case": work.case,
                "prompt": [[prompt.text[s.start : s.end], s.kind] for s in prompt.spans],
                "answer": answer.text,
                "stop": answer.stop,
                "finish": answer.finish,
                "scores": scores.get((work.case, work.format), {}),
                "marks": _marks(answer, shown[work.case], formats[work.format], evaluation),
            }
        )
    return found


def _marks(
    answer: Answer, case: Case, format: Format, evaluation: Evaluation
) -> list[dict[str, Any]]:
    prompt = "\n".join(message.content for message in case.messages)
    marks: list[dict[str, Any]] = []
    if evaluation.control_index is not None:
        marks += [
            {
                "start": leak.start,
                "end": leak.end,
                "kind": "leak",
                "note": "control text of " + ", ".join(leak.formats[:3]),
            }
            for leak in leaks(answer.text, evaluation.control_index, format, prompt)
        ]
    marks += [
        {"start": hit.start, "end": hit.end, "kind": "gptism", "note": hit.kind}
        for hit in find(answer.text)
    ]
    marks += [
        {"start": at, "end": at + 1, "kind": "drift", "note": "letter of another script"}
        for at in drift(answer.text, (case.expect_language,), prompt).off_script_chars
    ]
    if case.name:
        marks += [
            {"start": f.start, "end": f.end, "kind": "role", "note": f.kind}
            for f in role_faults(answer.text, case.name, users_of(case))
        ]
    hit = evaluation.training_index.query(answer.text) if evaluation.training_index else None
    if hit is not None and hit.near and hit.span is not None:
        marks.append(
            {
                "start": hit.span[0],
                "end": hit.span[1],
                "kind": "recall",
                "note": f"{hit.span_words} words of the training answer {hit.source}",
            }
        )
    return sorted(marks, key=lambda mark: (mark["start"], mark["end"]))
