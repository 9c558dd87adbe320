"""What an answer merely repeats of its conversation, which answers nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.conversation import Message
from harness.metrics.words import UNSPACED, word_spans

RUN = 8
"""Words in a row that are no coincidence. A character of Han, kana or Thai is half a word."""
WHOLE_MESSAGE = 4
"""A user's or system message of this many words, repeated whole, is copied too."""
BAG = 0.9
"""An answer that has this share of the question's words, and of whose words this share comes from
the conversation, is the question in another order."""


def without_copies(messages: Sequence[Message], answer: str) -> str:
    """The answer without the stretches that it copies, each of them a line break.

    Empty when all that is left is the question's words in another order. Case and punctuation do
    not matter.
    """
    spans = list(word_spans(answer))
    said = [answer[start:end].casefold() for start, end in spans]
    asked = [_words(message.content) for message in messages]
    copied = [False] * len(said)
    _mark(copied, said, [word for message in asked for word in message], RUN)
    for message, message_words in zip(messages, asked, strict=True):
        if message.role != "assistant" and WHOLE_MESSAGE <= len(message_words) < RUN:
            _mark(copied, said, message_words, len(message_words))
    own = _cut(answer, spans, said, copied)
    return "" if _is_bag(_words(own), asked) else own


def _words(text: str) -> list[str]:
    return [text[start:end].casefold() for start, end in word_spans(text)]


def _mark(copied: list[bool], said: Sequence[str], source: Sequence[str], size: int) -> None:
    known = {tuple(source[at : at + size]) for at in range(len(source) - size + 1)}
    for at in range(len(said) - size + 1):
        if tuple(said[at : at + size]) in known:
            copied[at : at + size] = [True] * size


def _is_bag(said: Sequence[str], asked: Sequence[Sequence[str]]) -> bool:
    question, known = set(asked[-1]), {word for message in asked for word in message}
    return (
        len(question) >= WHOLE_MESSAGE
        and len(question & set(said)) >= BAG * len(question)
        and sum(word in known for word in said) >= BAG * len(said)
    )


def _cut(
    answer: str, spans: Sequence[tuple[int, int]], said: Sequence[str], copied: Sequence[bool]
) -> str:
    kept, at, first = [], 0, 0
    while first < len(said):
        last = first
        while last < len(said) and copied[last] == copied[first]:
            last += 1
        if copied[first] and _long_enough(said[first:last]):
            kept += [answer[at : spans[first][0]], "\n"]
            at = spans[last - 1][1]
        first = last
    kept.append(answer[at:])
    return "".join(kept)


def _long_enough(run: Sequence[str]) -> bool:
    """A short run is a whole message in a script with spaces."""
    return len(run) >= 2 * RUN or not any(map(_UNSPACED.match, run))


_UNSPACED = re.compile(f"[{UNSPACED}]")
