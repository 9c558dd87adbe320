"""harness eval MODEL: measure, write the report, print the table."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path

from harness.cli.arguments import parse
from harness.cli.evaluate_options import EvalOptions, eval_job
from harness.errors import EXIT_OK


def evaluate(args: list[str]) -> int:
    """Measure a model across prompt formats and write report.html, report.md and report.json."""
    options = parse(
        EvalOptions,
        args,
        "eval",
        "Measure a model across prompt formats and write report.html, report.md and report.json.",
    )
    from harness.evaluation.analysis.build_report import print_table, write_evaluation_report
    from harness.evaluation.run import run_adapters, run_job
    from harness.gate.baseline import to_baseline
    from harness.gate.baseline_file import SCORES_FILE, write_baseline

    job = eval_job(options)
    out, several = Path(options.out), len(options.adapter) > 1
    with (
        redirect_stdout(sys.stderr) if job.engine == "ray" else nullcontext()
    ):  # Ray tells of a dead worker on standard output
        if several:
            evaluations = run_adapters(
                job, options.adapter, quiet=options.json, verbose=options.verbose
            )
        else:
            evaluations = [run_job(job, quiet=options.json, verbose=options.verbose)]
    paths = write_evaluation_report(evaluations, out, model=options.model, limit=options.limit)
    scores = [
        (out / evaluation.label if several else out) / SCORES_FILE for evaluation in evaluations
    ]
    for evaluation, path in zip(evaluations, scores, strict=True):
        write_baseline(to_baseline(evaluation, job.formats), path)
    if options.json:
        runs = [
            {"adapter": evaluation.adapter, "cells": [asdict(cell) for cell in evaluation.aggregates]}
            for evaluation in evaluations
        ]
        print(
            json.dumps(
                {
                    "model": evaluations[0].model,
                    **({"runs": runs} if several else {"cells": runs[0]["cells"]}),
                }
            )
        )
        return EXIT_OK
    print_table(evaluations)
    print(f"report: {next(path for path in paths if path.suffix == '.html')}")
    print(
        f"next: harness compare {scores[0].parent} {scores[-1].parent if several else 'OTHER'}, or keep {scores[-1]} as a gate's baseline"
    )
    return EXIT_OK
