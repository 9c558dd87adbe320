"""Work × backend → results in the store. Only what is missing is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.backends.protocol import Answer, Backend, GenerateRequest, ScoreRequest
from harness.evaluate.store import Store
from harness.evaluate.work import Work
from harness.progress import progress
from harness.records import Scoring


@dataclass(frozen=True, slots=True)
class Results:
    """The results of some work: (probe, case, format, share) → Answer or list of Scoring."""

    answers: dict[tuple[str, str, float], Answer]
    scorings: dict[tuple[str, str], list[Scoring]]


def run(work: Sequence[Work], backend: Backend, store: Store, *, label: str = "evaluate", quiet: bool = False) -> int:
    """Compute what the store lacks, storing batch by batch. Returns how many pieces were computed."""
    missing = store.missing(item.key for item in work)
    todo = {item.key: item for item in work if item.key in missing}
    scores = [item.request for item in todo.values() if isinstance(item.request, ScoreRequest)]
    texts = [item.request for item in todo.values() if isinstance(item.request, GenerateRequest)]
    with progress(f"{label}: score", len(scores), quiet=quiet) as bar:
        for batch in backend.score(scores):
            _keep(store, todo, [(key, [_scoring_payload(s) for s in scorings]) for key, scorings in batch])
            bar.advance(len(batch))
    with progress(f"{label}: answer", len(texts), quiet=quiet) as bar:
        for answers in backend.generate(texts):
            _keep(store, todo, [(key, _answer_payload(answer)) for key, answer in answers])
            bar.advance(len(answers))
    return len(todo)


def read(work: Sequence[Work], store: Store) -> Results:
    """The stored results of this work. What is missing is left out."""
    payloads = store.get({item.key for item in work})
    answers: dict[tuple[str, str, float], Answer] = {}
    scorings: dict[tuple[str, str], list[Scoring]] = {}
    for item in work:
        payload = payloads.get(item.key)
        if payload is None:
            continue
        if isinstance(item.request, ScoreRequest):
            scorings[item.case, item.format] = [Scoring(s["logprob"], s["tokens"], tuple(s["token_logprobs"]), tuple(s["off_script"])) for s in payload]
        else:
            answers[item.case, item.format, item.share] = Answer(
                payload["text"], payload["finish"], payload["stop"], tuple(payload["token_ids"]), tuple(payload["off_script"])
            )
    return Results(answers, scorings)


def _keep(store: Store, todo: dict[str, Work], batch: list[tuple[str, Any]]) -> None:
    store.put((key, todo[key].probe, todo[key].case, todo[key].format, payload) for key, payload in batch)


def _scoring_payload(scoring: Scoring) -> dict[str, Any]:
    return {"logprob": scoring.logprob, "tokens": scoring.tokens, "token_logprobs": scoring.token_logprobs, "off_script": scoring.off_script}


def _answer_payload(answer: Answer) -> dict[str, Any]:
    return {"text": answer.text, "finish": answer.finish, "stop": answer.stop, "token_ids": answer.token_ids, "off_script": answer.off_script}
