"""harness eval MODEL: measure, write the report, print the verdicts."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.cli.arguments import parse
from harness.cli.eval_job import job_of
from harness.cli.eval_options import EvalOptions
from harness.cli.output import print_json
from harness.errors import EXIT_FINDINGS, EXIT_OK
from harness.report.wording import group_names

if TYPE_CHECKING:
    from harness.evaluation.forecast import Forecast
    from harness.evaluation.results import Evaluation
    from harness.evaluation.settings import EvalJob
    from harness.records import Verdict

#: The words that each value of --fail-on lets a run fail for.
FAILING = {"broken": ("broken",), "degraded": ("broken", "degraded")}


def evaluate(args: list[str]) -> int:
    """Measure a model across prompt formats and write report.html, report.md and report.json.

    Example: harness eval ./my-model --formats common --cases-per-format 40 --fail-on broken
    """
    options = parse(EvalOptions, args, "eval", evaluate.__doc__)
    from harness.api import write_files
    from harness.evaluation.analysis.format_verdicts import verdicts
    from harness.evaluation.analysis.logged_numbers import track_evaluation
    from harness.evaluation.analysis.terminal_lines import print_table, print_verdicts
    from harness.evaluation.run import run_adapters, run_job
    from harness.tracking import check_trackers

    check_trackers(options.report_to)
    job = job_of(options)
    if options.dry_run:
        return _dry_run(job, max(1, len(options.adapter)), as_json=options.json)
    several = len(options.adapter) > 1
    # Ray reports a dead worker on standard output.
    with redirect_stdout(sys.stderr) if job.engine == "ray" else nullcontext():
        if several:
            evaluations = run_adapters(
                job, options.adapter, quiet=options.json, verbose=options.verbose
            )
        else:
            evaluations = [run_job(job, quiet=options.json, verbose=options.verbose)]
    for each in evaluations:
        each.refuse_if_nothing_scored()
    paths = write_files(evaluations, job)
    for each in evaluations:
        name = options.run_name or job.out.resolve().name
        track_evaluation(
            each,
            options.report_to,
            job.out / each.label if several else job.out,
            project=options.project,
            run_name=f"{name} {each.label}" if several else name,
        )
    found = [verdicts(each) for each in evaluations]
    failing = FAILING[options.fail_on] if options.fail_on else ()
    failed = any(one.word in failing for of_one in found for one in of_one)
    code = EXIT_FINDINGS if failed else EXIT_OK
    if options.json:
        runs = [_as_dict(each, of_one) for each, of_one in zip(evaluations, found, strict=True)]
        result = {"runs": runs} if several else runs[0]
        print_json({"model": evaluations[0].model, **result})
        return code
    for each, of_one in zip(evaluations, found, strict=True):
        print_verdicts([each], [of_one])
        print()
    if options.table:
        print_table(evaluations)
        print()
    print(f"report: {next(path for path in paths if path.suffix == '.html')}")
    print(f"next: harness view {shlex.quote(str(job.out))}")
    if failed:
        print(f"exit code {code}: --fail-on {options.fail_on}")
    return code


def _as_dict(evaluation: Evaluation, found: Sequence[Verdict]) -> dict[str, Any]:
    """An evaluation as ``--json`` prints it."""
    return {
        "adapter": evaluation.adapter,
        "first_look": evaluation.first_look and evaluation.first_look.as_dict(),
        "verdicts": [asdict(one) for one in found],
        "cells": [asdict(cell) for cell in evaluation.aggregates],
    }


def _dry_run(job: EvalJob, runs: int, *, as_json: bool) -> int:
    """Print what the job would ask of each of ``runs`` adapters."""
    from harness.evaluation.forecast import forecast

    found = forecast(job)
    if as_json:
        print_json({**found.as_dict(), "runs": runs}, indent=1)
        return EXIT_OK
    model = f"{found.model} with adapter {found.adapter}" if found.adapter else found.model
    formats = f"{len(found.formats)} format{'s' * (len(found.formats) != 1)}"
    print(f"{model}: {formats}, its own is {found.native or 'not known'}")
    groups = group_names(found.formats.values())
    for group, title in groups.items():
        if names := [name for name, of in found.formats.items() if of == group]:
            print(f"{title} formats: {', '.join(names)}")
    print(f"cases: {_counts(found.cases)}")
    first = "first round: " if found.first_look else ""
    untestable = f"; {found.untestable} cannot be asked" if found.untestable else ""
    print(f"requests: {first}{_counts(found.requests)}{untestable}; at most {found.most_requests}")
    if found.tokens:
        print(f"tokens: at most {found.tokens[0]} read and {found.tokens[1]} generated")
    print(f"time: {_time(found)}" + (f", for each of {runs} adapters" if runs > 1 else ""))
    if found.stored:
        print(f"stored already: {found.stored}; what it has is not computed again")
    return EXIT_OK


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "none"


def _time(found: Forecast) -> str:
    """Both ends: no token is generated, and every answer runs to the limit."""
    if found.seconds is None or found.speed is None:
        return "not estimated: it is not measured how fast this engine runs this model"
    least, most = map(_duration, found.seconds)
    return (
        f"{least} if every answer is empty, to {most} if none ends by itself (estimated for "
        f"{found.speed.parameters / 1e6:.0f}M weights in {found.speed.dtype} on "
        f"{found.speed.device})"
    )


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "less than 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
