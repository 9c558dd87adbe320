"""Put the messages of a row in order, each result after the call that it answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from harness.conversation import Message
from harness.data.entries.answer_text import results_in
from harness.data.entries.message_entries import Entry
from harness.data.refusals import bad_value


def messages_in_order(entries: Sequence[Entry]) -> tuple[Message, ...]:
    """Join the parts of each answer, and check that each result follows its call.

    Raises RefusedRow for a result that answers no call.
    """
    messages = list(_with_results(_joined(entries)))
    _check_results(messages)
    return tuple(one.message for one in messages)


class _Placed(NamedTuple):
    """A message, its place in the row, and whether its calls were tags in its text."""

    message: Message
    place: str
    tagged: bool = False


def _joined(entries: Sequence[Entry]) -> list[_Placed]:
    """Join a thought with the part of the answer after it, and calls with the part before."""
    found: list[_Placed] = []
    waits = False
    for entry in entries:
        for message in entry.messages:
            new = _Placed(message, entry.place, entry.tagged)
            answers = found and found[-1].message.role == message.role == "assistant"
            if answers and (waits or entry.joins == "last"):
                found[-1] = _one_answer(found[-1], new)
            else:
                found.append(new)
        waits = entry.joins == "next"
    return found


def _one_answer(before: _Placed, after: _Placed) -> _Placed:
    first, second = before.message, after.message
    if first.weight != second.weight:
        raise bad_value(after.place, "parts of one answer differ in train or weight")
    message = replace(
        first,
        content="\n\n".join(filter(None, (first.content, second.content))),
        name=first.name or second.name,
        reasoning="\n".join(filter(None, (first.reasoning, second.reasoning))) or None,
        tool_calls=(*first.tool_calls, *second.tool_calls),
    )
    return _Placed(message, before.place, before.tagged or after.tagged)


def _with_results(messages: Sequence[_Placed]) -> Iterator[_Placed]:
    """The messages; results in tags that follow calls in tags become tool messages."""
    tagged = False
    for one in messages:
        if one.message.role == "assistant":
            tagged = one.tagged
        may_answer = tagged and one.message.role in ("tool", "user")
        results = results_in(one.message.content) if may_answer else []
        for text in results:
            yield _Placed(Message("tool", text, one.message.name), one.place)
        if not results:
            yield one


def _check_results(messages: Sequence[_Placed]) -> None:
    open_calls: list[str | None] = []
    ids: list[str | None] = []
    for message, place, _ in messages:
        if message.role == "assistant":
            ids = [call.id for call in message.tool_calls]
            open_calls = list(ids)
        elif message.role != "tool":
            open_calls, ids = [], []
        elif ids:
            _answer(open_calls, ids, message.tool_call_id, place)
        else:
            hint = "the answer before it needs tool_calls"
            raise bad_value(place, "the result of a tool that was not called", hint)


def _answer(
    open_calls: list[str | None], ids: Sequence[str | None], call_id: str | None, place: str
) -> None:
    """Remove from the open calls the one that a result answers: by its id, else the first."""
    if call_id is not None and any(ids):
        if call_id not in ids:
            known = ", ".join(repr(each) for each in ids if each)
            raise bad_value(place, f"tool_call_id: no call before has the id {call_id!r}", known)
        if call_id not in open_calls:
            raise bad_value(place, f"tool_call_id: a second result of the call {call_id!r}")
        open_calls.remove(call_id)
    elif open_calls:
        open_calls.pop(0)
    else:
        calls = f"{len(ids)} call{'s' * (len(ids) != 1)}"
        raise bad_value(place, f"more results than calls: the message before has {calls}")
