"""Find control strings and already rendered chats inside the texts of rows.

A trainer writes its own markers around each message. Markers inside a text are then learnt as
ordinary text, or another trainer reads them as control tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from harness.conversation import Conversation, Message
from harness.metrics.control_strings import TOKEN, control_strings, header_of, is_distinctive
from harness.metrics.thoughts import TAGS as THOUGHT_MARKS
from harness.records import Format

_CALL_MARKS = re.compile(
    r"</?(?:tool_call|tool_response|tools|function_call|function_calls|invoke|tool_result)>"
    r"|</?[a-z]+:(?:tool_call|invoke)>|<[|｜]/?(?:tool|python_tag|action|plugin)[^<>\n]{0,30}[|｜]>"
    r"|\[/?(?:TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|TOOL_CONTENT|CALL_ID|ARGS)\]"
)
#: The first characters of all markers that nobody writes by chance.
_BEGINNINGS = re.compile(r"[<\[◁]")
_STRUCK_OUT = re.compile(r"<s>[^<>\n]{1,200}</s>")
#: A header in plain words indicates a chat only if it names a speaker.
_SPEAKER = re.compile(r"user|human|assistant|gpt|bot\b|instruction|response|пользователь", re.I)
_SHOWN = 3


@dataclass(frozen=True)
class ChatMarks:
    """The control strings and headers of all formats."""

    formats: tuple[Format, ...]

    @cached_property
    def _users(self) -> dict[str, list[str]]:
        """Each marker that nobody writes by chance, and the formats that use it."""
        index = control_strings(self.formats)
        users = {text: list(ids) for text, ids in index.formats.items() if is_distinctive(text)}
        for chat_format in self.formats:
            for text in set(TOKEN.findall(chat_format.template)) - users.keys():
                if not set("'{}+ ") & set(text):  # a piece of code
                    users.setdefault(text, []).append(chat_format.id)
        return users

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        ordered = sorted(self._users, key=lambda text: (-len(text), text))
        own = "|".join(map(re.escape, ordered))
        others = f"{THOUGHT_MARKS.pattern}|{_CALL_MARKS.pattern}"
        return re.compile(f"{own}|{others}" if own else others)

    @cached_property
    def _headers(self) -> list[tuple[Format, str, str]]:
        """The formats whose user and assistant headers identify a chat."""
        found = []
        for chat_format in self.formats:
            user, assistant = (header_of(chat_format, role) for role in ("user", "assistant"))
            if user != assistant and _identifies(user) and _identifies(assistant):
                found.append((chat_format, user, assistant))
        return found

    def strings_in(self, text: str) -> list[str]:
        """The control strings of a text, each once. Text struck out in HTML does not count."""
        if not _BEGINNINGS.search(text):
            return []
        whole = _STRUCK_OUT.fullmatch(text.strip())
        plain = text if whole else _STRUCK_OUT.sub("", text)
        return list(dict.fromkeys(found[0] for found in self._pattern.finditer(plain)))

    def rendered_in(self, text: str) -> list[str]:
        """The formats in which the text contains a question followed by an answer."""
        return [
            chat_format.id
            for chat_format, user, assistant in self._headers
            if user in text and assistant in text and _holds(text, user, assistant)
        ]

    def findings(self, conversation: Conversation) -> Iterator[tuple[str, str]]:
        """(kind, sentence) for each message with a rendered chat or, failing that, markers."""
        for index, message in enumerate(conversation.messages):
            name = "text" if conversation.plain else f"messages[{index}] ({message.role})"
            for what, text in _texts(message):
                place = f"{what} of {name}" if what else name
                strings = self.strings_in(text)
                if formats := self.rendered_in(text):
                    own = _few(formats)
                    yield "rendered chat", f"{place} is a chat in {own}; give its turns as messages"
                elif strings:
                    shown = ", ".join(map(self._described, strings[:_SHOWN]))
                    more = f" and {len(strings) - _SHOWN} more" if len(strings) > _SHOWN else ""
                    yield "control string", f"{place} holds {shown}{more}"

    def _described(self, text: str) -> str:
        if users := self._users.get(text):
            return f"{text} ({_few(users)})"
        if THOUGHT_MARKS.fullmatch(text):
            return f"{text} (a mark of thoughts)"
        return f"{text} ({'a mark of calls' if _CALL_MARKS.fullmatch(text) else 'ends a text'})"


def _texts(message: Message) -> Iterator[tuple[str, str]]:
    yield "", message.content
    if message.reasoning:
        yield "the thought", message.reasoning
    for call in message.tool_calls:
        yield f"the call of {call.name}", call.arguments


def _few(names: Iterable[str]) -> str:
    first, *rest = [*names]
    return f"{first} and {len(rest)} other formats" if len(rest) > 1 else ", ".join((first, *rest))


def _identifies(header: str) -> bool:
    return bool(header) and (is_distinctive(header) or bool(_SPEAKER.search(header)))


def _holds(text: str, user: str, assistant: str) -> bool:
    """Whether the headers open a question and, after it, an answer.

    Words count at the start of a line, headings anywhere. Plain words (``User:``) must open the
    text, since people write them too.
    """
    places = [_places(text, header) for header in (user, assistant)]
    if not all(places) or places[0][0] > places[1][-1]:
        return False
    opens = not text[: min(places[0][0], places[1][0])].strip()
    return opens or all(
        is_distinctive(each) or each.startswith("###") for each in (user, assistant)
    )


def _places(text: str, header: str) -> list[int]:
    before = "" if is_distinctive(header) or header.startswith("###") else r"^[^\S\n]*"
    return [found.start() for found in re.finditer(before + re.escape(header), text, re.M)]
