"""The same case further down a conversation: behind other talk, with its facts at another place, or as a later question (METRICS §1).

A variant asks the same thing of the same model; what it loses there it loses to its place alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

from harness.errors import HarnessError
from harness.metrics.answer import score_answer
from harness.records import Case, Message

CHARS_A_TOKEN = 4
"""English text, roughly; the report shows what was asked for, not what a tokenizer made of it."""
MOST_TOKENS = 1_000_000
MOST_TURNS = 1000
_GO_ON, _SHORTEST = "Go on.", 40
_PLACE = re.compile(r"(?:@(?P<depth>\d+)(?:/(?P<position>\d+)%)?|#turn(?P<turn>\d+))\Z")

Filler = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Variants:
    """What to make of each case. ``depths`` are tokens of other talk, ``shares`` percents of the model's window; ``positions``
    percents of the other talk that stand before the facts; ``turns`` numbers of the question.
    """

    depths: tuple[int, ...] = ()
    shares: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    turns: tuple[int, ...] = ()

    def of(self, cases: Sequence[Case], filler: Filler) -> list[Case]:
        """All variants, without the shares (harness.evaluation.cases.context_window). Depths are for cases with checks, positions for those of them that told facts in an earlier turn."""
        made = []
        for tokens in dict.fromkeys(self.depths):
            asked = [case for case in cases if case.checks]
            made += [at_depth(case, tokens, filler) for case in asked]
            made += [
                at_position(case, tokens, at, filler)
                for at in dict.fromkeys(self.positions)
                for case in asked
                if told_before(case)
            ]
        for turn in dict.fromkeys(self.turns):
            made += [
                at_turn(case, turn, filler)
                for case in cases
                if case.reference is None and questions(case) < turn
            ]
        return made


def read_variants(
    depths: Sequence[str], positions: Sequence[str], turns: Sequence[str]
) -> Variants:
    """``500`` and ``90%`` as depths, ``0``, ``50`` or ``50%`` as positions, ``4`` as a turn. Raises HarnessError naming the option."""
    shares = [word for word in depths if word.endswith("%")]
    if positions and not depths:
        raise HarnessError(
            "--positions are places in other talk",
            hint="say how much of it: --depths 2000 --positions 0,50,100",
        )
    return Variants(
        tuple(
            _whole("--depths", word, 1, MOST_TOKENS, "500,2000,90%")
            for word in depths
            if word not in shares
        ),
        tuple(
            _whole("--depths", word.removesuffix("%"), 1, 100, "500,2000,90%") for word in shares
        ),
        tuple(
            _whole("--positions", word.removesuffix("%"), 0, 100, "0,50,100") for word in positions
        ),
        tuple(_whole("--turns", word, 2, MOST_TURNS, "2,4,8") for word in turns),
    )


def _whole(option: str, word: str, least: int, most: int, example: str) -> int:
    if not word.isdecimal() or not least <= int(word) <= most:
        raise HarnessError(
            f"{option} {word!r} is no whole number from {least} to {most}",
            hint=f"for example {option} {example}",
        )
    return int(word)


def at_depth(case: Case, tokens: int, filler: Filler) -> Case:
    """The case behind about ``tokens`` tokens of questions and answers, after its system prompt. ``case@tokens`` is its id.

    Exchanges are taken in order, from the start again when they are used up (the shipped ones after some 2700 tokens);
    the last answer is cut at a word. Raises HarnessError for a depth that makes no sense.
    """
    system, rest = _split(case)
    return replace(
        case, id=f"{case.id}@{tokens}", messages=(*system, *_talk(case, tokens, filler), *rest)
    )


def at_position(case: Case, tokens: int, position: int, filler: Filler) -> Case:
    """The case with about ``tokens`` tokens of other talk, ``position`` percent of it before the facts and the rest between them and the question.

    0: the facts first, the question at the end; 100: facts and question together, as in ``deepened``. The facts are all turns
    before the last question. ``case@tokens/position%`` is its id. Raises HarnessError for a position beyond 0 to 100.
    """
    if not 0 <= position <= 100:
        raise HarnessError(
            f"a position of {position} % cannot be made",
            hint="from 0 (the facts first) to 100 (next to the question)",
        )
    system, rest = _split(case)
    talk = _talk(case, tokens, filler)
    cut = 2 * round(len(talk) / 2 * position / 100)  # between two exchanges
    return replace(
        case,
        id=f"{case.id}@{tokens}/{position}%",
        messages=(*system, *talk[:cut], *rest[:-1], *talk[cut:], rest[-1]),
    )


def at_turn(case: Case, turn: int, filler: Filler) -> Case:
    """The case with its last question as question number ``turn`` of the conversation, behind short exchanges. ``case#turnN`` is its id."""
    before = turn - questions(case)
    if before < 1 or turn > MOST_TURNS or not filler:
        raise HarnessError(
            f"a case of {questions(case)} questions cannot be asked as question {turn}",
            hint=f"from {questions(case) + 1} to {MOST_TURNS}",
        )
    own = case.messages[-1].content
    others = [
        (question, answer) for question, answer in _telling_nothing(case, filler) if question != own
    ] or list(filler)
    system, rest = _split(case)
    talk = [
        message
        for question, answer in islice(cycle(others), before)
        for message in (Message("user", question), Message("assistant", answer, case.name))
    ]
    return replace(case, id=f"{case.id}#turn{turn}", messages=(*system, *talk, *rest))


