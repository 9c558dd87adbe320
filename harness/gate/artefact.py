"""A shipped artefact, judged by the baseline of the model that it was made of.

It is measured in its own runtime: a GGUF file in llama.cpp, a name on a server by its API. What
only the training run knows, such as the formats that were trained, comes from the baseline, or
both would be asked different things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.gate.baseline import Baseline
from harness.records import Format, GateCheck

if TYPE_CHECKING:
    from harness.evaluation.settings import EvalJob


def artefact_job(
    job: EvalJob, artefact: str, before: Baseline, known: Mapping[str, Format]
) -> EvalJob:
    """The job of the trained model with the artefact in its place."""
    seen = {
        known[name].family
        for name, fact in before.formats.items()
        if fact.group == "seen" and name in known
    }
    in_llamacpp = artefact.endswith(".gguf") and job.engine == "auto"
    return replace(
        job,
        model=artefact,
        adapter=None,
        native=before.native,
        trained_families=tuple(sorted(seen)),
        engine="llamacpp" if in_llamacpp else job.engine,
    )


def without_loglikelihood(checks: Sequence[GateCheck], why: str) -> list[GateCheck]:
    """The checks of a runtime that gives no log-probabilities, for the reason ``why``.

    What it cannot measure is inconclusive, neither lost nor passed. Any other reason for a missing
    metric still fails.
    """
    return [
        replace(check, outcome="inconclusive")
        if why and check.outcome == "missing" and check.why == why
        else check
        for check in checks
    ]


def not_compared(checks: Sequence[GateCheck], why: str) -> list[str]:
    """A line for the summary: which metrics the runtime cannot measure, and why."""
    names = sorted({check.metric for check in checks if why and check.why == why})
    return [f"not compared in this runtime: {', '.join(names)}: {why}"] if names else []
