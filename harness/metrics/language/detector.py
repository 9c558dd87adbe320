"""Stretches of a foreign language written in an expected script, found word by word.

Whole-text detection misses one foreign sentence among seven, and eight fixed words dilute a clause
with its neighbours. Here every word gives each language a score against the expected ones
(log-likelihood ratio of its trigrams, function words on top), and the stretch of words with the
largest sum is judged: the window fits itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import regex

from harness.metrics.language.function_words import JARGON, NOMINAL, WORDS_BY_LANGUAGE
from harness.metrics.language.name_rows import are_names
from harness.metrics.language.profiles import load_profiles, profile_of
from harness.metrics.language.related import related_stretches
from harness.metrics.language.scripts import UNSPACED_SCRIPTS, scripts_of
from harness.metrics.language.word_lists import WORD_LISTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]

MIN_LETTERS = 16
LEAST_LETTERS = 8
MIN_LETTERS_WITNESSED = 12
MIN_WORDS = 3
THRESHOLDS = (28.0, 14.0, 10.0)
"""Least score in nats of a stretch with no, one, and two or more witnesses: different function
words of its language, or lower-case words with accented letters where the expected languages
have none. Tuned on one draw of texts and then measured once on another
(tests/metrics/test_drift.py): .99 of sentences, .96 of 7-word clauses, under .2 % false alarms.
"""

_MOST, _LEAST = 10.0, -4.0
_FUNCTION_WORD = 6.0
_CAPITALISED = 0.2
_REPEATED = 1.0
_LETTER = -2.0
_NOT_A_WORD = -3.0
_PROSE_SHARE = 0.6
_MOST_STRETCHES = 20
_MOST_CACHED = 50_000
_LONGEST = 60
_SHORT, _SHORT_SHARE = 8, 0.5
_SHORT_CHARS = 200
_QUOTE_WORDS = 4
_NO_ACCENTS = frozenset(("en", "id", "ms", "tl", "sw", "so"))
_HAN_ALONE = 16

_TOKEN = re.compile(r"\S+")
_BULLET = re.compile(r"[-*•–—·|>]+|\d+[.)]")
_PROSE = regex.compile(
    r"[\p{Ps}\"'“„«»¿¡‘*_]*(?P<word>\p{L}[\p{L}\p{M}]*(?:['’-]\p{L}[\p{L}\p{M}]*)*)[\p{Pe}\"'”“»’*_,.;:!?…。]*"
)
_ACCENTED = re.compile("[\u00c0-\u024f\u1e00-\u1eff]")
_HAN_RUN = regex.compile(rf"(?:\p{{Han}}[\p{{P}}\s]{{0,8}}){{{_HAN_ALONE},}}+")


@dataclass(frozen=True, slots=True)
class Foreign:
    """Characters ``[start, end)`` that are of another language, and the score in nats by which they
    are.
    """

    start: int
    end: int
    language: str
    score: float = 0.0


class LanguageDetector(Protocol):
    """Finds stretches of languages that are not expected, in the order of the text.

    ``expect`` holds primary codes.
    """

    def stretches(self, text: str, expect: frozenset[str], prompt: str = "") -> list[Foreign]: ...


class ProfileDetector:
    """The default: exact trigram likelihoods and function words.

    No randomness, no seed, no download.

    Phrases of four words and more of the prompt are quotes and not judged. Expected
    languages without a profile (Icelandic, say) are not judged by words at all, only by script.
    """

    def stretches(self, text: str, expect: frozenset[str], prompt: str = "") -> list[Foreign]:
        found = list(_chinese_alone(text)) if expect & {"ja", "ko"} and "zh" not in expect else []
        spaced = scripts_of(expect) - UNSPACED_SCRIPTS
        if spaced:
            found += _scorer(expect, spaced).stretches(text, prompt)
        found += [Foreign(*part) for part in related_stretches(text, expect)]
        return sorted(found, key=lambda part: part.start)


def _chinese_alone(text: str) -> Iterator[Foreign]:
    """Sixteen Han characters without a kana or Hangul between them: no Japanese or Korean sentence
    looks so.
    """
    for match in _HAN_RUN.finditer(text):
        yield Foreign(match.start(), match.end(), "zh")


@lru_cache(maxsize=16)
def _scorer(expect: frozenset[str], scripts: frozenset[str]) -> _Scorer:
    return _Scorer(expect, scripts)


class _Scorer:
    """Scores for one set of expected languages.

    Rows of words already met are kept: most text is the same words.
    """

    def __init__(self, expect: frozenset[str], scripts: frozenset[str]) -> None:
        self._profiles = load_profiles(scripts)
        names = self._profiles.languages
        home = {profile_of(language) for language in expect}
        home |= {f"{language}-Latn" for language in expect}
        known = [name for name in sorted(home) if name in names]
        self._home = [names.index(name) for name in known] if set(known) - WORD_LISTS.keys() else []
        self._away = [at for at, name in enumerate(names) if name not in home]
        self.languages = [names[at] for at in self._away]
        self._home_words = frozenset().union(
            *(WORDS_BY_LANGUAGE.get(name, frozenset()) for name in home)
        )
        self._plain_home = expect <= _NO_ACCENTS
        self._forget()

    def _forget(self) -> None:
        self._row_of: dict[str, int] = {}
        self._word_of: list[str] = [""]
        self._rows = np.zeros((1024, len(self._away)))
        self._rows[0] = _NOT_A_WORD

    def stretches(self, text: str, prompt: str) -> list[Foreign]:
        if not self._home or not self._away:
            return []
        if text.isupper():
            text = text.lower() if len(text.lower()) == len(text) else text
        if len(self._row_of) > _MOST_CACHED:
            self._forget()
        lines = text.split("\n")
        if len(text) <= _SHORT_CHARS and len(text.split()) <= _SHORT:
            lines[0] = lines[0][:1].lower() + lines[0][1:]
        rows = [row for line in lines for row in self._line(line)]
        scores = self._scores(np.array(rows, dtype=np.intp))
        if not rows or scores.max() <= 0:
            return []
        return self._judge(text, rows, scores, prompt)

    def _line(self, line: str) -> list[int]:
        """Rows of a line's tokens, −1 for bullets.

        A line that is mostly no words (code, a table) gives one blank.
        """
        rows = [self._row(token) for token in line.split()]
        words = sum(row > 0 for row in rows)
        tokens = len(rows) - rows.count(-1)
        return rows if words >= _PROSE_SHARE * tokens else [-1] * (len(rows) - 1) + [0]

    def _row(self, token: str) -> int:
        row = self._row_of.get(token)
        if row is None:
            row = self._new_row(token) if len(token) <= _LONGEST else 0
        return row

    def _new_row(self, token: str) -> int:
        match = _PROSE.fullmatch(token)
        written = match["word"] if match else ""
        if _BULLET.fullmatch(token):
            row = -1
        elif not written or (len(written) > 1 and written.isupper()):
            row = 0
        else:
            word = written.lower().replace("’", "'")
            row = len(self._word_of)
            if row == len(self._rows):
                self._rows = np.vstack([self._rows, np.zeros_like(self._rows)])
            self._rows[row] = self._score(word) * (_CAPITALISED if written[0].isupper() else 1.0)
            self._word_of.append(word)
        self._row_of[token] = row
        return row

    def _score(self, word: str) -> Scores:
        """For each foreign language, how much more likely the word is there than in the best
        expected one.
        """
        likelihood = self._profiles.log_likelihood(word)
        score: Scores = np.clip(
            likelihood[self._away] - likelihood[self._home].max(), _LEAST, _MOST
        )
        known = np.array(
            [word in WORDS_BY_LANGUAGE.get(language, ()) for language in self.languages]
        )
        if len(word) == 1 and word.isascii():
            score = np.where(
                known, 0.0, np.minimum(score, _LETTER if word in self._home_words else 0.0)
            )
        elif word in self._home_words or word in JARGON:
            score = np.minimum(score, np.where(known, 0.0, -_FUNCTION_WORD))
        else:
            score = np.where(known, np.maximum(score, _FUNCTION_WORD), score)
        return score

    def _scores(self, rows: NDArray[np.intp]) -> Scores:
        """One row of scores a token.

        A word met before adds little: a name or a loop repeated is no evidence.
        """
        scores = np.where(rows[:, None] < 0, 0.0, self._rows[np.maximum(rows, 0)])
        again = np.ones(len(rows), dtype=bool)
        again[np.unique(rows, return_index=True)[1]] = False
        return np.where(again[:, None], np.minimum(scores, _REPEATED), scores)

    def _judge(self, text: str, rows: list[int], scores: Scores, prompt: str) -> list[Foreign]:
        share = _SHORT_SHARE if len(rows) <= _SHORT else 1.0
        places: list[tuple[int, int]] = []
        found: list[Foreign] = []
        for _ in range(_MOST_STRETCHES):
            start, stop, column, score = _best_stretch(scores)
            if score < share * THRESHOLDS[-1]:
                break
            if not places:
                places = [match.span() for match in _TOKEN.finditer(text)]
                if prompt:
                    quoted = _quoted([self._word(row) for row in rows], prompt)
                    scores[quoted] = np.minimum(scores[quoted], 0.0)
                    continue
            short = len(rows) <= _SHORT
            stretch = rows[start:stop]
            words = [self._word(row) for row in stretch if row > 0]
            tokens = [text[slice(*place)] for place in places[start:stop]]
            scores[start:stop] = _NOT_A_WORD
            own = WORDS_BY_LANGUAGE.get(self.languages[column], frozenset())
            home = frozenset(word for word in words if self._is_home(word, own))
            if are_names(tokens, list(map(self._word, stretch)), home, own, short):
                continue
            if self._counts(words, own, score / share, short):
                found.append(
                    Foreign(places[start][0], places[stop - 1][1], self.languages[column], score)
                )
        return found

    def _word(self, row: int) -> str:
        return self._word_of[row] if row > 0 else ""

    def _counts(self, words: Sequence[str], own: frozenset[str], score: float, short: bool) -> bool:
        different = set(words)
        witnesses = min(sum(self._is_witness(word, own) for word in different), len(THRESHOLDS) - 1)
        least_letters = MIN_LETTERS if witnesses < 2 and not short else MIN_LETTERS_WITNESSED
        if short and witnesses == 2:
            least_letters = LEAST_LETTERS
        speaks = any(word in own and word not in NOMINAL for word in different)
        if len(different) < MIN_WORDS - (short and speaks) or sum(map(len, words)) < least_letters:
            return False
        return score > THRESHOLDS[witnesses]

    def _is_home(self, word: str, own: frozenset[str]) -> bool:
        """Whether a word is one of an expected language and not of this one."""
        return word in self._home_words and word not in own and len(word) > 1

    def _is_witness(self, word: str, own: frozenset[str]) -> bool:
        if self._plain_home and not word.isascii() and _ACCENTED.search(word):
            return True
        return (
            word in own
            and word not in self._home_words
            and word not in JARGON
            and (len(word) > 1 or not word.isascii())
        )


def _best_stretch(scores: Scores) -> tuple[int, int, int, float]:
    """Start, stop, column and sum of the run of rows with the largest column sum (Kadane's, over
    all columns).
    """
    sums = np.vstack([np.zeros((1, scores.shape[1])), np.cumsum(scores, axis=0)])
    lowest = np.minimum.accumulate(sums, axis=0)
    gain = sums - lowest
    stop, column = np.unravel_index(int(gain.argmax()), gain.shape)
    before = sums[: stop + 1, column]
    start = int(np.flatnonzero(before == lowest[stop, column])[-1])
    return start, int(stop), int(column), float(gain[stop, column])


def _quoted(words: Sequence[str], prompt: str) -> list[int]:
    tokens = (token for token in prompt.split() if len(token) <= _LONGEST)
    asked = [
        match["word"].lower().replace("’", "'") for match in map(_PROSE.fullmatch, tokens) if match
    ]
    grams = {tuple(asked[at : at + _QUOTE_WORDS]) for at in range(len(asked) - _QUOTE_WORDS + 1)}
    places = {
        at + more
        for at in range(len(words) - _QUOTE_WORDS + 1)
        if tuple(words[at : at + _QUOTE_WORDS]) in grams
        for more in range(_QUOTE_WORDS)
    }
    return sorted(places)
