"""The first screen of a report: the model, its verdicts with what to try, and a few facts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from harness.records import Verdict
from harness.report.document import Report, SummaryLine
from harness.report.sample_document import ReportSample
from harness.report.wording import (
    MINUS,
    MOST_LINES,
    WORD_SYMBOLS,
    evidence_text,
    shared_remedies,
    summed_up,
    trained_text,
    verdicts_of,
    visible,
    worst_first,
)

#: Words whose formats have a row each.
_ROWS = ("broken", "degraded")
#: The names of a summary's lines that the first screen shows, with their titles.
_FACTS = {
    "held-out gap closed": "Learnt",
    "held-out nll_excess reduction": "Learnt",
    "native nll change": "Own format",
    "native choice change": "Own format",
    "recall ": "Memorised",
    "language drift": "Language",
    "forged turns obeyed": "Forged turns",
}
_EXCERPT = 200
#: The hyphen of a negative number, as a terminal writes it; not that of a date or an option.
_NEGATIVE = re.compile(r"(?<![\w-])-(?=\d)")


def overview(report: Report, anchors: Mapping[str, set[str]]) -> dict[str, Any]:
    """What the template of the first screen asks for.

    ``anchors``: format → the cases that have a sample on the page, to which verdicts link.
    """
    found = worst_first(report.runs[-1].verdicts)
    before = verdicts_of(report, 0) if len(report.runs) > 1 else {}
    return {
        "name": report.model.name,
        "adapters": adapter_lines(report),
        "facts_line": _facts_line(report),
        "chips": _chips(report),
        "groups": [_group(word, found, before, anchors) for word in WORD_SYMBOLS],
        "worst": _worst_answer(report, found, anchors),
        "facts": _facts(report.summary),
    }


def adapter_lines(report: Report) -> list[str]:
    """What was measured beside the model: each run's adapter, and what that was trained on."""
    several = len(report.runs) > 1
    lines = []
    for run in report.runs:
        if not several and run.adapter is None:
            continue
        name = f"adapter {run.adapter}" if run.adapter else "no adapter"
        known = f"{run.label}: " if several and run.label != run.adapter else ""
        data = trained_text(run.trained_on, run.trained_formats)
        lines.append(known + ", ".join(filter(None, (name, data))))
    return lines


def _facts_line(report: Report) -> list[str]:
    settings = report.settings
    kinds = settings.get("cases_by_kind") or {}
    plural = {"choice": "choices", "answer": "answers", "reference": "references", "call": "calls"}
    sizes = ", ".join(f"{kinds[kind]} {name}" for kind, name in plural.items() if kind in kinds)
    files = ", ".join(PurePath(file).name for file in settings.get("case_files") or ())
    cases = sizes or f"{settings.get('cases', '?')} cases"
    cases = f"up to {cases}" if settings.get("asked") else cases
    return [
        f"{len(report.formats)} prompt formats",
        f"{cases}{f' of {files}' if files else ''}",
        f"native format {report.model.native_format or 'unknown'}",
        report.model.dtype,
        report.created[:10],
        *filter(None, [settings.get("asked")]),
    ]


def _chips(report: Report) -> list[dict[str, Any]]:
    """How many formats each word has, and how many it had before."""
    runs: list[list[str]] = [[verdict.word for verdict in run.verdicts] for run in report.runs]
    return [
        {
            "word": word,
            "count": runs[-1].count(word),
            "was": runs[0].count(word) if len(runs) > 1 else None,
        }
        for word in WORD_SYMBOLS
        if any(word in words for words in runs)
    ]


def _group(
    word: str,
    found: Sequence[Verdict],
    before: Mapping[str, Verdict],
    anchors: Mapping[str, set[str]],
) -> dict[str, Any]:
    """The formats of a word: with a row each, or together in one line."""
    these = [one for one in found if one.word == word]
    shown = these[:MOST_LINES] if word in _ROWS else []
    return {
        "word": word,
        "count": len(these),
        "rows": [
            {
                "format": one.format,
                "reason": one.reason,
                "was": _was(one, before),
                "evidence": evidence_text(one.evidence),
                "link": link_of(one, anchors),
            }
            for one in shown
        ],
        "try": [
            {"formats": names if len(names) < len(these) else (), **_command(text)}
            for names, text in shared_remedies(shown)
        ],
        "rest": [(one.format, _was(one, before)) for one in these[len(shown) :]],
        "more": word in _ROWS and len(these) > len(shown),
        "summed_up": "" if word in _ROWS else summed_up(word, these).removeprefix(": "),
    }


def _was(one: Verdict, before: Mapping[str, Verdict]) -> str:
    earlier = before.get(one.format)
    return earlier.word if earlier is not None and earlier.word != one.word else ""


def _command(text: str) -> dict[str, str]:
    """A remedy in two parts: words, and the command that they end with."""
    words, found, command = text.partition("harness ")
    return {"words": words, "command": found + command}


def link_of(verdict: Verdict, anchors: Mapping[str, set[str]]) -> str:
    """The id of the sample that speaks most for a verdict, or of its format's samples."""
    cases = anchors.get(verdict.format)
    if cases is None:
        return ""
    case = verdict.evidence.worst_case if verdict.evidence else ""
    return f"s-{verdict.format}.{case}" if case in cases else f"s-{verdict.format}"


def _worst_answer(
    report: Report, found: Sequence[Verdict], anchors: Mapping[str, set[str]]
) -> dict[str, Any] | None:
    """The worst answer in the worst format, in short."""
    samples = {(one.run, one.format, one.case): one for one in report.samples}
    for verdict in found:
        case = verdict.evidence.worst_case if verdict.evidence else ""
        sample = samples.get((report.runs[-1].label, verdict.format, case))
        if verdict.word in _ROWS and sample is not None:
            return {
                "format": verdict.format,
                "case": case,
                "link": link_of(verdict, anchors),
                "question": _excerpt(question_of(sample)),
                "answer": _excerpt(sample.answer),
                "expected": _excerpt(sample.expected),
                "kind": sample.kind,
                "finish": sample.finish,
                "right": sample.right,
            }
    return None


def question_of(sample: ReportSample) -> str:
    """The last text of a prompt that is somebody's own words."""
    texts = [text for text, kind in sample.prompt if kind == "content" and text.strip()]
    return texts[-1] if texts else ""


def _excerpt(text: str) -> str:
    joined = " ".join(text.split())
    return visible(joined[:_EXCERPT]) + ("…" if len(joined) > _EXCERPT else "")


def _facts(lines: Sequence[SummaryLine]) -> list[tuple[str, str]]:
    """(title, sentence) of the facts that the terminal prints below its verdicts."""
    found: dict[str, str] = {}
    for name, title in _FACTS.items():
        line = next((one for one in lines if one.name.startswith(name)), None)
        if line is not None and title not in found:
            found[title] = _NEGATIVE.sub(MINUS, line.text)
    return list(found.items())
