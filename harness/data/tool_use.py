"""Count the thoughts and tool calls of a training set and find mistakes in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.conversation import Conversation, Message
from harness.data.tool_arguments import unfit


@dataclass(frozen=True, slots=True)
class ThoughtsAndCalls:
    """The number of answers, of answers with a thought, of calls and of tools."""

    answers: int = 0
    thoughts: int = 0
    calls: int = 0
    tools: int = 0
    without_thought: str = ""
    """The place of the first answer without a thought, where others have one."""

    @classmethod
    def of(cls, conversations: Sequence[Conversation]) -> ThoughtsAndCalls:
        """Count them in a set, without answers that are not trained."""
        rows = [row for row in conversations if not row.plain]
        answers = [(row, message) for row in rows for message in row.messages if _trained(message)]
        bare = next((row.place for row, message in answers if message.reasoning is None), "")
        thoughts = sum(message.reasoning is not None for _, message in answers)
        calls = [call.name for _, message in answers for call in message.tool_calls]
        names = {tool.name for row in rows for tool in row.tools}.union(calls)
        return cls(len(answers), thoughts, len(calls), len(names), bare if thoughts else "")

    def lines(self, *, places: bool = True) -> Iterator[str]:
        """The lines to print: none if there is nothing, only totals without ``places``."""
        if self.thoughts:
            first = f"; the first without one: {self.without_thought}"
            mixed = first if places and self.thoughts < self.answers else ""
            yield f"thoughts in {self.thoughts} of {self.answers} answers{mixed}"
        if self.tools:
            yield f"{_number(self.calls, 'call')}, {_number(self.tools, 'tool')}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _trained(message: Message) -> bool:
    return message.role == "assistant" and message.weight > 0


def tool_findings(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """(kind, sentence) for each call of an unknown tool, with bad arguments or without a result."""
    tools = {tool.name: tool for tool in conversation.tools}
    messages = conversation.messages
    for index, message in enumerate(messages):
        name = f"messages[{index}]"
        for call in message.tool_calls:
            if call.name not in tools:
                listed = f"only {', '.join(tools)}" if tools else "no tools"
                yield "unknown tool", f"{name} calls {call.name!r}; the row lists {listed}"
            elif mistake := unfit(call, tools[call.name]):
                yield "bad arguments", f"{name} calls {call.name}: {mistake}"
        if message.tool_calls:
            yield from _results(messages, index)


def _results(messages: Sequence[Message], index: int) -> Iterator[tuple[str, str]]:
    """Calls that the conversation leaves without a result, or with a result of another tool."""
    calls = messages[index].tool_calls
    results = []
    for message in messages[index + 1 :]:
        if message.role != "tool":
            break
        results.append(message)
    if len(results) < len(calls) and index + 1 + len(results) < len(messages):
        counts = f"{_number(len(calls), 'call')} and {_number(len(results), 'result')}"
        yield "open call", f"messages[{index}]: {counts}, and the conversation continues"
    by_id = {call.id: call.name for call in calls if call.id is not None}
    for number, result in enumerate(results):
        called = by_id.get(result.tool_call_id or "", calls[number].name if not by_id else "")
        if result.name and called and result.name != called:
            place = f"messages[{index + 1 + number}]"
            yield (
                "other tool",
                f"{place} is a result of {result.name!r}, and the call is of {called!r}",
            )
