"""What of a text is to be trained, found without tracing: by rendering parts of a conversation.

An answer begins where the prompt of inference ends, and ends with the stop that the template
writes behind it whatever follows. Both come from renderings of the first messages, with and
without generation prompt, by transformers; the words' own places from searching them, since the
shapes' words are unlike anything a template writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from harness.formats.turns import common_prefix
from tests.corpus.engines import BOS, Prompt, by_transformers
from tests.corpus.shapes import THANKS, Shape

_MARK = re.compile(r"<[^<>\s][^<>]*>|\[[^\[\]]+\]")

_THOUGHT = re.compile("think|thought")
_HEADER = re.compile(r"assistant|model|bot|gpt|response|destination", re.IGNORECASE)


class Region(NamedTuple):
    """Characters of one answer: ``start`` to ``stop`` must be trained, ``first`` to ``end`` may be.

    ``first`` and ``start`` differ where the prompt of inference is not what is written before the
    answer. ``words`` is where its own words end, and its stop begins. ``why`` is not empty where
    the place cannot be found, and nothing is proven.
    """

    message: int
    first: int = 0
    start: int = 0
    words: int = 0
    stop: int = 0
    end: int = 0
    why: str = ""


class Fault(NamedTuple):
    """What a mask has wrong in one answer, with the text it is about."""

    kind: str
    message: int
    text: str


def faults(text: str, trained: Sequence[bool], found: Sequence[Region]) -> list[Fault]:
    """Headers that are trained, and answers and stops that are not, white space left aside."""
    wrong = []
    allowed = bytearray(len(text))
    for region in found:
        allowed[region.first : region.end] = b"\1" * (region.end - region.first)
        for kind, start, end in (
            ("answer not trained", region.start, region.words),
            ("stop not trained", region.words, region.stop),
        ):
            missed = [at for at in range(start, end) if not trained[at] and text[at].strip()]
            if missed and not region.why:
                part = text[missed[0] : missed[-1] + 1]
                wrong.append(Fault(kind, region.message, part))
    if not any(region.why for region in found):
        over = [
            at for at in range(len(text)) if trained[at] and not allowed[at] and text[at].strip()
        ]
        if over:
            before = [region.message for region in found if region.first <= over[0]]
            extra = "".join(text[at] for at in over)
            wrong.append(Fault("more is trained", before[-1] if before else -1, extra))
    return wrong


class Renderings:
    """The texts of the first messages of a shape, each written once."""

    def __init__(
        self, template: str, shape: Shape, messages: Sequence[dict[str, Any]] | None = None
    ) -> None:
        self.template, self.shape = template, shape
        self.messages, self.tools = messages or shape.plain, shape.tools
        self._texts: dict[tuple[int, bool, bool], str | None] = {}

    def text(self, count: int, *, generation: bool = False, question: bool = False) -> str | None:
        """The first ``count`` messages, with another question behind them or not."""
        key = (count, generation, question)
        if key not in self._texts:
            messages = [*self.messages[:count], *([self._thanks] if question else [])]
            prompt = Prompt(messages, self.tools, generation)
            self._texts[key] = by_transformers(self.template, prompt).text
        return self._texts[key]

    @property
    def _thanks(self) -> dict[str, Any]:
        """Another question, its content as that of the others."""
        in_parts = not isinstance(self.messages[0]["content"], str)
        text = THANKS["content"]
        return {**THANKS, "content": [{"type": "text", "text": text}] if in_parts else text}

    @cached_property
    def lone_question(self) -> str:
        """A question alone, with generation prompt."""
        return by_transformers(self.template, Prompt([self._thanks], self.tools, True)).text or ""

    @property
    def whole(self) -> str | None:
        """The conversation."""
        return self.text(len(self.messages))


def lost(seen: Renderings) -> list[int]:
    """The messages of which words, calls or their arguments are not in the text, in their place."""
    text, missing = seen.whole or "", []
    places = _places(text, seen.messages)
    for at, message in enumerate(seen.messages):
        start, end = 0, len(text)
        if message.get("tool_calls"):
            start = max((place[1] for place in places[:at] if place), default=0)
            end = _begins(text, start, seen.messages[at + 1 :])
        wanted = _pieces({**message, "reasoning_content": None})
        if not all(words in text[start:end] for words in wanted):
            missing.append(at)
    return missing


def regions(renderings: Renderings) -> list[Region]:
    """One for each answer."""
    text = renderings.whole
    assert text is not None
    return [
        _region(renderings, text, at)
        for at, message in enumerate(renderings.messages)
        if message["role"] == "assistant"
    ]


def _region(seen: Renderings, text: str, at: int) -> Region:
    places = _places(text, seen.messages)
    before = max((place[1] for place in places[:at] if place), default=0)
    mine = places[at]
    first, exact = _first(seen, text, at, before) if at else _opened(seen, text, mine)
    if first is None or not (mine or exact):
        return Region(at, why="no prompt before it" if mine else "neither a prompt nor words")
    if mine and mine[0] < first:
        return Region(at, why="its words begin before its prompt ends")
    start = first if exact or not mine else mine[0]
    if mine and _header_unasked(seen, at, text[first : mine[0]]):
        start = mine[0]
    words = max(mine[1], start) if mine else start
    stop, end = _stop(seen, text, at, words, places)
    if text[words : words + stop].count(" ") > 20:
        return Region(at, why="the template ends with words of its own")
    return Region(at, first, start, words, words + stop, words + end)


def _first(seen: Renderings, text: str, at: int, before: int) -> tuple[int | None, bool]:
    """Where the prompt ends, as far as it is what the text has behind the message before."""
    prompt = seen.text(at, generation=True)
    if prompt is None:
        return None, False
    if text.startswith(prompt):
        return len(prompt), True
    earlier = _places(prompt, seen.messages[:at])
    tail = prompt[max((place[1] for place in earlier if place), default=0) :]
    same = len(common_prefix(tail, text[before:]))
    if same == len(tail):
        return before + same, True
    same = _whole(text[before:], same)
    return (before + same, False) if same else (None, False)


def _header_unasked(seen: Renderings, at: int, literal: str) -> bool:
    """Whether an answer's header is written although no prompt holds it: it may be trained.

    Before plain words any text is one; before a thought or a call it may be their own mark.
    """
    message = seen.messages[at]
    answered = at > 0 and seen.messages[at - 1]["role"] == "assistant"
    asks = at and not answered and seen.text(at, generation=True) != seen.text(at)
    plain = text_of(message).strip() and not _THOUGHT.search(literal + text_of(message)[:20])
    thought = (message.get("reasoning_content") or "").strip()
    plain = plain and not (message.get("tool_calls") or (thought and thought in literal))
    return not asks and bool(literal.strip() if plain else _HEADER.search(literal))


def _opened(seen: Renderings, text: str, mine: tuple[int, int] | None) -> tuple[int | None, bool]:
    """Where the first message's words begin, if a generation prompt is all that is before them."""
    roles = [message["role"] for message in seen.messages]
    count = roles.index("user") + 1 if "user" in roles else 0
    prompt, without = seen.text(count, generation=True) or "", seen.text(count) or ""
    header = prompt[len(without) :] if prompt.startswith(without) else ""
    if not mine or not header or not text[: mine[0]].endswith(header):
        return None, False
    return mine[0], True


