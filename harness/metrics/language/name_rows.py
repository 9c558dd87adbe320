"""Rows of names, titles and dishes: they score like a foreign clause and are none.

"Calle de Alcalá, Avenida de la Constitución", "boeuf bourguignon, coq au vin, ratatouille". A
clause has words that only sentences have (pronouns, verbs, adverbs), or it is long; a row of names
is short phrases of nouns with articles and prepositions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import regex

from harness.metrics.language.function_words import NOMINAL

CAPITALISED_WORDS = 4
"""Most words of a phrase whose words are all capitalised. Articles and prepositions (NOMINAL) do
not count.
"""
SMALL_WORDS = 2
"""Most lower-case words of a phrase that begins with a capital, or is one of a list."""
LISTED = 3
"""Least phrases of a list."""

_INITIAL = regex.compile(r"^\P{L}*\p{Lu}")
_PAUSES = frozenset(",;、:.!?)…。")


def are_names(
    tokens: Sequence[str],
    words: Sequence[str],
    home: frozenset[str],
    own: frozenset[str],
    short: bool,
) -> bool:
    """Whether a stretch is a row of names.

    ``words`` are the tokens' words, empty for bullets and signs; ``own`` holds the function words
    of the foreign language, ``home`` words of the expected ones alone, which part phrases. In a
    short answer, which may be a single phrase, all words of a name are capitalised.
    """
    phrases = list(_phrases(tokens, words, home))
    if not short and len(phrases) >= LISTED and all(len(phrase) == 1 for phrase in phrases):
        return True
    sentence = own - NOMINAL
    content = [
        [(bool(_INITIAL.search(token)), word) for token, word in phrase if word not in NOMINAL]
        for phrase in phrases
    ]
    small = [[word for capital, word in phrase if not capital] for phrase in content]
    if not any(small):
        capitals = max(map(len, content), default=0)
        return capitals <= CAPITALISED_WORDS and not (short and _has(content, sentence))
    if short or _has(content, sentence) or max(map(len, small)) > SMALL_WORDS:
        return False
    return len(phrases) >= LISTED or all(_INITIAL.search(phrase[0][0]) for phrase in phrases)


def _has(content: Sequence[Sequence[tuple[bool, str]]], sentence: frozenset[str]) -> bool:
    return any(word in sentence for phrase in content for _, word in phrase)


def _phrases(
    tokens: Sequence[str], words: Sequence[str], home: frozenset[str]
) -> Iterator[list[tuple[str, str]]]:
    """Tokens and words by phrase; words of the expected languages, signs and pauses part them."""
    phrase: list[tuple[str, str]] = []
    for token, word in zip(tokens, words, strict=True):
        part = not word or word in home
        if not part:
            phrase.append((token, word))
        if phrase and (part or token[-1] in _PAUSES):
            yield phrase
            phrase = []
    if phrase:
        yield phrase
