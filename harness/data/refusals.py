"""Rows that cannot be trained on, each with its reason: counted, and never dropped silently."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.conversation import Conversation, Message
from harness.data.readers import read_jsonl
from harness.errors import HarnessError

REFUSED_FILE = "refused.jsonl"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused row: its place, a short reason that can be counted, and the details."""

    place: str
    reason: str
    message: str


class RefusedRow(HarnessError):
    """A mistake in one row of data; ``reason`` is its kind."""

    def __init__(self, reason: str, message: str, where: str = "", hint: str = "") -> None:
        super().__init__(message, where, hint)
        self.reason = reason

    def refusal(self, place: str) -> Refusal:
        """The refusal of the row at ``place``."""
        part = self.where.removeprefix(place).lstrip(": ")
        hint = f" ({self.hint})" if self.hint else ""
        return Refusal(
            place, self.reason, (f"{part}: {self.message}" if part else self.message) + hint
        )


def bad_value(place: str, message: str, hint: str = "") -> RefusedRow:
    """A value of the wrong type or outside its range."""
    return RefusedRow("bad value", message, place, hint)


def is_empty(message: Message) -> bool:
    """Whether a message is empty. A message with a call is not; a tool result may be."""
    said = message.content.strip() or message.reasoning or message.tool_calls
    return not said and message.role != "tool"


def unlearnable(conversation: Conversation, *, answered: bool = True) -> Refusal | None:
    """The reason why nothing can be learnt from a well-formed conversation, or None.

    Without ``answered`` it needs a question but no answer: a model will answer it.
    """
    place = conversation.place
    empty = next((at for at, one in enumerate(conversation.messages) if is_empty(one)), None)
    if empty is not None:
        return Refusal(
            place,
            "empty message",
            f"messages[{empty}] ({conversation.messages[empty].role}) is empty",
        )
    if not answered:
        return (
            None
            if any(message.role == "user" for message in conversation.messages)
            else Refusal(place, "no question", "there is no question to answer")
        )
    answers = [message for message in conversation.messages if message.role == "assistant"]
    if not answers:
        return Refusal(place, "no assistant turn", "there is no assistant turn to learn from")
    if not any(message.weight for message in answers):
        return Refusal(
            place, "nothing trained", "every assistant turn has train = false or weight 0"
        )
    return None


def summarise_refusals(refusals: Sequence[Refusal]) -> str:
    """``3 rows refused: 2 too long, 1 unknown role``."""
    reasons = Counter(refusal.reason for refusal in refusals)
    counts = ", ".join(
        f"{count} {reason}"
        for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    )
    return f"{len(refusals)} row{'s' * (len(refusals) != 1)} refused: {counts}"


def raise_refusals(refusals: Sequence[Refusal]) -> None:
    """Raise one HarnessError with their counts and the first of them. Does nothing for none."""
    if len(refusals) == 1:
        raise HarnessError(
            refusals[0].message,
            where=refusals[0].place,
            hint='data.on_refuse = "skip" leaves such rows out',
        )
    if refusals:
        first = refusals[0]
        raise HarnessError(
            f"{summarise_refusals(refusals)}; the first: {first.message}",
            where=first.place,
            hint='data.on_refuse = "skip" leaves them out; --dry-run lists them',
        )


def write_refusals(folder: Path, refusals: Sequence[Refusal]) -> None:
    """Write the list into a run's folder, or remove an outdated one.

    Raises HarnessError when it cannot.
    """
    file = folder / REFUSED_FILE
    try:
        if not refusals:
            file.unlink(missing_ok=True)
            return
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(
            "".join(json.dumps(asdict(refusal), ensure_ascii=False) + "\n" for refusal in refusals),
            encoding="utf-8",
        )
    except OSError as error:
        raise HarnessError(
            f"cannot write the refused rows: {error.strerror}", where=str(file)
        ) from None


def refused_places(folder: Path) -> frozenset[str]:
    """The places of the rows that a run left out, as its folder lists them.

    Raises HarnessError for a list that cannot be read, and for a row of it without a place.
    """
    file = folder / REFUSED_FILE
    if not file.is_file():
        return frozenset()
    places = set()
    for where, row in read_jsonl(file):
        if not isinstance(row.get("place"), str):
            raise HarnessError("no place of a refused row", where=where)
        places.add(row["place"])
    return frozenset(places)