def _whole(text: str, length: int) -> int:
    """The length without a mark that is cut in two."""
    cut = [mark.start() for mark in _MARK.finditer(text) if mark.start() < length < mark.end()]
    return cut[0] if cut else length


def _stop(
    seen: Renderings, text: str, at: int, words: int, places: Sequence[tuple[int, int] | None]
) -> tuple[int, int]:
    """The lengths behind the words that must and may be trained.

    What comes behind them whatever follows may be, up to the mark that opens a turn.
    """
    must, may = _stop_alone(seen, text, at, words, places)
    asked = _behind(seen, seen.text(at + 1, question=True), at)
    same = common_prefix(text[words:], asked)
    same = same[: _whole(text[words:], len(same))]
    openings = _openings(seen, at)
    marks = []
    for mark in _MARK.finditer(same):
        if mark[0] in openings:
            break
        marks.append(mark.end())
    return must, max(may, _with_space(text[words:], marks[-1]) if marks else 0)


def _stop_alone(
    seen: Renderings, text: str, at: int, words: int, places: Sequence[tuple[int, int] | None]
) -> tuple[int, int]:
    """The same by what the template writes when nothing follows."""
    last = at + 1 == len(seen.messages)
    later = [place[0] for place in places[at + 1 :] if place and place[0] >= words]
    behind = text[words : min(later, default=len(text))]
    alone = behind if last else _behind(seen, seen.text(at + 1), at)
    always_asks = bool(seen.text(at)) and seen.text(at, generation=True) == seen.text(at)
    if always_asks or (last and len(_MARK.findall(alone)) > 1):
        # what is the stop of it, and what comes at the end of every text?
        asked = _behind(seen, seen.text(at + 1, question=True), at)
        same = _whole(alone, len(common_prefix(alone, asked))) if asked else len(alone)
        if always_asks and asked:
            called = bool(seen.messages[at].get("tool_calls"))
            found = (0, same) if called else _first_stop(seen, at, behind[:same])
            return found if last or any(found) else _stop_between(seen, at, behind, places)
        if last:
            return len(alone[:same].rstrip()) or len(alone.rstrip()), len(alone)
    mark = alone.rstrip()
    if not mark or not behind.startswith(mark):
        return _stop_between(seen, at, behind, places)
    return len(mark), _with_space(behind, len(mark))


