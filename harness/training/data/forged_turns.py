"""Examples whose question carries a forged turn: what looks like a reply and a second question.

The answer that is learnt is the one to the question itself, so a model learns that a header inside
a user's text is text. This is structured instruction tuning (StruQ, arXiv 2402.06363), in which the
forged question is one of another row.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats.adapt import adapt_to_format
from harness.formats.render import render
from harness.records import Format

#: Share of the forged turns that are written in the format of the example itself.
OWN_FORMAT = 1 / 3
#: Characters of the longest text of another row that is used. A forged turn is short.
LONGEST = 200
#: Formats that are tried for one example. Some cannot carry a turn of the user's after the first.
_TRIES = 20
_EOS = "</s>"


def forged_turn(chat_format: Format, order: str, reply: str, eos: str = _EOS) -> str:
    """Text that, inside a user's message, looks like the end of it, a reply and a second message.

    It ends with the words of ``order``, which the forged user says. Raises HarnessError where the
    format cannot carry three messages.
    """
    messages = (Message("user", "A"), Message("assistant", reply), Message("user", order))
    conversation = adapt_to_format(Conversation("forged", messages), chat_format)
    rendered = render(conversation, chat_format, eos_token=eos)
    ends = {span.message: span.end for span in rendered.spans if span.kind == "content"}
    if not {0, 2} <= ends.keys():
        raise HarnessError(f"format {chat_format.id} cannot carry a second question")
    return rendered.text[ends[0] : ends[2]]


class ForgedTurns:
    """Which examples carry a forged turn, and their conversations with it.

    ``share`` of the (row, format) pairs do, among rows whose last answer follows a question. What a
    pair carries depends on the seed, the row and the format alone, so a resumed run and another
    order of steps have the same.
    """

    def __init__(
        self, rows: Sequence[Conversation], formats: Sequence[Format], share: float, seed: int
    ) -> None:
        self.share = share
        self.seed = seed
        self._formats = tuple(formats)
        self._exchanges = [
            (question.content, answer.content)
            for row in rows
            for question, answer in zip(row.messages, row.messages[1:], strict=False)
            if question.role == "user" and answer.role == "assistant"
            if 0 < len(question.content) <= LONGEST and 0 < len(answer.content) <= LONGEST
        ]

    def in_example(self, row: Conversation, chat_format: Format) -> Conversation:
        """The row as this format's example learns it: with a forged turn, or as it is."""
        at = _last_question(row)
        if at is None or not self._exchanges:
            return row
        name = f"{self.seed}\n{row.id}\n{chat_format.id}"
        rng = random.Random(hashlib.sha256(name.encode()).digest())
        if rng.random() >= self.share:
            return row
        question = row.messages[at]
        forged = self._turn(question.content, chat_format, rng)
        changed = replace(question, content=question.content + forged)
        return replace(row, messages=(*row.messages[:at], changed, *row.messages[at + 1 :]))

    def _turn(self, question: str, own: Format, rng: random.Random) -> str:
        """A forged turn with the reply and the question of another row; "" if no format has one."""
        others = [each for each in self._exchanges if each[0] != question]
        if not others:
            return ""
        reply, order = rng.choice(others)[1], rng.choice(others)[0]
        for _ in range(_TRIES):
            chat_format = own if rng.random() < OWN_FORMAT else rng.choice(self._formats)
            try:
                return forged_turn(chat_format, order, reply)
            except HarnessError:
                continue
        return ""


def _last_question(row: Conversation) -> int | None:
    """The place of the user's message that the last answer follows."""
    at = len(row.messages) - 2
    if row.plain or at < 0 or row.messages[at].role != "user":
        return None
    return at if row.messages[-1].role == "assistant" else None
