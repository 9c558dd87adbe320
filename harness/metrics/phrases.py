"""Canned phrases, from lists and found without one.

The lists (identity claims, disclaimers, openings, closings, slop) are this project's own. A hit
alone means little: what counts is the lift over the training answers and over the base model's.

``distinctive`` finds phrases that one set of texts uses more than another: weighted log-odds with
an informative Dirichlet prior (Monroe, Colaresi, Quinn 2008, "Fightin' Words"): the difference of
log-odds over its standard deviation, where both sides are pulled towards what they have in common,
so that rare words need more evidence than frequent ones. A phrase counts once a text: a loop is one
use.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.metrics.language.function_words import WORDS_BY_LANGUAGE
from harness.metrics.registry import AnswerItem, Metric, scorer
from harness.metrics.words import word_spans, words

KINDS = ("identity", "disclaimer", "opening", "closing", "slop")

_MAKERS = (
    "OpenAI|Anthropic|Google|DeepMind|Meta|Mistral|Microsoft|Alibaba(?: Cloud)?|Hugging"
    " ?Face|DeepSeek|Cohere|xAI"
)
_NAMES = "ChatGPT|GPT-?\\d|Claude|Gemini|Llama|Mistral|Qwen|DeepSeek|Copilot|Bard|SmolLM|Gemma|Grok"
_A_MODEL = (
    r"(?:an? )?(?:large |helpful |virtual |conversational )*(?:AI|artificial intelligence"
    r"|language model|chatbot)\b"
)
_I_AM = r"\bI(?:'m| am)(?: just| only| simply| merely| actually)?"

_PATTERNS: Mapping[str, tuple[str, ...]] = {
    "identity": (
        rf"{_I_AM} {_A_MODEL}",
        rf"{_I_AM} (?:{_NAMES})\b",
        r"\bI (?:was|am|have been) (?:created|developed|trained|made|built|designed) "
        rf"by (?:\w+ ){{0,4}}(?:{_MAKERS})\b",
        rf"\bas {_A_MODEL}[^.!?\n]{{0,100}}?,? I(?:'m|'ve|'d)?\b",
        r"\bmy (?:training data|knowledge cut-?off|developers|creators at)\b",
    ),
    "disclaimer": (
        r"\bI (?:do not|don't) have (?:personal |real |any |the ability |access |physical "
        r"|true |human )*"
        r"(?:to )?(?:feelings|emotions|opinions|beliefs|experiences|preferences"
        r"|consciousness|real-time|a body|browse)",
        (
            r"\bI(?:'m sorry,? but I| apologi[sz]e,? but I) (?:can(?:no|')t|am (?:not able"
            r"|unable) to|do not|don't)"
        ),
        r"\bI (?:cannot|can't|am unable to|'m unable to) (?:provide|assist with|help with"
        r"|offer|give) "
        r"(?:medical|legal|financial|professional|specific|that|this|you with)",
        r"\b(?:please )?consult (?:with )?(?:a|your) (?:qualified |licensed |healthcare "
        r"|medical |legal |financial )*"
        r"(?:professional|doctor|lawyer|provider|advisor|expert)",
        (
            r"\bit(?:'s| is) (?:important|crucial|essential|worth) (?:to (?:note|remember"
            r"|consider)|noting|mentioning)\b"
        ),
    ),
    "opening": (
        (
            r"\A\W*(?:certainly|sure(?: thing)?|of course|absolutely|great question|good"
            r" question)[\s*_]*[!,.—–-]"
        ),
        (
            r"\A\W*(?:that(?:'s| is) (?:a|an) (?:great|good|excellent|interesting|fascinating)"
            r" question)"
        ),
        r"\A\W*(?:\w+[!,.] )?I(?:'d| would) be (?:happy|glad|delighted|more than happy) to\b",
        r"\A\W*thank you for (?:your (?:question|message|interest)|asking|reaching out|sharing)",
    ),
    "closing": (
        r"\bI hope (?:this|that|it) (?:helps|was helpful|answers|clarifies|information)",
        r"\b(?:please )?(?:feel free|don't hesitate) to (?:ask|reach out|contact|let me know)",
        r"\blet me know if (?:you(?:'d| have| need| would)|there(?:'s| is)|I can)",
        r"\bif you have any (?:other |further |more |additional )*(?:questions|concerns)",
        r"\bis there anything else (?:I can|you(?:'d| would))",
    ),
    "slop": (
        r"\b(?:delv(?:e|es|ed|ing) into|tapestr(?:y|ies)|testament to|intricacies|multifaceted)\b",
        (
            r"\b(?:ever-(?:evolving|changing)|underscor(?:es|ing) the|pivotal role|in the"
            r" realm of|bustling)\b"
        ),
        r"\b(?:meticulously|unwavering|kaleidoscope|camaraderie|game-?changer)\b",
        r"\b(?:in today's (?:fast-paced|digital|modern) world|embark(?:s|ed|ing)? on a journey)\b",
        r"\bnavigat(?:e|ing) the (?:complexities|landscape|challenges)\b",
        r"\b(?:a symphony of|a beacon of|nestled (?:in|between|among))\b",
        (
            r"\b(?:not just (?:a|an|about) [^.!?\n]{1,40}?, (?:but|it's)|plays? a (?:crucial"
            r"|vital|significant) role)\b"
        ),
    ),
}
_SLOP_TRIGRAMS = (
    "voice barely whisper",
    "sent shivers spine",
    "eyes never leaving",
    "couldn't help feel",
    "let out breath",
)

_COMPILED = {kind: re.compile("|".join(parts), re.IGNORECASE) for kind, parts in _PATTERNS.items()}
_STOP_WORDS = frozenset(WORDS_BY_LANGUAGE["en"]) | frozenset(
    ("above", "down", "know", "didn't", "he'd", "she'd")
)
_CLOSING_TAIL = 600


@dataclass(frozen=True, slots=True)
class Hit:
    """One canned phrase: its kind and its place."""

    kind: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Lift:
    """One kind or phrase against a base: hits, hits per 1000 words, and ``lift``, the ratio of the
    two rates.

    Half a hit is added on both sides, so that a phrase the base never uses gives a large number and
    not infinity. ``new`` marks what the base never uses: against the training answers, that is
    inherited bias.
    """

    name: str
    hits: int
    rate: float
    base_hits: int
    base_rate: float
    lift: float
    new: bool


def find(text: str) -> tuple[Hit, ...]:
    """Canned phrases of one answer in order.

    Openings count at its start, closings in its last 600 characters.
    """
    plain = text.replace("’", "'")
    hits = [
        Hit(kind, match.start(), match.end(), text[match.start() : match.end()])
        for kind, pattern in _COMPILED.items()
        for match in pattern.finditer(
            plain, max(0, len(text) - _CLOSING_TAIL) if kind == "closing" else 0
        )
    ]
    hits += [Hit("slop", start, end, text[start:end]) for start, end in _slop_trigrams(plain)]
    return tuple(sorted(hits, key=lambda hit: (hit.start, hit.end, hit.kind)))


def _slop_trigrams(text: str) -> Iterable[tuple[int, int]]:
    """Trigrams of content words: stop words are taken out of the text and of the list alike, or
    nothing would match.
    """
    lower = text.lower()
    if not any(trigram[0] in lower for trigram in _TRIGRAMS):
        return
    spans = [span for span in word_spans(text) if text[slice(*span)].lower() not in _STOP_WORDS]
    content = [text[start:end].lower() for start, end in spans]
    for at in range(len(content) - 2):
        if tuple(content[at : at + 3]) in _TRIGRAMS:
            yield spans[at][0], spans[at + 2][1]


def _content_words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split() if word not in _STOP_WORDS)


_TRIGRAMS = frozenset(
    trigram for trigram in map(_content_words, _SLOP_TRIGRAMS) if len(trigram) == 3
)


def rate(texts: Sequence[str], kinds: Sequence[str] = KINDS) -> float | None:
    """Hits per 1000 words over all texts; None without a single word."""
    total = sum(len(words(text)) for text in texts)
    hits = sum(hit.kind in kinds for text in texts for hit in find(text))
    return 1000 * hits / total if total else None


def lift(texts: Sequence[str], base_texts: Sequence[str]) -> tuple[Lift, ...]:
    """Each kind that has a hit on either side, then each phrase, both by lift.

    ``base_texts`` are the training answers or the base model's answers. Empty when either side has
    no words.
    """
    n, base_n = (sum(len(words(text)) for text in side) for side in (texts, base_texts))
    if not n or not base_n:
        return ()
    by_kind, by_phrase = _counts(texts)
    base_by_kind, base_by_phrase = _counts(base_texts)
    result: list[Lift] = []
    for seen, base in ((by_kind, base_by_kind), (by_phrase, base_by_phrase)):
        result += sorted(
            (_lift(name, seen[name], n, base[name], base_n) for name in seen.keys() | base.keys()),
            key=lambda item: (-item.lift, item.name),
        )
    return tuple(result)


def _counts(texts: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    hits = [hit for text in texts for hit in find(text)]
    phrases = Counter(
        " ".join(hit.text.lower().replace("’", "'").split()).strip(" ,.!-—–\"'*") for hit in hits
    )
    return Counter(hit.kind for hit in hits), phrases


def _lift(name: str, hits: int, n: int, base_hits: int, base_n: int) -> Lift:
    ratio = ((hits + 0.5) / n) / ((base_hits + 0.5) / base_n)
    return Lift(
        name,
        hits,
        1000 * hits / n,
        base_hits,
        1000 * base_hits / base_n,
        ratio,
        base_hits == 0 and hits > 0,
    )


SIZES = (1, 2, 3, 4)
MIN_Z = 3.0
"""Among some ten thousand phrases chance alone reaches z = 3 a few times: look at these as
suggestions.
"""
MIN_TEXTS = 3
_PRIOR_SHARE = 0.1
"""The prior weighs a tenth of both sides together: 18 texts of 200 against none give z = 3."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """One phrase: in how many texts of each side it occurs, and by how many standard deviations its
    log-odds differ.
    """

    text: str
    texts: int
    base_texts: int
    z: float


def distinctive(
    texts: Sequence[str], base_texts: Sequence[str], most: int = 20, sizes: Sequence[int] = SIZES
) -> list[Phrase]:
    """Phrases of 1 to 4 words that ``texts`` use more than ``base_texts``, most certain first.

    Those in at least 3 texts and with z ≥ 3. Of phrases that contain or continue each other and
    occur in the same number of texts, one is kept. Empty when either side has no words, or when
    both have a single phrase, the same.
    """
    ours, base = _phrase_counts(texts, sizes), _phrase_counts(base_texts, sizes)
    n, m = ours.total(), base.total()
    if not n or not m or ours.keys() | base.keys() == {next(iter(ours))}:
        return []
    total = _PRIOR_SHARE * (n + m)
    found = []
    for phrase, count in ours.items():
        if count < MIN_TEXTS:
            continue
        other = base[phrase]
        prior = _PRIOR_SHARE * (count + other)
        delta = _log_odds(count + prior, n + total) - _log_odds(other + prior, m + total)
        z = delta / math.sqrt(1 / (count + prior) + 1 / (other + prior))
        if z >= MIN_Z:
            found.append(Phrase(" ".join(phrase), count, other, z))
    found.sort(key=lambda item: (-len(item.text.split()), -item.z, item.text))
    kept: list[Phrase] = []
    for item in found:
        if not any(_told_by(item, other) for other in kept):
            kept.append(item)
    return sorted(kept, key=lambda item: (-item.z, item.text))[:most]


def _told_by(item: Phrase, other: Phrase) -> bool:
    """Whether a phrase is part of a longer one, or the next window over the same words."""
    if f" {item.text} " in f" {other.text} ":
        return item.texts <= other.texts
    ours, theirs = item.text.split(), other.text.split()
    shared = len(ours) - 1
    return (
        item.texts == other.texts
        and shared > 0
        and (ours[:-1] == theirs[-shared:] or ours[1:] == theirs[:shared])
    )


def _log_odds(count: float, total: float) -> float:
    return math.log(count) - math.log(total - count)


def _phrase_counts(texts: Iterable[str], sizes: Sequence[int]) -> Counter[tuple[str, ...]]:
    return Counter(phrase for text in texts for phrase in set(_phrases(text, sizes)))


def _phrases(text: str, sizes: Sequence[int]) -> Iterator[tuple[str, ...]]:
    found = [word.lower() for word in words(text.replace("’", "'"))]
    for size in sizes:
        for at in range(len(found) - size + 1):
            yield tuple(found[at : at + size])


@scorer(
    Metric(
        "gptisms",
        "answer",
        "the answer has a canned phrase: an identity claim, disclaimer, opening or closing cliché, "
        "or overused word",
        "lower",
        label="canned phrase",
        binary=True,
        tolerance=0.05,
        rank=55,
    )
)
def canned(item: AnswerItem) -> tuple[float | None, str]:
    """Whether an answer holds a canned phrase; an empty answer is not scored."""
    if not item.text.strip():
        return None, "empty answer"
    return float(bool(find(item.text))), ""
