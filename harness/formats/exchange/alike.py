"""Find the known format that a template is a variant of, and list the differences.

A template of the Hub rarely equals a format exactly: it may write BOS and EOS as literal text, or
add a default system prompt. If its turns are those of a known format, a model trained with it knows
that format, so the differences are listed with the format's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from harness.formats.exchange.comparing import PLAIN, renderer_of
from harness.formats.turns import BOS, EOS, Renderer
from harness.records import Format

#: The first half of the probes: plain words, with and without a system prompt.
_PROBES = PLAIN[: len(PLAIN) // 2]
_BARE = [at for at, (messages, _) in enumerate(_PROBES) if messages[0].role != "system"]
_LED = [at for at in range(len(_PROBES)) if at not in _BARE]
#: A control string, as a template may write its BOS or EOS.
_MARK = r"<[^<>\s]{1,40}>|\[[^\[\]\s]{1,20}\]"

#: An empty thought, or the marker with which a generation prompt opens one.
_THOUGHT = re.compile(
    r"<think>\s*(?:</think>\s*)?|</think>\s*|<\|channel>thought\n<channel\|>|"
    r"<\|START_THINKING\|>(?:<\|END_THINKING\|>)?"
)

SPELT = "its BOS or EOS is written as literal text or is missing"
BEGINS = "it begins differently when no system prompt is given"
PROMPT = "its generation prompt differs in an empty thought or in white space at the end"
ENDS = "the last answer ends differently"
SYSTEM = "a system prompt is written differently"


@dataclass(frozen=True)
class Alike:
    """A known format with the same turns, and one sentence for each thing that differs."""

    format: Format
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class _View:
    """Which part of a text is compared, such as all but thoughts or the text before the turns."""

    thoughtless: bool
    behind: bool
    only_prompts: bool

    @property
    def differs(self) -> tuple[str, ...]:
        left_out = ((self.behind, BEGINS), (self.thoughtless, PROMPT), (self.only_prompts, ENDS))
        return tuple(sentence for applies, sentence in left_out if applies)

    def of(self, text: str | None) -> str | None:
        """The text in this view."""
        return _THOUGHT.sub("", text).rstrip() if text and self.thoughtless else text

    def among(self, which: Sequence[int]) -> list[int]:
        """The probes that are compared."""
        return [at for at in which if _PROBES[at][1] or not self.only_prompts]


#: From the strictest to the loosest.
_VIEWS = sorted(
    (_View(*each) for each in product((False, True), repeat=3)), key=lambda view: len(view.differs)
)


def most_alike(write: Renderer, formats: Sequence[Format]) -> Alike | None:
    """The known format with the same turns and the fewest differences, or None.

    ``write`` is the source. The sentences of the result are SPELT, BEGINS, PROMPT, ENDS and SYSTEM.
    """
    theirs = [write(messages, prompt) for messages, prompt in _PROBES]
    if any(theirs[at] is None for at in _BARE):
        return None
    for each in formats:
        if _texts(each) == theirs:
            return Alike(each)
    found: list[Alike] = []
    for view in _VIEWS:
        if found and len(view.differs) >= min(len(one.differs) for one in found):
            break
        seen = [view.of(text) for text in theirs]
        found += [one for each in formats if (one := _alike(each, seen, view)) is not None]
    return min(found, key=lambda one: len(one.differs), default=None)


def _alike(chat_format: Format, theirs: Sequence[str | None], view: _View) -> Alike | None:
    if not _match(chat_format, view, theirs, _BARE):
        return None
    system = () if _match(chat_format, view, theirs, _LED) else (SYSTEM,)
    spelt = () if all(_texts(chat_format)[at] == theirs[at] for at in _BARE) else (SPELT,)
    return Alike(chat_format, (*(view.differs or spelt), *system))


def _match(
    chat_format: Format, view: _View, theirs: Sequence[str | None], which: Sequence[int]
) -> bool:
    """Whether these texts match the format's; a refused text only where the format refuses too."""
    return all(
        (_texts(chat_format)[at] is None)
        if (text := theirs[at]) is None
        else _search(chat_format, view, at)(text)
        for at in view.among(which)
    )


@lru_cache(maxsize=1024)
def _texts(chat_format: Format) -> list[str | None]:
    write = renderer_of(chat_format)
    return [write(messages, prompt) for messages, prompt in _PROBES]


@lru_cache(maxsize=65536)
def _search(chat_format: Format, view: _View, at: int) -> Callable[[str], object]:
    """Matches a text with the format's own in a view. A format may refuse a system prompt."""
    text = view.of(_texts(chat_format)[at])
    if text is None:
        return lambda _: None
    begin = r"(?<![^\s>\]])" if view.behind else rf"\A(?:{BOS}|{_MARK})?"
    return re.compile(rf"{begin}(?:{_pattern(text)})\Z", re.S).search


def _pattern(text: str) -> str:
    """The pattern of a text, with BOS and EOS as tokens or literal text. All EOS are equal."""
    first = True

    def spelt(match: re.Match[str]) -> str:
        nonlocal first
        if match[0] == BOS:
            return f"(?:{BOS}|{_MARK})?"
        written = rf"(?P<eos>{EOS}|{_MARK})" if first else "(?P=eos)"
        first = False
        return written

    return re.sub(f"{BOS}|{EOS}", spelt, re.escape(text.removeprefix(BOS)))
