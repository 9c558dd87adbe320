"""Evaluations → the report document and its files."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.conversation import Conversation, Message
from harness.evaluation.analysis.across_formats import across_rows, changes
from harness.evaluation.analysis.budget_report import budget_report
from harness.evaluation.analysis.case_outcomes import case_rows, shown_cases
from harness.evaluation.analysis.confidence import confidence_report
from harness.evaluation.analysis.depth import depth_rows
from harness.evaluation.analysis.format_verdicts import verdicts
from harness.evaluation.analysis.phrase_report import phrase_report
from harness.evaluation.analysis.sample_answers import samples
from harness.evaluation.analysis.summary import spread_rows, summary
from harness.evaluation.cases.case_files import kind_of
from harness.evaluation.results import Evaluation
from harness.formats.render import render
from harness.metrics.registry import METRICS, in_order
from harness.records import Format
from harness.report.document import FormatFacts, ModelFacts, Report, Run, Training
from harness.report.write import write_report
from harness.run_file import trained_on
from harness.version import __version__


def build_report(
    evaluations: Sequence[Evaluation],
    *,
    model: str,
    limit: int | None = None,
    training: Training | None = None,
    cases: Sequence[str] = (),
) -> Report:
    """One report of one or two evaluations (before, after) of the same model on the same cases.

    ``cases`` are the files or sets that a user named; none are the shipped ones.
    """
    last = evaluations[-1]
    found = [tuple(verdicts(evaluation)) for evaluation in evaluations]
    shown = shown_cases(evaluations, [one for of_run in reversed(found) for one in of_run])
    facts = last.fingerprint
    budgets = [budget_report(evaluation) for evaluation in evaluations]
    recalls = [(evaluation.label, evaluation.recall) for evaluation in evaluations]
    return Report(
        title=f"Format compatibility of {last.model}"
        + (f" with adapter {last.adapter}" if last.adapter else ""),
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        model=ModelFacts(
            name=last.model,
            digest=facts["model"],
            dtype=" ".join(filter(None, (facts["dtype"], facts.get("quantisation")))),
            native_format=last.native,
            asked_for=model,
        ),
        environment=environment(),
        settings={
            **last.settings.as_dict(),
            "cases": len(last.cases),
            "cases_by_kind": dict(Counter(map(kind_of, last.cases))),
            "case_files": list(cases),
            "asked": last.first_look.text if last.first_look is not None else "",
            "limit_per_kind": limit,
            "backend": facts["backend"],
        },
        formats=tuple(_format_facts(one, last) for one in last.formats),
        runs=tuple(
            Run(
                evaluation.label,
                evaluation.adapter,
                evaluation.aggregates,
                of_run,
                *trained_on(evaluation.adapter),
            )
            for evaluation, of_run in zip(evaluations, found, strict=True)
        ),
        metrics=tuple(
            METRICS[name]
            for name in in_order(one.metric for e in evaluations for one in e.aggregates)
        ),
        summary=tuple(summary(evaluations)),
        spread=tuple(row for evaluation in evaluations for row in spread_rows(evaluation)),
        across=tuple(row for evaluation in evaluations for row in across_rows(evaluation)),
        changes=tuple(changes(*evaluations)) if len(evaluations) == 2 else (),
        budget=tuple(budget for budget in budgets if budget is not None),
        recall=tuple(row for _, table in recalls if table for row in table.rows),
        separations=tuple(row for _, table in recalls if table for row in table.separations),
        format_leak=tuple({"run": run, **table.format_leak} for run, table in recalls if table),
        confidence=tuple(confidence_report(evaluation) for evaluation in evaluations),
        depth=tuple(row for evaluation in evaluations for row in depth_rows(evaluation)),
        phrases=phrase_report(evaluations),
        samples=tuple(
            sample for evaluation in evaluations for sample in samples(evaluation, shown)
        ),
        grid=case_rows(evaluations),
        training=training,
    )


def write_evaluation_report(
    evaluations: Sequence[Evaluation],
    folder: Path,
    *,
    model: str,
    limit: int | None = None,
    training: Training | None = None,
    cases: Sequence[str] = (),
) -> list[Path]:
    """Write report.json, report.md and report.html."""
    report = build_report(evaluations, model=model, limit=limit, training=training, cases=cases)
    return list(write_report(report, folder))


def environment() -> dict[str, Any]:
    """What the numbers were computed with; without torch installed, only what needs none."""
    facts = {
        "harness": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    if find_spec("torch") is None:
        return facts
    import torch
    import transformers

    return {
        **facts,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def _format_facts(chat_format: Format, evaluation: Evaluation) -> FormatFacts:
    messages = (
        Message("user", "Hello"),
        Message("assistant", "Hi there"),
        Message("user", "How are you?"),
    )
    rendered = render(
        Conversation("example", messages),
        chat_format,
        add_generation_prompt=True,
        bos_token="",
        eos_token="<eos>",
    )
    return FormatFacts(
        id=chat_format.id,
        family=chat_format.family,
        group=evaluation.groups[chat_format.id],
        digest=chat_format.digest,
        stops=rendered.stops,
        example=rendered.pieces,
        origin=chat_format.origin,
    )
