"""Requests → results in the results file: only what is missing is computed, by one evaluator."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from harness.backends.protocol import (
    Answer,
    Backend,
    GenerateRequest,
    Result,
    ScoreRequest,
    Unscored,
    why_unscored,
)
from harness.evaluation.requests import PlannedRequest
from harness.evaluation.results import Results
from harness.evaluation.store.cache_report import count_reuse, describe_reuse
from harness.evaluation.store.claims import Claims
from harness.evaluation.store.payloads import from_payload, to_payload
from harness.evaluation.store.results_file import Store
from harness.progress import expect, progress
from harness.records import Loglikelihood

FIRST_CLAIM = 64
FIRST_ANSWERS = 256
"""The least of each claim: requests to score, and answers. Answers are generated side by side, and
each claim ends with steps for its longest ones alone: a first look at the 18 common formats has 180
in its first round."""
CLAIM_S = 60.0
"""Seconds of work to claim at a time: short for evaluators that join, long enough for batches."""
_POLL_S = 0.2

Batches = Iterator[Sequence[tuple[str, Result | Unscored]]]


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

    ``verbose`` first prints on standard error what the backend says of its engine, what is reused,
    and why the rest is not. Other evaluators may fill the same file: their claims are waited for,
    and computed here if they die.
    A stored result that cannot be read is computed again. A new one that cannot be used, such as a
    NaN, is not stored: the store remembers why (``Store.unscored``) until it is closed.
    """
    _remove_unreadable(requests, store, label)
    if verbose:
        facts = backend.fingerprint
        named = filter(None, (facts.get("backend"), facts.get("engine")))
        print(f"{label}: {', '.join(named)}", file=sys.stderr)
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
    for name, part in (("score", scored), ("answer", answered)):
        expect(f"{label}: {name}", len(part))
    with Claims(store) as claims:
        return sum(
            _compute(f"{label}: {name}", part, compute, claims, least, quiet)
            for name, part, compute, least in (
                ("score", scored, lambda some: _score(backend, some), FIRST_CLAIM),
                ("answer", answered, lambda some: _answer(backend, some), FIRST_ANSWERS),
            )
        )


def _compute(
    name: str,
    todo: dict[str, PlannedRequest],
    compute: Callable[[Iterable[PlannedRequest]], Batches],
    claims: Claims,
    least: int,
    quiet: bool,
) -> int:
    """Claim a part, compute it, store it batch by batch, until nothing is missing.

    A claim has ``least`` requests, or those of ``CLAIM_S`` seconds where these are more.
    """
    pending, store = list(todo), claims.store
    computed = claimed = 0
    waiting = False
    most = least
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
                    computed += _keep(batch, todo, store)
                    bar.advance(len(batch))
            finally:
                claims.release(taken.mine)  # what the engine left out, or never reached
            rate = (computed - before) / max(time.monotonic() - began, 1e-3)
            most = max(least, int(rate * CLAIM_S))
    unscored = Counter(store.unscored[key] for key in todo if key in store.unscored)
    if not quiet:
        for why, count in unscored.items():
            _warn(f"{name}: {count} cells are not scored: {why}")
        if left_out := claimed - computed - unscored.total():
            _warn(f"{name}: the engine left out {left_out} cells, which are not scored")
    return computed


def _keep(
    batch: Sequence[tuple[str, Result | Unscored]], todo: dict[str, PlannedRequest], store: Store
) -> int:
    """Store the usable results of a batch, note why the others are not scored, count the first."""
    usable = []
    for key, result in batch:
        if why := why_unscored(result):
            store.unscored[key] = why
        elif not isinstance(result, Unscored):
            usable.append((todo[key], to_payload(result)))
    store.put(usable)
    return len(usable)


def _remove_unreadable(requests: Sequence[PlannedRequest], store: Store, label: str) -> None:
    """Remove stored results that cannot be read, such as what a bad sector or a bug left behind."""
    planned = {item.key: item for item in requests}
    broken = []
    for key, text in store.get(planned).items():
        try:
            from_payload(planned[key], text)
        except ValueError:
            broken.append(key)
    if broken:
        store.remove(broken)
        _warn(f"{label}: {len(broken)} stored results cannot be read and are computed again")


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


def _score(backend: Backend, planned: Iterable[PlannedRequest]) -> Batches:
    requests = [item.request for item in planned if isinstance(item.request, ScoreRequest)]
    yield from backend.score(requests)


def _answer(backend: Backend, planned: Iterable[PlannedRequest]) -> Batches:
    requests = [item.request for item in planned if isinstance(item.request, GenerateRequest)]
    yield from backend.generate(requests)


def read_results(requests: Sequence[PlannedRequest], store: Store) -> Results:
    """The stored results of these requests, and why others cannot be scored.

    What was never computed is left out.
    """
    payloads = store.get({item.key for item in requests})
    answers: dict[tuple[str, str, float], Answer] = {}
    scorings: dict[tuple[str, str], list[Loglikelihood]] = {}
    unscored: dict[tuple[str, str], str] = {}
    opened: dict[tuple[str, str], str] = {}
    for item in requests:
        if item.opened:
            opened[item.case, item.format] = item.opened
        if item.key in store.unscored:
            unscored[item.case, item.format] = store.unscored[item.key]
        if item.key not in payloads:
            continue
        result = from_payload(item, payloads[item.key])
        if isinstance(result, Answer):
            answers[item.case, item.format, item.prefix_fraction] = result
        else:
            scorings[item.case, item.format] = list(result)
    return Results(answers, scorings, unscored, opened)
