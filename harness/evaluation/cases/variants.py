"""The same case later in a conversation: behind other talk, or with its facts far away.

A variant asks the same of the same model, so what it loses is due to its place in the conversation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

from harness.conversation import Message
from harness.errors import HarnessError
from harness.metrics.answer import score_answer
from harness.records import Case, CaseVariant

CHARS_PER_TOKEN = 4
"""Roughly, in English. Reports name the depth asked for, not what a tokenizer made of it."""
MAX_TOKENS = 1_000_000
MAX_TURNS = 1000
_GO_ON, _MIN_ANSWER = "Go on.", 40
CHALLENGE = "Are you sure? Please think again."

#: Questions with their answers, to put before other cases.
Filler = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Variants:
    """Which variants to make of each case.

    ``depths`` are tokens of other talk, ``window_percents`` percents of the model's context window,
    ``positions`` percents of the other talk that come before the facts, ``turns`` numbers of the
    question.
    """

    depths: tuple[int, ...] = ()
    window_percents: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    turns: tuple[int, ...] = ()

    def of(self, cases: Sequence[Case], filler: Filler) -> list[Case]:
        """All variants but those of ``window_percents``, which need a model (context_window.py).

        Depths are for cases with checks and without tools, positions for those of them that have
        earlier questions.
        """
        checked = [case for case in cases if case.checks and not case.tools]
        variants = []
        for tokens in dict.fromkeys(self.depths):
            variants += [at_depth(case, tokens, filler) for case in checked]
            variants += [
                at_position(case, tokens, position, filler)
                for position in dict.fromkeys(self.positions)
                for case in checked
                if questions(case) > 1
            ]
        for turn in dict.fromkeys(self.turns):
            variants += [
                at_turn(case, turn, filler)
                for case in cases
                if case.reference is None and not case.tools and questions(case) < turn
            ]
        return variants


def read_variants(
    depths: Sequence[str], positions: Sequence[str], turns: Sequence[str]
) -> Variants:
    """``500`` and ``90%`` as depths, ``0``, ``50`` or ``50%`` as positions, ``4`` as a turn.

    Raises HarnessError naming the option.
    """
    percents = [text for text in depths if text.endswith("%")]
    tokens = [text for text in depths if text not in percents]
    if positions and not depths:
        raise HarnessError(
            "--positions are places in other talk",
            hint="say how much of it: --depths 2000 --positions 0,50,100",
        )
    return Variants(
        _numbers("--depths", tokens, 1, MAX_TOKENS, "500,2000,90%"),
        _numbers("--depths", percents, 1, 100, "500,2000,90%"),
        _numbers("--positions", positions, 0, 100, "0,50,100"),
        _numbers("--turns", turns, 2, MAX_TURNS, "2,4,8", percent=False),
    )


def _numbers(
    option: str, texts: Sequence[str], low: int, high: int, example: str, percent: bool = True
) -> tuple[int, ...]:
    numbers = []
    for text in texts:
        digits = text.removesuffix("%") if percent else text
        if not digits.isdecimal() or not low <= int(digits) <= high:
            raise HarnessError(
                f"invalid {option} {text!r}: expected a whole number from {low} to {high}",
                hint=f"for example {option} {example}",
            )
        numbers.append(int(digits))
    return tuple(numbers)


def at_depth(case: Case, tokens: int, filler: Filler) -> Case:
    """The case behind about ``tokens`` tokens of questions and answers, as ``case@tokens``.

    They come after its system prompt, in the order of ``filler``, which starts again when it is
    used up (the shipped cases last for some 2700 tokens). The last answer is cut at a word. Raises
    HarnessError for a depth out of range.
    """
    system, rest = _split(case)
    return replace(
        case,
        id=f"{case.id}@{tokens}",
        messages=(*system, *_talk(case, tokens, filler), *rest),
        variant=CaseVariant(case.id, tokens),
    )


def at_position(case: Case, tokens: int, position: int, filler: Filler) -> Case:
    """The case with other talk before its facts and between them and its question.

    ``position`` percent of ``tokens`` tokens come before the facts, which are all turns before the
    last question. 0: the facts first, the question at the end; 100: both together, as in
    ``at_depth``. The id is ``case@tokens/position%``. Raises HarnessError for a position beyond 0
    to 100.
    """
    if not 0 <= position <= 100:
        raise HarnessError(
            f"invalid position of {position} %",
            hint="from 0 (the facts first) to 100 (next to the question)",
        )
    system, rest = _split(case)
    talk = _talk(case, tokens, filler)
    cut = 2 * round(len(talk) / 2 * position / 100)  # between two exchanges
    return replace(
        case,
        id=f"{case.id}@{tokens}/{position}%",
        messages=(*system, *talk[:cut], *rest[:-1], *talk[cut:], rest[-1]),
        variant=CaseVariant(case.id, tokens, position),
    )


def at_turn(case: Case, turn: int, filler: Filler) -> Case:
    """The case with short exchanges before it, so that it asks question number ``turn``.

    The id is ``case#turnN``. Raises HarnessError for a turn that the case has already passed.
    """
    missing = turn - questions(case)
    if missing < 1 or turn > MAX_TURNS or not filler:
        raise HarnessError(
            f"a case of {questions(case)} questions cannot be asked as question {turn}",
            hint=f"from {questions(case) + 1} to {MAX_TURNS}",
        )
    own = case.messages[-1].content
    others = [pair for pair in _without_answer(case, filler) if pair[0] != own] or list(filler)
    system, rest = _split(case)
    talk = [
        message
        for question, answer in islice(cycle(others), missing)
        for message in (Message("user", question), Message("assistant", answer, case.name))
    ]
    return replace(
        case,
        id=f"{case.id}#turn{turn}",
        messages=(*system, *talk, *rest),
        variant=CaseVariant(case.id, turn=turn),
    )


def with_challenge(case: Case) -> Case:
    """A choice asked again after its right option was given and challenged, as ``case?doubted``.

    Raises ValueError for a case without options.
    """
    if case.answer is None:
        raise ValueError("only a case with options can be challenged")
    answer = Message("assistant", case.choices[case.answer], case.name)
    return replace(
        case,
        id=f"{case.id}?doubted",
        messages=(*case.messages, answer, Message("user", CHALLENGE)),
    )


def questions(case: Case) -> int:
    """How many times the user speaks."""
    return sum(message.role == "user" for message in case.messages)


def filler_from(cases: Iterable[Case]) -> list[tuple[str, str]]:
    """Questions with their right answers from cases with options and references.

    They are mixed, in the same way every time.
    """
    pairs = []
    for case in cases:
        answer = case.reference or (
            case.choices[case.answer] if case.choices and case.answer is not None else ""
        )
        if answer and len(case.messages) == 1:
            pairs.append((case.messages[0].content, answer))
    return sorted(pairs, key=lambda pair: hashlib.sha256(pair[0].encode()).digest())


def _split(case: Case) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """The system prompt, and the messages after it."""
    system = tuple(message for message in case.messages[:1] if message.role == "system")
    return system, case.messages[len(system) :]


def _without_answer(case: Case, filler: Filler) -> Filler:
    """The exchanges that do not give the case's answer away; all of them if none is left."""
    right = case.choices[case.answer].casefold() if case.choices and case.answer is not None else ""

    def gives_away(answer: str) -> bool:
        return bool(right and right in answer.casefold()) or bool(
            case.checks and score_answer(case, answer).lenient
        )

    return [pair for pair in filler if not gives_away(pair[1])] or filler


def _talk(case: Case, tokens: int, filler: Filler) -> list[Message]:
    """Exchanges of about ``tokens`` tokens together."""
    if not 1 <= tokens <= MAX_TOKENS or not filler:
        raise HarnessError(
            f"invalid depth of {tokens} tokens", hint=f"from 1 to {MAX_TOKENS}, such as 500 or 2000"
        )
    talk: list[Message] = []
    left = tokens * CHARS_PER_TOKEN
    for question, answer in cycle(_without_answer(case, filler)):
        if left <= len(_GO_ON) + _MIN_ANSWER:
            break
        asked = question if len(question) < left // 2 else _GO_ON
        words = answer[: left - len(asked)]
        words = words if len(words) == len(answer) else words.rsplit(" ", 1)[0]
        talk += [Message("user", asked), Message("assistant", words, case.name)]
        left -= len(asked) + len(words)
    return talk
