"""Convert rows of ShareGPT, Alpaca, prompt and completion, xLAM, or text to our ``messages``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from harness.data.entries.row_notes import RowNotes
from harness.data.entries.speakers import SPEAKERS
from harness.data.entries.tool_calls import as_list, json_text
from harness.data.refusals import RefusedRow, bad_value

SchemaName = Literal["auto", "messages", "sharegpt", "alpaca", "prompt-completion", "xlam", "text"]

_ANSWERS = ("output", "response", "completion", "answer")
_QUESTIONS = ("prompt", "question", "query", "input")
_CONVERSATIONS = ("conversations", "conversation")
_SYSTEM = ("system", "system_prompt")
_TOOLS = ("tools", "functions")
#: Columns of rows that hold more than text, and what is in them.
MEDIA = {f"{medium}{end}": medium for medium in ("image", "audio", "video") for end in ("", "s")}
JSON_ANSWER = "an answer that is not text became JSON text"


@dataclass(frozen=True, slots=True)
class Schema:
    """One way to write a row: its required and optional keys, and its conversion to messages.

    Each of ``needs`` is a key with its other spellings, of which a row has one.
    """

    name: str
    needs: tuple[tuple[str, ...], ...]
    allows: tuple[str, ...]
    messages: Callable[[dict[str, Any], str, RowNotes], Any]
    plain: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that are read."""
        return (*(key for spellings in self.needs for key in spellings), *self.allows, "id", "tags")

    def missing(self, row: dict[str, Any]) -> str:
        """The first required key that the row lacks in every spelling, or ""."""
        return next((keys[0] for keys in self.needs if not _given(row, keys)), "")


