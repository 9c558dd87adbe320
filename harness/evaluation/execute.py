"""Requests → results in the results file: only what is missing is computed, by one evaluator."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from harness.backends.protocol import Answer, Backend, GenerateRequest, ScoreRequest
from harness.evaluation.requests import PlannedRequest
from harness.evaluation.results import Results
from harness.evaluation.store.cache_report import count_reuse, describe_reuse
from harness.evaluation.store.claims import Claims
from harness.evaluation.store.results_file import Store
from harness.progress import progress
from harness.records import Loglikelihood

FIRST_CLAIM = 64
CLAIM_S = 60.0
"""Seconds of work to claim at a time: short for evaluators that join, long enough for batches."""
_POLL_S = 0.2

Batches = Iterator[list[tuple[str, Any]]]


def execute(
    requests: Sequence[PlannedRequest],
    backend: Backend,
    store: Store,
    *,
    label: str = "evaluate",
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Compute what the store lacks, store it batch by batch, and return how many results that were.

    ``verbose`` first prints on standard error what is reused, and why the rest is not. Other
    evaluators may fill the same file: their claims are waited for, and computed here if they die.
    """
    if verbose:
        for line in describe_reuse(count_reuse(requests, store)):
            print(f"{label}: {line}", file=sys.stderr)
    missing = store.missing(item.key for item in requests)
    todo = sorted(
        {item.key: item for item in requests if item.key in missing}.values(),
        key=lambda item: -item.length,
    )
    if not todo:
        return 0
    scored = {item.key: item for item in todo if isinstance(item.request, ScoreRequest)}
    answered = {item.key: item for item in todo if isinstance(item.request, GenerateRequest)}
    with Claims(store) as claims:
        return sum(
            _compute(f"{label}: {name}", part, compute, claims, quiet)
            for name, part, compute in (
                ("score", scored, lambda some: _score(backend, some)),
                ("answer", answered, lambda some: _answer(backend, some)),
            )
        )


def _compute(
    name: str,
    todo: dict[str, PlannedRequest],
    compute: Callable[[Iterable[PlannedRequest]], Batches],
    claims: Claims,
    quiet: bool,
) -> int:
    """Claim a part, compute it, store it batch by batch, until nothing is missing."""
    pending = list(todo)
    computed = claimed = 0
    waiting = False
    most = FIRST_CLAIM
    with progress(name, len(todo), quiet=quiet, unit="cells") as bar:
        while pending:
            taken = claims.take(pending, most)
            gone = taken.stored.union(taken.mine)
            pending = [key for key in pending if key not in gone]
            bar.advance(len(taken.stored), "some by another evaluator" if taken.stored else "")
            if not taken.mine and pending:
                if not waiting and not quiet:
                    _warn(
                        f"{name}: waiting for {len(pending)} cells that another evaluator computes"
                    )
                waiting = True
                time.sleep(_POLL_S)
                continue
            claimed += len(taken.mine)
            began, before = time.monotonic(), computed
            try:
                for batch in compute(todo[key] for key in taken.mine):
                    claims.store.put([(todo[key], payload) for key, payload in batch])
                    computed += len(batch)
                    bar.advance(len(batch))
            finally:
                claims.release(taken.mine)  # what the engine left out, or never reached
            rate = (computed - before) / max(time.monotonic() - began, 1e-3)
            most = max(FIRST_CLAIM, int(rate * CLAIM_S))
    if claimed > computed and not quiet:
        _warn(f"{name}: the engine left out {claimed - computed} cells, which are not scored")
    return computed


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


def _score(backend: Backend, planned: Iterable[PlannedRequest]) -> Batches:
    requests = [item.request for item in planned if isinstance(item.request, ScoreRequest)]
    for batch in backend.score(requests):
        yield [(key, [_payload(scoring) for scoring in scorings]) for key, scorings in batch]


def _answer(backend: Backend, planned: Iterable[PlannedRequest]) -> Batches:
    requests = [item.request for item in planned if isinstance(item.request, GenerateRequest)]
    for batch in backend.generate(requests):
        yield [(key, _payload(answer)) for key, answer in batch]


def _payload(result: Answer | Loglikelihood) -> dict[str, Any]:
    return {field.name: getattr(result, field.name) for field in fields(result)}


def read_results(requests: Sequence[PlannedRequest], store: Store) -> Results:
    """The stored results of these requests. What is missing is left out."""
    payloads = store.get({item.key for item in requests})
    answers: dict[tuple[str, str, float], Answer] = {}
    scorings: dict[tuple[str, str], list[Loglikelihood]] = {}
    for item in requests:
        payload = payloads.get(item.key)
        if payload is None:
            continue
        if isinstance(item.request, ScoreRequest):
            scorings[item.case, item.format] = [
                Loglikelihood(**_with_tuples(scoring)) for scoring in payload
            ]
        else:
            answer = Answer(**_with_tuples(payload))
            answers[item.case, item.format, item.prefix_fraction] = answer
    return Results(answers, scorings)


def _with_tuples(payload: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in payload.items()
    }
