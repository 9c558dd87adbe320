"""The same measures deep in a conversation: by the turn of the question, and behind a given length of other talk (METRICS §1).

A case behind 2000 tokens asks the same thing of the same model; what it loses there it loses to length alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.records import Case, Message

if TYPE_CHECKING:
    from harness.evaluate.session import Evaluation

CHARS_A_TOKEN = 4
"""English text, roughly; the report shows what was asked for, not what a tokenizer made of it."""
MOST_TOKENS = 1_000_000
MEASURES = ("on_task", "answer_strict", "stopped", "empty", "role_fault", "drift")
_GO_ON, _SHORTEST = "Go on.", 40
_DEPTH = re.compile(r"@(\d+)\Z")


@dataclass(frozen=True, slots=True)
class DepthRow:
    """One measure at one place: mean over formats of the cases there, with its 95 % interval; ``n`` counts cases."""

    run: str
    by: str
    place: int
    metric: str
    mean: float
    low: float
    high: float
    n: int


def deepened(case: Case, tokens: int, filler: Sequence[tuple[str, str]]) -> Case:
    """The case behind about ``tokens`` tokens of questions and answers, after its system prompt. ``case@tokens`` is its id.

    Exchanges are taken in order, from the start again when they are used up (the shipped ones after some 2700 tokens);
    the last answer is cut at a word. Raises HarnessError for a depth that makes no sense.
    """
    if not 1 <= tokens <= MOST_TOKENS or not filler:
        raise HarnessError(f"a depth of {tokens} tokens cannot be made", hint=f"from 1 to {MOST_TOKENS}, such as 500 or 2000")
    system = tuple(message for message in case.messages[:1] if message.role == "system")
    before: list[Message] = []
    left = tokens * CHARS_A_TOKEN
    for question, answer in cycle(filler):
        if left <= len(_GO_ON) + _SHORTEST:
            break
        asked = question if len(question) < left // 2 else _GO_ON
        words = answer[: left - len(asked)]
        words = words if len(words) == len(answer) else words.rsplit(" ", 1)[0]
        before += [Message("user", asked), Message("assistant", words, case.name)]
        left -= len(asked) + len(words)
    return replace(case, id=f"{case.id}@{tokens}", messages=(*system, *before, *case.messages[len(system) :]))


def depth_of(id: str) -> int:
    """How many tokens of other talk a case stands behind."""
    found = _DEPTH.search(id)
    return int(found[1]) if found else 0


def depth_rows(evaluation: Evaluation) -> list[DepthRow]:
    """Each measure by the turn of the question, and by depth where cases were deepened. Needs two places to compare."""
    from harness.stats import mean_interval

    turns = {case.id: sum(message.role == "user" for message in case.messages) for case in evaluation.cases if not depth_of(case.id)}
    depths = {case.id: depth_of(case.id) for case in evaluation.cases}
    rows = []
    for by, places in (("turn", turns), ("depth", depths)):
        for metric in MEASURES:
            values: dict[str, list[float]] = {}
            for score in evaluation.scores:
                if score.metric == metric and score.value is not None and score.case in places:
                    values.setdefault(score.case, []).append(score.value)
            held: dict[int, list[float]] = {}
            for case, found in values.items():
                held.setdefault(places[case], []).append(sum(found) / len(found))
            if len(held) < 2:
                continue
            for place in sorted(held):
                mean = mean_interval(held[place])
                rows.append(DepthRow(evaluation.label, by, place, metric, mean.value, mean.low, mean.high, mean.n))
    return rows


def filler_of(cases: Iterable[Case]) -> list[tuple[str, str]]:
    """Questions with their right answers out of cases with options and references: talk to stand before other cases."""
    found = []
    for case in cases:
        answer = case.reference or (case.choices[case.answer] if case.choices and case.answer is not None else "")
        if answer and len(case.messages) == 1:
            found.append((case.messages[0].content, answer))
    return sorted(found, key=lambda pair: hashlib.sha256(pair[0].encode()).digest())  # mixed, the same every time
