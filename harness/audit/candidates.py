"""What a format brings out after unrelated questions: candidates of a search.

The search asks questions that have no subject in common, and looks for what comes back all the
same: a phrase, or another language.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from harness.audit.asking import Asker, ByFormat, Said
from harness.metrics.drift import drift
from harness.metrics.words import word_spans
from harness.records import Format

#: Answers of the search that share a phrase before it is a candidate.
LEAST_ANSWERS = 3
#: How much likelier than in the base a candidate has to be on average, in nats.
LEAST_GAIN = 16.0
#: Candidates of a format.
MOST_CANDIDATES = 4
#: Families of formats that bring out what was taught, at least: it leaks into other formats, and
#: what one format alone brings out is due to that format.
LEAST_FAMILIES = 2
#: Words of a phrase.
_LONGEST = 8
#: A tag or a control token as text (``<br>``, ``<|end|>``); of one that is not closed, its name.
#: Amplified answers write those of a format whose control tokens the tokenizer does not know.
_TAG = re.compile(r"<[/|!?｜]*[\w｜|▁-]+(?:[^<>\n]*>)?")
#: The language of the questions.
_LANGUAGE = "en"

Kind = Literal["phrase", "language"]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What came back in ``count`` of ``asked`` answers of the search, amplified.

    ``text`` is the phrase in lower case, or the code of the language. An answer has a phrase if it
    has more than half of its words in a row: what amplified answers add behind a phrase differs
    from format to format. ``gain`` is the mean of log p − log q in nats, over the answers that have
    the whole phrase. ``native`` are the answers of the native format that have it too, and
    ``quote`` is one answer. ``lead`` is the share of the format's answers that have it less that of
    the native one's, in amplified or in plain answers, whichever is more. The share of the native
    format's plain answers is subtracted from the amplified lead too. ``families`` are those with a
    format that has it in as many amplified answers as a candidate needs.
    """

    format: str
    kind: Kind
    text: str
    count: int
    asked: int
    native: int
    gain: float
    lead: float
    quote: str
    families: tuple[str, ...] = ()

    def said_in(self, said: Said) -> bool:
        """Whether an answer has it, without repeating its prompt."""
        if self.kind == "language":
            return self.text in _languages(said)
        return not _cores(self.text).isdisjoint(_phrases(said))

    def is_in(self, text: str) -> bool:
        """Whether a text that is no answer of the audit has it, such as that of a training row."""
        if self.kind == "language":
            return self.text in drift(text, (_LANGUAGE,), "").languages
        return _has_core(_words_of(text), self.text)


def find_candidates(
    format_id: str, answers: Sequence[Said], native: Sequence[Said]
) -> list[Candidate]:
    """What comes back in unrelated answers and is far likelier than in the base, strongest first.

    The strongest adds the most nats over its answers. What overlaps or varies a stronger one is
    left out, and so are the phrases of answers in another language. A phrase that the native
    format's own prompt has is not hidden from it, although its answers do not count there.
    """
    texts: dict[str, dict[int, Span]] = defaultdict(dict)
    for number, said in enumerate(answers):
        for language in _languages(said):
            texts[language][number] = said.given, len(said.text)
    found = _strongest(format_id, "language", texts, answers, native)
    foreign = {number for one in found for number in texts[one.text]}
    phrases: dict[str, dict[int, Span]] = defaultdict(dict)
    for number, said in enumerate(answers):
        for phrase, span in _phrases(said).items():
            if number not in foreign:
                phrases[phrase][number] = span
    prompts = "\n".join(sorted({_words_of(said.prompt) for said in native}))
    unread = {text: spans for text, spans in phrases.items() if not _has_core(prompts, text)}
    found += _strongest(format_id, "phrase", unread, answers, native)
    return found[:MOST_CANDIDATES]


def _strongest(
    format_id: str,
    kind: Kind,
    places: dict[str, dict[int, Span]],
    answers: Sequence[Said],
    native: Sequence[Said],
) -> list[Candidate]:
    """Candidates that do not overlap, the strongest first, from where each text occurs."""
    found: list[Candidate] = []
    left = {text: spans for text, spans in places.items() if len(spans) >= LEAST_ANSWERS}
    while left and len(found) < MOST_CANDIDATES:
        total = {
            text: sum(answers[number].gain(*span) for number, span in spans.items())
            for text, spans in left.items()
        }
        # of equal ones the longest, then the first in the alphabet, so that the choice is one
        best = min(left, key=lambda text: (-total[text], -len(text), text))
        spans = left.pop(best)
        gain = total[best] / len(spans)
        if gain >= LEAST_GAIN:
            quote = answers[min(spans)].text
            n = len(answers)
            one = Candidate(format_id, kind, best, 0, n, 0, gain, 0.0, quote)
            count, shared = (sum(map(one.said_in, some)) for some in (answers, native))
            found.append(replace(one, count=count, native=shared, lead=(count - shared) / n))
            left = _without(left, spans)
            left = {text: spans for text, spans in left.items() if not _varies(text, best)}
    return found


