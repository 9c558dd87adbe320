"""Controls: rows of a data set that are set aside at random and never trained on.

Only rows of one pool, split at random, show what memory of the trained ones is worth: rows of
another origin may be likelier or less likely for any model.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.conversation import Conversation, Message
from harness.data.conversations import as_row, load_conversations
from harness.files import write_text
from harness.metrics.canaries import TAG as CANARY
from harness.resources import data_dir

#: In a run's folder: the controls of its training rows, one conversation a line.
CONTROLS_FILE = "controls.jsonl"


def set_aside(
    conversations: Sequence[Conversation],
    count: int,
    seed: int = 0,
    set_of: Mapping[str, int] | None = None,
) -> list[Conversation]:
    """``count`` of the conversations, at random within their kind and length, in their order.

    They are sorted by set (``set_of``, by id), kind and length of the last answer, and cut into
    ``count`` blocks of neighbours, each of which gives one. Which one depends on the seed and the
    texts of the block alone. Raises ValueError when fewer than ``count`` are possible.
    """
    sets = set_of or {}
    candidates = possible_controls(conversations)
    if count > len(candidates):
        raise ValueError(f"only {len(candidates)} rows can be set aside")
    candidates.sort(
        key=lambda c: (sets.get(c.id, 0), kind_of(c), len(c.messages[-1].written), fingerprint(c))
    )
    chosen = set()
    for number in range(count):
        start, end = (at * len(candidates) // count for at in (number, number + 1))
        chosen.add(min(_drawn(seed, one) for one in candidates[start:end]))
    return [one for one in conversations if _drawn(seed, one) in chosen]


def possible_controls(conversations: Sequence[Conversation]) -> list[Conversation]:
    """Those that end with a text answer and whose texts occur only once.

    Recall is measured on those whose answer follows a question (``is_answered``), the loss by part
    on all. Of two equal rows, one would be trained on. Canaries are there to be trained on,
    and have a null of their own.
    """
    times = Counter(map(fingerprint, conversations))
    return [
        one
        for one in conversations
        if ends_in_words(one) and times[fingerprint(one)] == 1 and kind_of(one) != CANARY
    ]


def _drawn(seed: int, conversation: Conversation) -> str:
    return hashlib.sha256(f"{seed} {fingerprint(conversation)}".encode()).hexdigest()


def kind_of(conversation: Conversation) -> str:
    """The first tag, which says what kind of row it is; "" without tags."""
    return next(iter(conversation.tags), "")


def is_answered(conversation: Conversation) -> bool:
    """Whether it ends with a question and an answer in words, not with a call."""
    return ends_in_words(conversation) and conversation.messages[-2].role == "user"


def ends_in_words(conversation: Conversation) -> bool:
    """Whether it ends with an answer in words, to a question or after the result of a call."""
    roles = [message.role for message in conversation.messages[-2:]]
    last = conversation.messages[-1]
    answers = roles in (["user", "assistant"], ["tool", "assistant"])
    return answers and not last.tool_calls and bool(last.content.strip())


def fingerprint(conversation: Conversation) -> str:
    """A digest of the texts; ids and places do not count."""
    texts: list[Any] = [
        [each.role, each.content, each.name, *thought_and_calls(each)]
        for each in conversation.messages
    ]
    texts += [[tool.definition] for tool in conversation.tools]
    return hashlib.sha256(json.dumps(texts).encode("utf-8", "surrogatepass")).hexdigest()


def thought_and_calls(message: Message) -> list[Any]:
    """The parts of a message other than its text, for a digest; empty if there are none.

    So the digest of a plain message is the same as before messages had thoughts and calls.
    """
    calls = [[call.name, call.arguments, call.id] for call in message.tool_calls]
    found = [message.reasoning, calls, message.tool_call_id]
    return found if any(found) else []


def without(
    conversations: Sequence[Conversation], others: Sequence[Conversation]
) -> list[Conversation]:
    """The conversations whose texts are not among the others'."""
    excluded = set(map(fingerprint, others))
    return [one for one in conversations if fingerprint(one) not in excluded]


def are_among(some: Sequence[Conversation], others: Sequence[Conversation]) -> bool:
    """Whether there are some, and all their texts are among the others'."""
    return bool(some) and not without(some, others)


def shipped_controls(rows: Sequence[Conversation]) -> tuple[Conversation, ...]:
    """The shipped controls of the rows' kinds, if all rows are of the shipped training set.

    Rows of any other set are of another pool and get none.
    """
    if not are_among(rows, load_conversations([str(data_dir("trainset"))])):
        return ()
    return of_their_kinds(load_conversations([str(data_dir("eval") / CONTROLS_FILE)]), rows)


def of_their_kinds(
    controls: Sequence[Conversation], rows: Sequence[Conversation]
) -> tuple[Conversation, ...]:
    """The controls of kinds that the rows have; all of them where no kind is shared."""
    kinds = set(map(kind_of, rows))
    return tuple(one for one in controls if kind_of(one) in kinds) or tuple(controls)


def write_controls(folder: Path, controls: Sequence[Conversation]) -> None:
    """Write the controls into a run's folder, or remove an outdated list."""
    file = folder / CONTROLS_FILE
    if controls:
        lines = (json.dumps(as_row(one), ensure_ascii=False) + "\n" for one in controls)
        write_text(file, "".join(lines), what="run's folder")
    else:
        file.unlink(missing_ok=True)


def read_controls(folder: Path) -> tuple[Conversation, ...] | None:
    """The controls of a run, or None where its folder has none."""
    file = folder / CONTROLS_FILE
    return tuple(load_conversations([str(file)])) if file.is_file() else None
