"""Who is speaking?

An answer that speaks for the user, under another's name, or out of its character.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from harness.metrics.phrases import find
from harness.metrics.registry import AnswerItem, Metric, Scored, scorer
from harness.metrics.words import words
from harness.records import Case

Kind = Literal["speaks-for-user", "wrong-speaker", "out-of-character"]

_USERS = ("User", "Human", "You")
_ASSISTANTS = ("Assistant", "AI", "Bot", "Narrator", "System")
_BROKEN = re.compile(
    r"\b(?:as (?:an?|your) (?:AI|artificial intelligence|language model|(?:virtual |AI"
    r" )?assistant|chatbot)\b"
    r"|I(?:'m| am) (?:just |only |merely )?(?:an? )?(?:AI|language model|chatbot|virtual"
    r" assistant|computer program)\b"
    r"|(?:in|break(?:ing)?|out of|stay(?:ing)? in) (?:my )?(?:character|role-?play)\b)",
    re.IGNORECASE,
)

_FIRST_PERSON = re.compile(r"\b(?:I|me|my|mine|myself|we|us|our|ours)\b", re.IGNORECASE)
_SECOND_PERSON = re.compile(r"\byou(?:rs?)?\b", re.IGNORECASE)
FRAGMENT = 8
"""Words of the longest answer in role that needs no first person, such as "The Heron"."""


@dataclass(frozen=True, slots=True)
class RoleFault:
    """One fault and the characters ``[start, end)`` that show it."""

    kind: Kind
    start: int
    end: int


def role_faults(
    text: str, name: str | None = None, users: Iterable[str] = (), others: Iterable[str] = ()
) -> tuple[RoleFault, ...]:
    """The faults of an answer in order.

    ``name`` is the character that answers, ``users`` the names of those it speaks with, ``others``
    further speakers of the scene. A line that begins with a name and a colon is spoken by that
    name: by a user (``User``, ``Human`` and ``You`` too) it is speaking for the user, by another it
    is the wrong speaker. Out of character counts only for an answer with a name. A name inside a
    sentence is no label.
    """
    spoken_for = frozenset(map(str.casefold, (*_USERS, *users)))
    wrong = (
        frozenset(map(str.casefold, (*_ASSISTANTS, *others)))
        if name
        else frozenset(map(str.casefold, others))
    )
    own = name.casefold() if name else ""
    faults = list(_labels(text, spoken_for - {own}, wrong - {own}))
    if name:
        faults += [
            RoleFault("out-of-character", match.start(), match.end())
            for match in _BROKEN.finditer(text.replace("’", "'"))
        ]
        faults += [
            RoleFault("out-of-character", hit.start, hit.end)
            for hit in find(text)
            if hit.kind == "identity"
        ]
    return tuple(sorted(_apart(faults), key=lambda fault: fault.start))


def _labels(text: str, users: frozenset[str], others: frozenset[str]) -> Iterator[RoleFault]:
    for match in _label_pattern(users | others).finditer(text):
        who = match["who"].casefold()
        yield RoleFault(
            "speaks-for-user" if who in users else "wrong-speaker",
            match.start("label"),
            match.end("label"),
        )


def in_role(text: str) -> bool:
    """Whether an answer speaks as a character: in the first person or in a fragment that addresses
    nobody, and never as an AI.

    "You are Quill, an old librarian" does not: it repeats the system message.
    """
    spoken = text.replace("’", "'")
    first = _FIRST_PERSON.search(spoken)
    second = _SECOND_PERSON.search(spoken)
    if first is None and (second is not None or len(words(spoken)) > FRAGMENT):
        return False
    opens_with_you = second is not None and not words(spoken[: second.start()])
    return not opens_with_you and not any(
        fault.kind == "out-of-character" for fault in role_faults(spoken, name="the character")
    )


@lru_cache(maxsize=64)
def _label_pattern(names: frozenset[str]) -> re.Pattern[str]:
    known = "|".join(re.escape(name) for name in sorted(names, key=lambda name: (-len(name), name)))
    return re.compile(
        r"^[ \t>]{0,8}(?P<label>(?:\*\*|__|\[|#{1,6} ?)?"
        rf"(?P<who>{known})(?:\*\*|__|\])?[ \t]?:)",
        re.IGNORECASE | re.MULTILINE,
    )


def _apart(faults: Iterable[RoleFault]) -> Iterator[RoleFault]:
    """Of faults of one kind that overlap, the first."""
    end: dict[Kind, int] = {}
    for fault in sorted(faults, key=lambda fault: (fault.start, -fault.end)):
        if fault.start >= end.get(fault.kind, -1):
            end[fault.kind] = fault.end
            yield fault


@scorer(
    Metric(
        "role_fault",
        "answer",
        "the answer speaks for the user, as another speaker, or out of its character"
        " (cases with a name)",
        "lower",
        binary=True,
        by_depth=True,
        optional=True,
        tolerance=0.02,
        rank=54,
    )
)
def plays_another(item: AnswerItem) -> Mapping[str, Scored]:
    """Whether the answer of a named character has a role fault."""
    if not item.case.name:
        return {}
    faults = role_faults(item.text, item.case.name, users_of(item.case))
    kinds = ", ".join(dict.fromkeys(fault.kind for fault in faults))
    return {"role_fault": (float(bool(faults)), kinds)}


def users_of(case: Case) -> tuple[str, ...]:
    """The names of those whom the model speaks with in a case."""
    names = (m.name for m in case.messages if m.role == "user" and m.name)
    return tuple(dict.fromkeys(names))