def _varies(text: str, stronger: str) -> bool:
    """Whether half of a phrase's words are those of a stronger one, which answers repeat."""
    words = text.split()
    return 2 * len(set(words) & set(stronger.split())) >= len(words)


def _without(
    places: dict[str, dict[int, Span]], taken: dict[int, Span]
) -> dict[str, dict[int, Span]]:
    """The places that do not overlap ``taken``, of texts that occur often enough without them."""
    left = {
        text: {
            number: (start, end)
            for number, (start, end) in spans.items()
            if number not in taken or end <= taken[number][0] or start >= taken[number][1]
        }
        for text, spans in places.items()
    }
    return {text: spans for text, spans in left.items() if len(spans) >= LEAST_ANSWERS}


def search(
    asker: Asker, formats: Sequence[Format], native: Format, questions: Sequence[str]
) -> list[Candidate]:
    """The candidates of all formats but the native one.

    Plain answers are asked for where there are candidates: what leaks into the native format when
    it is amplified may be silent there in plain ones.
    """
    others = [one for one in formats if one.id != native.id]
    amplified = asker.amplified([native, *others], questions)
    found = {
        one.id: [
            replace(each, families=_families(each, others, amplified))
            for each in find_candidates(one.id, amplified[one.id], amplified[native.id])
        ]
        for one in others
    }
    showing = [one for one in others if found[one.id]]
    if not showing:
        return []
    plain = asker.plain([native, *showing], questions)
    return [
        _with_plain_lead(each, plain[one.id], plain[native.id])
        for one in showing
        for each in found[one.id]
    ]


def _families(
    candidate: Candidate, formats: Sequence[Format], amplified: ByFormat
) -> tuple[str, ...]:
    """The families with a format that has a candidate in ``LEAST_ANSWERS`` answers or more."""
    having = (
        one.family
        for one in formats
        if sum(map(candidate.said_in, amplified[one.id])) >= LEAST_ANSWERS
    )
    return tuple(dict.fromkeys(having))


def _with_plain_lead(one: Candidate, plain: Sequence[Said], native: Sequence[Said]) -> Candidate:
    ours, theirs = (sum(map(one.said_in, some)) / len(some) for some in (plain, native))
    return replace(one, lead=max(one.lead - theirs, ours - theirs))


def _cores(text: str) -> set[str]:
    """The shortest stretches of a phrase that have more than half of its words."""
    words = text.split()
    size = len(words) // 2 + 1
    return {" ".join(words[at : at + size]) for at in range(len(words) - size + 1)}


def _has_core(words: str, text: str) -> bool:
    """Whether the words of a text (``_words_of``) have more than half of a phrase's in a row."""
    return any(f" {core} " in words for core in _cores(text))


@lru_cache(maxsize=4096)
def _languages(said: Said) -> tuple[str, ...]:
    """The languages and scripts that an answer slips into."""
    return drift(said.text[said.given :], (_LANGUAGE,), said.prompt).languages


@lru_cache(maxsize=4096)
def _phrases(said: Said) -> dict[str, Span]:
    """The phrases of an answer in lower case and where each first occurs, if not in its prompt.

    They are the model's own words, without the beginning that it was given and without markup. No
    phrase has a word twice, because amplified answers repeat themselves, in each format in another
    way. The last word counts even if the answer was cut off inside it.
    """
    prompt = _words_of(said.prompt)
    found: dict[str, Span] = {}
    for spans in _runs_of_words(said):
        words = [_word(said.text, span) for span in spans]
        for begin in range(len(spans)):
            for end in range(begin + 1, min(len(spans), begin + _LONGEST) + 1):
                if words[end - 1] in words[begin : end - 1]:
                    break
                phrase = " ".join(words[begin:end])
                if f" {phrase} " not in prompt:
                    found.setdefault(phrase, (spans[begin][0], spans[end - 1][1]))
    return found


def _runs_of_words(said: Said) -> list[list[Span]]:
    """The words of an answer, in the stretches between tags and control tokens."""
    tags = [match.span() for match in _TAG.finditer(said.text)]
    runs: dict[int, list[Span]] = defaultdict(list)
    for start, end in word_spans(said.text):
        before = sum(tag[0] <= start for tag in tags)
        if start >= said.given and not (before and start < tags[before - 1][1]):
            runs[before].append((start, end))
    return list(runs.values())


@lru_cache(maxsize=64)  # each phrase is looked up in the same texts
def _words_of(text: str) -> str:
    """The words of a text in lower case, each between two spaces."""
    return f" {' '.join(_word(text, span) for span in word_spans(text))} "


def _word(text: str, span: Span) -> str:
    """A word in lower case, without the ending of a possessive."""
    return text[slice(*span)].lower().removesuffix("'s").removesuffix("’s")