def _given(row: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    return [key for key in keys if key in row]


def _one(row: dict[str, Any], keys: tuple[str, ...], place: str) -> Any:
    """The value under whichever spelling the row uses. Raises RefusedRow if it uses two."""
    given = _given(row, keys)
    if len(given) > 1:
        raise bad_value(place, f"{given[0]} and {given[1]}: expected one of them")
    return row[given[0]]


def _messages(row: dict[str, Any], place: str, _notes: RowNotes) -> Any:
    entries = as_list(row["messages"])
    return _with_system(row, entries, place) if isinstance(entries, list) else entries


def _sharegpt(row: dict[str, Any], place: str, _notes: RowNotes) -> Any:
    turns = as_list(_one(row, _CONVERSATIONS, place))
    if not isinstance(turns, list) or not turns:
        raise bad_value(
            place,
            "conversations: expected a non-empty list",
            '{"conversations": [{"from": "human", "value": "…"}, …]}',
        )
    return _with_system(row, [entry for turn in turns for entry in _entries(turn)], place)


def _entries(turn: Any) -> list[Any]:
    """A turn; ms-swift's holds a question and its answer under their speakers' names."""
    if isinstance(turn, dict) and len(turn) == 2 and turn.keys() <= SPEAKERS.keys():
        return [{"from": speaker, "value": text} for speaker, text in turn.items()]
    return [turn]


def _alpaca(row: dict[str, Any], place: str, notes: RowNotes) -> Any:
    """Instruction, blank line and input make one question, as in LLaMA-Factory and Stanford."""
    given = _given(row, ("input", "context"))
    extra = _one(row, ("input", "context"), place) if given else ""
    instruction = row["instruction"]
    if not isinstance(instruction, str) or not isinstance(extra, str):
        raise bad_value(place, "instruction and input: expected texts")
    question = "\n\n".join(part for part in (instruction, extra) if part.strip())
    exchange = _exchange(question, _answer(row, place, notes))
    return _with_system(row, [*_history(row, place), *exchange], place)


def _history(row: dict[str, Any], place: str) -> list[dict[str, Any]]:
    """The exchanges before the row's own question."""
    history = row.get("history") or []
    if not isinstance(history, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in history
    ):
        raise bad_value(place, "history: expected a list of [question, answer]")
    return [entry for question, answer in history for entry in _exchange(question, answer)]


def _prompt_completion(row: dict[str, Any], place: str, notes: RowNotes) -> Any:
    """Texts or lists of messages, as in TRL.

    A text loses the space between prompt and completion: formats write their own.
    """
    prompt, completion = _one(row, _QUESTIONS, place), _one(row, _ANSWERS, place)
    if not isinstance(prompt, str | list):
        raise bad_value(place, "prompt: expected a text or a list of messages")
    asked = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    if not _are_messages(completion):
        text = _answer(row, place, notes).removeprefix(" ")
        completion = [{"role": "assistant", "content": text}]
    return _with_system(row, [*_history(row, place), *asked, *completion], place)


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _xlam(row: dict[str, Any], place: str, _notes: RowNotes) -> Any:
    """A question and the calls that answer it, as in xLAM."""
    question = {"role": "user", "content": _one(row, _QUESTIONS, place)}
    calls = {"role": "assistant", "tool_calls": row["answers"]}
    return _with_system(row, [question, calls], place)


def _exchange(question: Any, answer: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _answer(row: dict[str, Any], place: str, notes: RowNotes) -> str:
    """The answer's text. A number or an object is converted to JSON text."""
    value = _one(row, _ANSWERS, place)
    if isinstance(value, str):
        return value
    notes.readings.add(JSON_ANSWER)
    return json_text(value)


def _text(row: dict[str, Any], _place: str, _notes: RowNotes) -> Any:
    return [{"role": "assistant", "content": row["text"]}]


def _with_system(row: dict[str, Any], entries: list[Any], place: str) -> list[Any]:
    """The messages, led by the row's separate system prompt unless that is empty."""
    if not (given := [key for key in _given(row, _SYSTEM) if row[key]]):
        return entries
    system = _one({key: row[key] for key in given}, _SYSTEM, place)
    first = entries[0] if entries and isinstance(entries[0], dict) else {}
    if first.get("role", first.get("from")) == "system":
        if first.get("content", first.get("value")) == system:
            return entries
        raise bad_value(place, f"two system prompts: {given[0]}, and the first message")
    return [{"role": "system", "content": system}, *entries]


#: In order of detection.
SCHEMAS = {
    schema.name: schema
    for schema in (
        Schema("messages", (("messages",),), (*_SYSTEM, *_TOOLS), _messages),
        Schema("sharegpt", (_CONVERSATIONS,), (*_SYSTEM, *_TOOLS), _sharegpt),
        Schema(
            "alpaca",
            (("instruction",), _ANSWERS),
            ("input", "context", *_SYSTEM, *_TOOLS, "history"),
            _alpaca,
        ),
        Schema(
            "prompt-completion",
            (_QUESTIONS, _ANSWERS),
            (*_SYSTEM, *_TOOLS, "history"),
            _prompt_completion,
        ),
        Schema("xlam", (_QUESTIONS, ("answers",)), (*_SYSTEM, *_TOOLS), _xlam),
        Schema("text", (("text",),), (), _text, plain=True),
    )
}


def detect(row: dict[str, Any]) -> Schema | None:
    """The first schema whose necessary keys are all in the row."""
    return next((schema for schema in SCHEMAS.values() if not schema.missing(row)), None)


def system_beside(row: dict[str, Any], entries: Any) -> bool:
    """Whether the first entry is the row's separate system prompt."""
    written: Any = next(
        (as_list(row[key]) for key in ("messages", *_CONVERSATIONS) if key in row), []
    )
    firsts = [each[0] for each in (entries, written) if isinstance(each, list) and each]
    prompts = [{"role": "system", "content": row[key]} for key in _given(row, _SYSTEM) if row[key]]
    return bool(firsts) and firsts[0] in prompts and firsts[0] not in firsts[1:]


def tools_of(row: dict[str, Any], place: str) -> Any:
    """The value of the row's tools, under either name; None where it has none."""
    return _one(row, _TOOLS, place) if _given(row, _TOOLS) else None


def refuse_preference(row: dict[str, Any], place: str) -> None:
    """Raise RefusedRow for preference data, in which an answer may be meant to be bad."""
    pairs = (("chosen", "rejected"), ("chosen_messages", "rejected_messages"))
    pair = "messages" not in row and any(one in row and two in row for one, two in pairs)
    if pair or ("text" not in row and isinstance(row.get("label"), bool)):
        keys = "chosen and rejected" if pair else "a label, true or false"
        raise RefusedRow(
            "preference data",
            f"a row with {keys} is for preference training; harness train learns from one answer",
            where=place,
            hint="write the good answers as prompt and completion, without the label",
        )
