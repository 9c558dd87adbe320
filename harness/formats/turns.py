"""A format as the pieces of text before a question, between question and answer, after an answer.

Most formats are nothing else, whatever language they are written in: a Jinja template, a preset of
a front end, an example. The pieces are the text between placeholders in a rendering. Rules that
depend on the words or on the position cannot be seen this way, so a format that was read like this
must be compared with its source on other conversations (harness.formats.exchange.comparing).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.conversation import Message
from harness.errors import HarnessError

#: A rendering to be read: messages, add_generation_prompt → text, or None where the format refuses.
Renderer = Callable[[Sequence[Message], bool], str | None]

#: Stand for BOS and EOS, so that they are found again in the text: characters for private use.
BOS, EOS = "\ue0b0", "\ue0b1"
_SYS, _U1, _A1, _U2, _A2 = (f"Zq{word}qZ" for word in ("sys", "one", "two", "three", "four"))
_S = Message("system", _SYS)
_TURNS = (
    Message("user", _U1),
    Message("assistant", _A1),
    Message("user", _U2),
    Message("assistant", _A2),
)


@dataclass(frozen=True, slots=True)
class Turns:
    """The text around the words, with the two characters above for BOS and EOS.

    ``system_open`` and ``system_close`` are None where a system prompt is refused. ``answer_glue``
    is white space that belongs to the answer; ``stop`` ends the answer, and ``answer_close`` comes
    behind it and is never generated.
    """

    begin: str
    """From the start of the text to the first question, without a system prompt."""
    user_open: str
    """From the end of an answer to the next question."""
    user_close: str
    """From the end of a question to where the assistant's header begins."""
    assistant_open: str
    """The generation prompt."""
    answer_glue: str
    stop: str
    answer_close: str
    system_open: str | None = None
    """From the start of the text to the system prompt."""
    system_close: str | None = None
    """From the system prompt to the first question."""
    final: str = ""
    """Replaces ``answer_close`` behind an answer that nothing follows."""
    trims: frozenset[str] = frozenset()
    """Roles whose words lose their outer white space."""
    stops: tuple[str, ...] = ()

    @property
    def opening(self) -> str:
        """The text before the first turn when there is no system prompt.

        That is BOS, a preamble, a default system prompt.
        """
        return self.begin.removesuffix(self.user_open[len(self.separator) :])

    @property
    def separator(self) -> str:
        """White space before every question but the first."""
        if self.begin.endswith(self.user_open):
            return ""
        header = self.user_open.lstrip(" \n")
        return (
            self.user_open[: len(self.user_open) - len(header)]
            if header and self.begin.endswith(header)
            else ""
        )

    @property
    def has_own_system_block(self) -> bool:
        """Whether a question is written alike with and without a system prompt before it."""
        return self.begin.endswith(self.user_open[len(self.separator) :]) and (
            self.system_close is None or self.system_close.endswith(self.user_open)
        )

    @property
    def system(self) -> str:
        """Where a system prompt goes, as the front matter names it."""
        if self.system_open is None:
            return "unsupported"
        if not self.has_own_system_block:
            return "first-user"
        return "own" if self.system_open.removeprefix(self.opening).strip(" \n" + BOS) else "prefix"


def read_turns(render: Renderer) -> Turns:
    """Find the pieces of a format by rendering placeholders.

    Raises HarnessError with the reason for a format that is more than such pieces.
    """
    whole, prompt, question = (
        render(_TURNS, False),
        render(_TURNS[:3], True),
        render(_TURNS[:1], False),
    )
    if whole is None or prompt is None or question is None:
        raise HarnessError("a plain conversation of two exchanges cannot be rendered")
    begin, ask, between, ask_again, last = between_words(whole, (_U1, _A1, _U2, _A2))
    *earlier, generation = between_words(prompt, (_U1, _A1, _U2))
    if ask != ask_again:
        raise HarnessError(
            "an earlier answer begins differently from the last one "
            f"({shown(ask)} and {shown(ask_again)}): a rule about the position"
        )
    if earlier != [begin, ask, between]:
        raise HarnessError(
            "earlier turns change when the conversation goes on: a rule about the position"
        )
    opened = generation.rstrip(" ")
    if not ask.startswith(opened):
        raise HarnessError(
            f"the generation prompt {shown(generation)} differs from the text before a trained "
            f"answer, {shown(ask)}"
        )
    end, final = _ends(last, between)
    user_close = between_words(question, (_U1,))[1]
    if not ask.startswith(user_close) and user_close.rstrip(" \n").endswith(EOS):
        # Such a format writes EOS at the end of any text.
        user_close = user_close.rstrip(" \n").removesuffix(EOS)
    if not ask.startswith(user_close):
        raise HarnessError(
            f"a question ends differently ({shown(user_close)}) when an answer follows "
            f"({shown(ask)})"
        )
    user_close = user_close if len(user_close) <= len(opened) else opened
    stop = end.rstrip(" \n")
    turns = Turns(
        begin=begin,
        user_open=between[len(end) :],
        user_close=user_close,
        assistant_open=opened[len(user_close) :],
        answer_glue=ask[len(opened) :],
        stop=stop,
        answer_close=end[len(stop) :],
        final=final,
        trims=_trims(render),
    )
    with_system = _system(render, (ask, between, ask_again, last))
    if with_system:
        turns = replace(turns, system_open=with_system[0], system_close=with_system[1])
    return turns


