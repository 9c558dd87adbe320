"""Questions with their answers that say nearly the same, found by the words they share.

What is said in other words is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from harness.conversation import Conversation, Message
from harness.metrics.language.function_words import WORDS_BY_LANGUAGE
from harness.metrics.words import UNSPACED, words
from harness.records import Case, Check

#: Exchanges are alike from this share of common content words (Dice) on, and 1 ÷ their number more:
#: short ones share half of their words by chance.
ALIKE = 0.35
#: The fewest common words that count.
SHARED = 3
#: Questions are alike from this Indel similarity on, if they have SHARED content words.
SAME_QUESTION = 0.85
_CHUNK = 500
_UNSPACED = re.compile(f"[{UNSPACED}]")
_ENDINGS = ("ing", "ers", "er", "ed", "es", "ly", "s")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer. Those of one ``owner``, a row or a case, are not compared."""

    owner: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Likeness:
    """Two exchanges that are alike, as positions in the two sequences, and what says so."""

    first: int
    second: int
    why: str


def exchanges_of(conversation: Conversation) -> list[Exchange]:
    """Each question of a conversation, with everything the assistant wrote until the next."""
    found: list[tuple[str, list[str]]] = []
    for message in conversation.messages:
        if message.role == "user":
            found.append((message.content, []))
        elif message.role == "assistant" and found:
            found[-1][1].append(message.written)
    return [
        Exchange(conversation.place, question, "\n".join(answers))
        for question, answers in found
        if answers
    ]


def last_question(messages: Sequence[Message]) -> str:
    """What the user asked last, before the results of tools."""
    return next((each.content for each in reversed(messages) if each.role == "user"), "")


def exchange_of(case: Case) -> Exchange:
    """A case's question with its right option, its reference, or the texts of its checks."""
    if case.choices and case.answer is not None:
        answer = case.choices[case.answer]
    else:
        answer = case.reference or " ".join(_texts([check.value for check in case.checks]))
    return Exchange(case.id, last_question(case.messages), answer)


def _texts(value: Any) -> list[str]:
    """All texts and numbers in a check's value."""
    if isinstance(value, Check):
        return _texts(value.value)
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    return [str(value)]


def content_words(text: str) -> set[str]:
    """The words that carry a meaning, without endings; of unspaced scripts pairs of characters."""
    found = words(text.casefold())
    unspaced = [word for word in found if _UNSPACED.match(word)]
    spaced = {_stem(word) for word in found if word not in _STOP and not _UNSPACED.match(word)}
    return spaced | {first + second for first, second in pairwise(unspaced)}


_STOP = frozenset[str]().union(
    *(WORDS_BY_LANGUAGE[language] for language in ("en", "de", "fr", "es", "it", "pt", "nl"))
)


def _stem(word: str) -> str:
    ending = next((e for e in _ENDINGS if word.endswith(e) and len(word) - len(e) >= 3), "")
    return word.removesuffix(ending)


def likenesses(first: Sequence[Exchange], second: Sequence[Exchange]) -> Iterator[Likeness]:
    """The pairs of two sequences that are alike, each once where the sequences are the same one."""
    if not first or not second:
        return
    found = _shared_words(first, second) | _same_questions(first, second)
    for row, column in sorted(found):
        later = row > column and first is second
        if first[row].owner != second[column].owner and not later:
            yield Likeness(row, column, found[row, column])


def _shared_words(
    first: Sequence[Exchange], second: Sequence[Exchange]
) -> dict[tuple[int, int], str]:
    """Pairs of which question and answer together have most content words in common."""
    sides = [[content_words(f"{one.question}\n{one.answer}") for one in s] for s in (first, second)]
    sizes = [[len(found) for found in side] for side in sides]
    return {
        (row, column): f"{share:.0%} of the words are shared"
        for row, column, count in _common(*sides)
        if (share := 2 * count / (sizes[0][row] + sizes[1][column])) >= ALIKE + 1 / count
    }


def _same_questions(
    first: Sequence[Exchange], second: Sequence[Exchange]
) -> dict[tuple[int, int], str]:
    """Pairs of questions with nearly the same letters."""
    from rapidfuzz.distance import Indel

    sides = [[one.question for one in side] for side in (first, second)]
    plain = [[" ".join(words(text.casefold())) for text in side] for side in sides]
    common = _common(*([content_words(text) for text in side] for side in sides))
    scored = (
        (row, column, Indel.normalized_similarity(plain[0][row], plain[1][column]))
        for row, column, _ in common
    )
    return {
        (row, column): f"the questions are {score:.0%} alike"
        for row, column, score in scored
        if score >= SAME_QUESTION
    }


def _common(
    first: Sequence[set[str]], second: Sequence[set[str]]
) -> Iterator[tuple[int, int, int]]:
    """All pairs of sets with at least SHARED common members, and their number."""
    import numpy as np
    from scipy.sparse import csr_matrix

    columns = {
        word: at for at, word in enumerate(sorted(set().union(*first) & set().union(*second)))
    }

    def matrix(sets: Sequence[set[str]]) -> csr_matrix:
        places = [[columns[word] for word in found if word in columns] for found in sets]
        starts = np.cumsum([0, *map(len, places)])
        flat = np.array([at for row in places for at in row], np.int32)
        return csr_matrix((np.ones(len(flat), np.int32), flat, starts), (len(sets), len(columns)))

    rows, other = matrix(first), matrix(second).T.tocsr()
    for start in range(0, len(first), _CHUNK):
        counts = (rows[start : start + _CHUNK] @ other).tocoo()
        enough = counts.data >= SHARED
        yield from zip(
            (start + counts.row[enough]).tolist(),
            counts.col[enough].tolist(),
            counts.data[enough].tolist(),
            strict=True,
        )
