"""How likely is a word in each language?

Exact n-gram likelihoods from the profiles that langdetect ships.

langdetect itself draws n-grams at random and stops when it is sure, which on eight words is too
soon: it is sure that "kernel driver buffer cache pipeline register" is Danish. The same profiles
read exactly, word by word, need no seed and can be summed over any stretch of words. (A first rule
with seeded langdetect, windows of 8 words and function words found .77 of inserted sentences at .5
to 2 % false alarms; it was one attempt and was not tuned further.) Profiles: langdetect 1.0.9,
Apache-2.0, from Wikipedia (Shuyo 2010).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from harness.metrics.language.scripts import UNSPACED_SCRIPTS, scripts_of
from harness.metrics.language.word_lists import WORD_LISTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

FLOOR = 5e-5
"""Probability of a trigram that a profile lacks: langdetect's own smoothing, 0.5 / 10 000."""

_ALIASES = {"bs": "hr", "sr": "hr", "ms": "id"}
"""Languages without a profile → their nearest one with a profile (Bosnian and Latin Serbian,
Malay).
"""


@dataclass(frozen=True, slots=True)
class Profiles:
    """Log-probabilities of trigrams, one column a language."""

    languages: tuple[str, ...]
    trigrams: Mapping[str, Vector]

    def log_likelihood(self, word: str) -> Vector:
        """Sum over the trigrams of ``␠word␠`` of their log-probability in each language, in nats.

        Lower case expected.

        A trigram that no profile knows tells nothing and counts as equally likely everywhere.
        """
        total = np.zeros(len(self.languages))
        for part in re.split("['’-]", word):
            padded = f" {part} "
            for at in range(len(padded) - 2):
                row = self.trigrams.get(padded[at : at + 3])
                if row is not None:
                    total = total + row
        return total


def profile_of(language: str) -> str:
    """The profile that represents a language."""
    return _ALIASES.get(language, language)


def can_tell(language: str) -> bool:
    """Whether a stretch in another language can be distinguished from this one: it has a profile,
    or shares its script with none that has.
    """
    scripts = scripts_of([language])
    return profile_of(language) in _known() or not any(
        scripts_of([other]) & scripts for other in _known()
    )


def writes_latin(language: str) -> bool:
    """Whether words of this language in Latin letters can be recognised.

    Not Latin or Basque, which have no profile, nor Arabic or Russian in transcription.
    """
    return "Latin" in scripts_of([language]) and profile_of(language) in _known()


@cache
def _known() -> dict[str, str]:
    """Language → file of its profile.

    Only scripts that separate their words: the rest is recognised by script alone.
    """
    known = {}
    for entry in (files("langdetect") / "profiles").iterdir():
        language = entry.name
        if re.fullmatch("[a-z]{2,3}", language) and not scripts_of([language]) & UNSPACED_SCRIPTS:
            known[language] = entry.read_text(encoding="utf-8")
    return known


@cache
def load_profiles(scripts: frozenset[str]) -> Profiles:
    """The profiles of the languages that are written in one of these scripts, loaded once (about .3
    s for Latin).
    """
    shipped = [language for language in _known() if scripts_of([language]) & scripts]
    languages = tuple(sorted(shipped + [each for each in WORD_LISTS if "Latin" in scripts]))
    columns: dict[str, dict[int, float]] = {}
    for column, language in enumerate(languages):
        for gram, share in _shares(language).items():
            columns.setdefault(gram, {})[column] = share
    return Profiles(
        languages, {gram: _row(found, len(languages)) for gram, found in columns.items()}
    )


def _shares(language: str) -> dict[str, float]:
    """Trigram → its share of the language's trigrams, as shipped or counted from a word list."""
    if language not in WORD_LISTS:
        profile = json.loads(_known()[language])
        total = profile["n_words"][2]
        return {gram: n / total for gram, n in profile["freq"].items() if len(gram) == 3}
    padded = [f" {word} " for word in WORD_LISTS[language]]
    counts = Counter(word[at : at + 3] for word in padded for at in range(len(word) - 2))
    return {gram: n / counts.total() for gram, n in counts.items()}


def _row(found: Mapping[int, float], n: int) -> Vector:
    row: Vector = np.full(n, FLOOR)
    for column, p in found.items():
        row[column] += p
    logs: Vector = np.log(row)
    return logs