def _stop_between(
    seen: Renderings, at: int, behind: str, places: Sequence[tuple[int, int] | None]
) -> tuple[int, int]:
    """The same where the stop is not the one that is written when nothing follows."""
    common = common_prefix(behind, _behind(seen, seen.text(at + 1, generation=True), at))
    common = common[: _whole(behind, len(common))]
    openings = _openings(seen, at)
    cut = [mark.start() for mark in _MARK.finditer(common) if mark[0] in openings]
    common = common[: min(cut, default=len(common))]
    if seen.messages[at].get("tool_calls"):
        length = max((mark.end() for mark in _MARK.finditer(common)), default=0)
        return length, _with_space(behind, length)
    found = _MARK.match(common.lstrip())
    if found and places[at] and _may_end(seen, at, found[0]):
        length = len(common) - len(common.lstrip()) + found.end()
        return length, _with_space(behind, length)
    found = _MARK.match(behind.lstrip())
    if found and found[0] not in openings and _may_end(seen, at, found[0]):
        return 0, _with_space(behind, len(behind) - len(behind.lstrip()) + found.end())
    return 0, _with_space(behind, 0)


def _may_end(seen: Renderings, at: int, mark: str) -> bool:
    """Whether a mark is in no header of a question, or ends a question too."""
    if mark not in seen.lone_question:
        return True
    before, _, behind = seen.lone_question.partition(THANKS["content"])
    marks = [one for one in _MARK.findall(behind) if not _THOUGHT.search(one)]
    return behind.lstrip().startswith(mark) and (len(marks) > 1 or mark not in before)


def _first_stop(seen: Renderings, at: int, behind: str) -> tuple[int, int]:
    """The mark that comes first, if it begins no turn."""
    found = _MARK.match(behind.lstrip())
    if found is None or found[0] in _openings(seen, at):
        return 0, _with_space(behind, 0)
    length = len(behind) - len(behind.lstrip()) + found.end()
    return length, _with_space(behind, length)


def _with_space(text: str, length: int) -> int:
    rest = text[length:]
    return length + len(rest) - len(rest.lstrip())