def _refuses(render: Renderer, messages: Sequence[Message]) -> bool:
    """Whether a format refuses these messages or leaves out some of their words."""
    text = render(messages, False)
    return text is None or any(message.content.strip() not in text for message in messages)


def between_words(text: str, words: Sequence[str]) -> list[str]:
    """The pieces around placeholders.

    Raises HarnessError when a placeholder is missing, doubled or out of place.
    """
    places = [text.find(word) for word in words]
    if -1 in places:
        raise HarnessError("a message is left out")
    if places != sorted(places) or any(text.count(word) > 1 for word in words):
        raise HarnessError("a message is written twice or out of its place")
    starts = [0, *(place + len(word) for place, word in zip(places, words, strict=True))]
    return [text[start:end] for start, end in zip(starts, [*places, len(text)], strict=True)]


def _ends(last: str, between: str) -> tuple[str, str]:
    """The end of every answer, and the end of one that nothing follows: an EOS, or nothing."""
    if between.startswith(last):
        return last, ""
    same = common_length(last, between)
    if last[same:].strip() != EOS:
        raise HarnessError(
            f"the last answer ends differently ({shown(last)}) from one before a question "
            f"({shown(between)})"
        )
    stop = last[:same].rstrip(" \n")
    return last[:same], last[len(stop) :]


def turns_of_history(begin: str, user_open: str, prompt: str, ask: str, between: str) -> Turns:
    """The pieces of a format that shows no answer at the end of a conversation.

    ``prompt`` asks for an answer, ``ask`` comes before one that is given, and ``between`` comes
    behind it up to the next question, which ``user_open`` opens.
    """
    end, opened = between.removesuffix(user_open), prompt.rstrip(" ")
    if end and opened.startswith(end):
        user_close = end
    else:
        user_close = opened[: len(opened) - len(opened.lstrip("\n "))]
    stop = end.rstrip(" \n")
    return Turns(
        begin,
        user_open,
        user_close,
        opened[len(user_close) :],
        ask[len(opened) :],
        stop,
        end[len(stop) :],
    )


def common_prefix(one: str, other: str) -> str:
    """The longest text that both begin with."""
    return one[: common_length(one, other)]


def common_length(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _system(render: Renderer, expected: tuple[str, ...]) -> tuple[str, str] | None:
    """The text around a system prompt, or None where there is no place for one."""
    if _refuses(render, (_S, *_TURNS)):
        return None
    text = render((_S, *_TURNS), False) or ""
    if text.find(_SYS) > text.find(_U1):
        raise HarnessError(
            "the system prompt comes after the first question: a rule about the position"
        )
    before, after, *rest = between_words(text, (_SYS, _U1, _A1, _U2, _A2))
    if tuple(rest) != expected:
        raise HarnessError("a system prompt changes the other turns")
    return before, after


def _trims(render: Renderer) -> frozenset[str]:
    """The roles whose words lose their outer white space."""
    trimmed = set()
    for messages, index in ((_TURNS, 0), (_TURNS, 1), ((_S, *_TURNS), 0)):
        message = messages[index]
        padded = replace(message, content=f" \n{message.content}\n ")
        spaced = (*messages[:index], padded, *messages[index + 1 :])
        if not _refuses(render, messages) and render(spaced, False) == render(messages, False):
            trimmed.add(message.role)
    return frozenset(trimmed)


def without_tokens(text: str) -> str:
    """A text without BOS, EOS and outer white space."""
    return text.replace(BOS, "").replace(EOS, "").strip()


def shown(text: str) -> str:
    """A text as an error quotes it."""
    return repr(text.replace(BOS, "BOS").replace(EOS, "EOS"))
