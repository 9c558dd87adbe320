"""harness eval MODEL: measure, write the report, print the verdicts."""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict

from harness.cli.arguments import parse
from harness.cli.eval_options import EvalOptions, job_of
from harness.cli.output import print_json
from harness.errors import EXIT_FINDINGS, EXIT_OK

#: The words that each value of --fail-on lets a run fail for.
FAILING = {"broken": ("broken",), "degraded": ("broken", "degraded")}


def evaluate(args: list[str]) -> int:
    """Measure a model across prompt formats and write report.html, report.md and report.json.

    Example: harness eval ./my-model --formats common --limit 40 --fail-on broken
    """
    options = parse(EvalOptions, args, "eval", evaluate.__doc__)
    from harness.api import write_files
    from harness.evaluation.analysis.format_verdicts import verdicts
    from harness.evaluation.analysis.terminal_lines import print_table, print_verdicts
    from harness.evaluation.run import run_adapters, run_job

    job = job_of(options)
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
    found = [verdicts(each) for each in evaluations]
    failing = FAILING[options.fail_on] if options.fail_on else ()
    failed = any(one.word in failing for of_one in found for one in of_one)
    code = EXIT_FINDINGS if failed else EXIT_OK
    if options.json:
        runs = [
            {
                "adapter": each.adapter,
                "verdicts": [asdict(one) for one in of_one],
                "cells": [asdict(cell) for cell in each.aggregates],
            }
            for each, of_one in zip(evaluations, found, strict=True)
        ]
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