def _opening(seen: Renderings, at: int) -> str:
    """The mark that a generation prompt begins with."""
    prompt, without = seen.text(at, generation=True) or "", seen.text(at) or ""
    marks = _MARK.findall(prompt[len(without) :] if prompt.startswith(without) else "")
    return marks[0] if marks else ""


def _behind(seen: Renderings, text: str | None, at: int) -> str:
    """What a text of the first messages has behind the words of the answer, its last message."""
    if text is None:
        return ""
    place = _places(text, seen.messages[: at + 1])[at]
    if place:
        return text[place[1] :]
    prompt = seen.text(at, generation=True) or ""
    return text[len(prompt) :] if text.startswith(prompt) else ""


def _openings(seen: Renderings, at: int) -> set[str]:
    """The marks that open a turn: that of a question, and the first of a prompt.

    That of a question is in what comes before it in first position and behind an answer. The mark
    that ends a question is none, where another one comes behind it; nor is one that comes between
    any two turns.
    """
    before, _, behind = seen.lone_question.partition(THANKS["content"])
    if seen.lone_question.count(BOS) == 1:  # else it opens every turn
        before = before.removeprefix(BOS)
    marks = [one for one in _MARK.findall(behind) if not _THOUGHT.search(one)]
    ends = marks[0] if len(marks) > 1 and behind.lstrip().startswith(marks[0]) else ""
    ends = "" if _MARK.findall(before)[:1] == [ends] else ends
    asked = _behind(seen, seen.text(at + 1, question=True), at)
    header = asked.partition(THANKS["content"])[0]
    if header and header != asked:
        length = len(common_prefix(before[::-1], header[::-1]))
        before = before[len(before) - length :]
    own = [mark for mark in _MARK.findall(before) if mark != ends][:1]
    opening = _opening(seen, at)
    between = opening in header and opening not in own
    return {*own, "" if between else opening} - {""}


def _places(text: str, messages: Sequence[dict[str, Any]]) -> list[tuple[int, int] | None]:
    """Where each message's own words are: from the first of them to the last."""
    found: list[tuple[int, int] | None] = []
    at = 0
    for number, message in enumerate(messages):
        spots = []
        begin, limit = at, _begins(text, at, messages[number + 1 :])
        for words in _pieces(message):
            spot = text.find(words, begin, limit if message["role"] == "assistant" else None)
            if spot < 0 and message["role"] != "assistant":
                spot = text.find(words)  # a template may move it forward
            if spot >= 0:
                spots.append((spot, spot + len(words)))
                begin = max(begin, spot + len(words)) if message["role"] == "assistant" else begin
        found.append((min(spots)[0], max(end for _, end in spots)) if spots else None)
        if spots and message["role"] != "system":
            at = max(end for _, end in spots)
    return found


def _begins(text: str, at: int, messages: Sequence[dict[str, Any]]) -> int:
    """Where the words of the next message begin that is no answer; else the text's end."""
    words = text_of(messages[0]).strip() if messages else ""
    spot = text.find(words, at) if words and messages[0]["role"] != "assistant" else -1
    return spot if spot >= 0 else len(text)


def _pieces(message: dict[str, Any]) -> Iterator[str]:
    if thought := (message.get("reasoning_content") or "").strip():
        yield thought
    words = text_of(message)
    if message["role"] == "assistant" and "</think>" in words:  # a template may leave it out
        thought, _, words = words.rpartition("</think>")
        yield thought.partition("<think>")[2].strip()
    if words.strip():
        yield words.strip()
    for call in message.get("tool_calls") or ():
        yield call["function"]["name"]
        yield from _strings(call["function"]["arguments"])


def text_of(message: dict[str, Any]) -> str:
    """The content, which may be one part."""
    content: Any = message["content"]
    return str(content if isinstance(content, str) else content[0]["text"])


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.startswith("{"):  # arguments as text
        value = json.loads(value)
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
