"""Work × backend → results in the store. Only what is missing is computed, and by one evaluator alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from harness.backends.protocol import Answer, Backend, GenerateRequest, ScoreRequest
from harness.evaluation.requests import Work
from harness.evaluation.results import Results
from harness.evaluation.store.cache_report import reuse, reuse_lines
from harness.evaluation.store.claims import Claims
from harness.evaluation.store.results_file import Store
from harness.progress import progress
from harness.records import Loglikelihood

FIRST_CLAIM = 64
CLAIM_S = 60.0
"""Claim about so many seconds of work at a time: whoever joins waits no longer than that, and batches stay full."""
_POLL_S = 0.2

Batches = Iterator[list[tuple[str, Any]]]


def run(
    work: Sequence[Work],
    backend: Backend,
    store: Store,
    *,
    label: str = "evaluate",
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Compute what the store lacks, storing batch by batch. Returns how many pieces were computed here.

    With ``verbose`` it says first on standard error what is reused, and why the rest is not. Other evaluators may fill the same file: what they claimed is waited for, and computed here when they die.
    """
    if verbose:
        for line in reuse_lines(reuse(work, store)):
            print(f"{label}: {line}", file=sys.stderr)
    missing = store.missing(item.key for item in work)
    todo = sorted(
        {item.key: item for item in work if item.key in missing}.values(),
        key=lambda item: -item.length,
    )
    scores = {item.key: item for item in todo if isinstance(item.request, ScoreRequest)}
    texts = {item.key: item for item in todo if isinstance(item.request, GenerateRequest)}
    if not todo:
        return 0
    with Claims(store) as claims:
        done = _compute(
            f"{label}: score", scores, lambda some: _scored(backend, some), claims, quiet
        )
        return done + _compute(
            f"{label}: answer", texts, lambda some: _answered(backend, some), claims, quiet
        )


def _compute(
    name: str,
    todo: dict[str, Work],
    compute: Callable[[Iterable[Work]], Batches],
    claims: Claims,
    quiet: bool,
) -> int:
    """One phase: claim a part, compute it, store it batch by batch, until nothing is missing."""
    pending = list(todo)
    computed = claimed = 0
    waited = False
    most = FIRST_CLAIM
    with progress(name, len(todo), quiet=quiet, unit="cells") as bar:
        while pending:
            taken = claims.take(pending, most)
            gone = taken.stored.union(taken.mine)
            pending = [key for key in pending if key not in gone]
            bar.advance(len(taken.stored), "some by another evaluator" if taken.stored else "")
            if not taken.mine and pending:
                waited = waited or _tell_of_waiting(name, len(pending), quiet)
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
            most = max(
                FIRST_CLAIM,
                int((computed - before) / max(time.monotonic() - began, 1e-3) * CLAIM_S),
            )
    if claimed > computed and not quiet:
        print(
            f"{name}: the engine left out {claimed - computed} cells, which are not scored",
            file=sys.stderr,
        )
    return computed


def _tell_of_waiting(name: str, cells: int, quiet: bool) -> bool:
    if not quiet:
        print(f"{name}: waiting for {cells} cells that another evaluator computes", file=sys.stderr)
    return True


def _scored(backend: Backend, work: Iterable[Work]) -> Batches:
    requests = [item.request for item in work if isinstance(item.request, ScoreRequest)]
    for batch in backend.score(requests):
        yield [
            (key, [_scoring_payload(scoring) for scoring in scorings]) for key, scorings in batch
        ]


def _answered(backend: Backend, work: Iterable[Work]) -> Batches:
    requests = [item.request for item in work if isinstance(item.request, GenerateRequest)]
    for batch in backend.generate(requests):
        yield [(key, _answer_payload(answer)) for key, answer in batch]


def read(work: Sequence[Work], store: Store) -> Results:
    """The stored results of this work. What is missing is left out."""
    payloads = store.get({item.key for item in work})
    answers: dict[tuple[str, str, float], Answer] = {}
    scorings: dict[tuple[str, str], list[Loglikelihood]] = {}
    for item in work:
        payload = payloads.get(item.key)
        if payload is None:
            continue
        if isinstance(item.request, ScoreRequest):
            scorings[item.case, item.format] = [
                Loglikelihood(
                    s["logprob"], s["tokens"], tuple(s["token_logprobs"]), tuple(s["off_script"])
                )
                for s in payload
            ]
        else:
            answers[item.case, item.format, item.share] = Answer(
                payload["text"],
                payload["finish"],
                payload["stop"],
                tuple(payload["token_ids"]),
                tuple(payload["off_script"]),
            )
    return Results(answers, scorings)


def _scoring_payload(scoring: Loglikelihood) -> dict[str, Any]:
    return {
        "logprob": scoring.logprob,
        "tokens": scoring.tokens,
        "token_logprobs": scoring.token_logprobs,
        "off_script": scoring.off_script,
    }


def _answer_payload(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "finish": answer.finish,
        "stop": answer.stop,
        "token_ids": answer.token_ids,
        "off_script": answer.off_script,
    }
