"""Examples whose last question contains a forged turn: what looks like a reply and a new question.

The model learns the answer to the row's own question, and so that a header inside a user's text is
text. This is structured instruction tuning (StruQ, arXiv 2402.06363): the forged question is one of
another row.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats.adapt import adapt_to_format
from harness.formats.render import render
from harness.records import Format

#: Share of the forged turns that are written in the format of the example itself.
OWN_FORMAT = 1 / 3
#: Characters of the longest text of another row that is used. A forged turn is short.
LONGEST = 200
_EOS = "</s>"


def forged_turn(chat_format: Format, order: str, reply: str) -> str:
    """Text that, inside a user's message, looks like the end of it, a reply and a second message.

    It ends with the words of ``order``, which the forged user says. EOS is written as ``</s>``.
    Raises HarnessError where the format cannot carry three messages.
    """
    messages = (Message("user", "A"), Message("assistant", reply), Message("user", order))
    conversation = adapt_to_format(Conversation("forged", messages), chat_format)
    rendered = render(conversation, chat_format, eos_token=_EOS)
    ends = {span.message: span.end for span in rendered.spans if span.kind == "content"}
    if not {0, 2} <= ends.keys():
        raise HarnessError(f"format {chat_format.id} cannot carry a second question")
    return rendered.text[ends[0] : ends[2]]


class ForgedTurns:
    """Which examples carry a forged turn, and their conversations with it.

    ``share`` of the (row, format) pairs do, among rows whose last answer follows a question. What a
    pair carries depends on the seed, the row and the format alone. So a resumed run has the same,
    and so has another order of steps.
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
        self._places: dict[str, list[int]] = {}
        for place, (question, _) in enumerate(self._exchanges):
            self._places.setdefault(question, []).append(place)

    def in_example(self, row: Conversation, chat_format: Format) -> Conversation:
        """The row as this format's example learns it: with a forged turn, or the row itself."""
        at = _last_question(row)
        if at is None:
            return row
        name = f"{self.seed}\n{row.id}\n{chat_format.id}"
        rng = random.Random(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest())
        if rng.random() >= self.share:
            return row
        question = row.messages[at]
        forged = self._turn(question.content, chat_format, rng)
        if not forged:
            return row
        changed = replace(question, content=question.content + forged)
        return replace(row, messages=(*row.messages[:at], changed, *row.messages[at + 1 :]))

    def _turn(self, question: str, own: Format, rng: random.Random) -> str:
        """A forged turn with the reply and the question of other rows; "" if there can be none."""
        if len(self._exchanges) == len(self._places.get(question, ())) or not self._able:
            return ""
        reply, order = self._other(question, rng)[1], self._other(question, rng)[0]
        its_own = rng.random() < OWN_FORMAT and _carries(own)
        try:
            return forged_turn(own if its_own else rng.choice(self._able), order, reply)
        except HarnessError:  # the format refuses these texts
            return ""

    def _other(self, question: str, rng: random.Random) -> tuple[str, str]:
        """A question and its answer at random, not of rows that ask the same."""
        taken = self._places.get(question, ())
        at = rng.randrange(len(self._exchanges) - len(taken))
        for place in taken:
            at += place <= at
        return self._exchanges[at]

    @cached_property
    def _able(self) -> list[Format]:
        """The formats that can carry a turn of the user's after the first."""
        return [each for each in self._formats if _carries(each)]


def _carries(chat_format: Format) -> bool:
    try:
        return bool(forged_turn(chat_format, "And now?", "Yes."))
    except HarnessError:
        return False


def _last_question(row: Conversation) -> int | None:
    """The place of the user's message that the last answer follows."""
    at = len(row.messages) - 2
    if row.plain or at < 0 or row.messages[at].role != "user":
        return None
    return at if row.messages[-1].role == "assistant" else None