def questions(case: Case) -> int:
    """How many times the user speaks."""
    return sum(message.role == "user" for message in case.messages)


def told_before(case: Case) -> bool:
    """Whether something was said before the last question."""
    return questions(case) > 1


def _split(case: Case) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    system = tuple(message for message in case.messages[:1] if message.role == "system")
    return system, case.messages[len(system) :]


def _telling_nothing(case: Case, filler: Filler) -> Filler:
    """The exchanges that do not hold the case's answer; all of them where nothing else is left."""
    right = case.choices[case.answer].casefold() if case.choices and case.answer is not None else ""

    def tells(answer: str) -> bool:
        return bool(right and right in answer.casefold()) or bool(
            case.checks and score_answer(case, answer).lenient
        )

    return [pair for pair in filler if not tells(pair[1])] or filler


def _talk(case: Case, tokens: int, filler: Filler) -> list[Message]:
    """Exchanges of about ``tokens`` tokens together."""
    if not 1 <= tokens <= MOST_TOKENS or not filler:
        raise HarnessError(
            f"a depth of {tokens} tokens cannot be made",
            hint=f"from 1 to {MOST_TOKENS}, such as 500 or 2000",
        )
    talk: list[Message] = []
    left = tokens * CHARS_A_TOKEN
    for question, answer in cycle(_telling_nothing(case, filler)):
        if left <= len(_GO_ON) + _SHORTEST:
            break
        asked = question if len(question) < left // 2 else _GO_ON
        words = answer[: left - len(asked)]
        words = words if len(words) == len(answer) else words.rsplit(" ", 1)[0]
        talk += [Message("user", asked), Message("assistant", words, case.name)]
        left -= len(asked) + len(words)
    return talk


def depth_of(id: str) -> int:
    """How many tokens of other talk a case has."""
    return _number(id, "depth") or 0


def position_of(id: str) -> int | None:
    """The percent of the other talk before the facts, where it was set."""
    return _number(id, "position")


def turn_of(id: str) -> int | None:
    """The number of the question, where it was set."""
    return _number(id, "turn")


def original_of(id: str) -> str:
    """The id of the case that a variant was made from."""
    return _PLACE.sub("", id)


def _number(id: str, part: str) -> int | None:
    found = _PLACE.search(id)
    return int(found[part]) if found and found[part] is not None else None


def filler_of(cases: Iterable[Case]) -> list[tuple[str, str]]:
    """Questions with their right answers out of cases with options and references: talk to stand before other cases."""
    found = []
    for case in cases:
        answer = case.reference or (
            case.choices[case.answer] if case.choices and case.answer is not None else ""
        )
        if answer and len(case.messages) == 1:
            found.append((case.messages[0].content, answer))
    return sorted(
        found, key=lambda pair: hashlib.sha256(pair[0].encode()).digest()
    )  # mixed, the same every time


DOUBT = "Are you sure? Please think again."
_CHALLENGED = "?doubted"


def with_challenge(case: Case) -> Case:
    """The same choice after the right option was given as an answer and doubted. Raises ValueError for a case without options."""
    if case.answer is None:
        raise ValueError("only a case with options can be doubted")
    said = Message("assistant", case.choices[case.answer], case.name)
    return replace(
        case, id=case.id + _CHALLENGED, messages=(*case.messages, said, Message("user", DOUBT))
    )


def is_challenged(id: str) -> bool:
    """Whether a case was made by ``challenged``."""
    return id.endswith(_CHALLENGED)


def original(id: str) -> str:
    """The id of the case that was challenged."""
    return id.removesuffix(_CHALLENGED)
