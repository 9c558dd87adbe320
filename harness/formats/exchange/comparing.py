"""Compare two ways to write a format, on conversations that were not used to read it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import get_args

from harness.conversation import Conversation, Message, Role
from harness.errors import HarnessError
from harness.formats.render import render
from harness.formats.turns import BOS, EOS, Renderer, common_length
from harness.records import Format

_HOSTILE = "two\nlines, {{ braces }}, 'quotes', \\ and <tags> — naïve 漢字"


def renderer_of(chat_format: Format) -> Renderer:
    """A format as a function from messages to text, or to None where it refuses them.

    BOS and EOS are the two characters of harness.formats.turns.
    """

    def write(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        try:
            return render(
                Conversation("probe", tuple(messages)),
                chat_format,
                add_generation_prompt=add_generation_prompt,
                bos_token=BOS,
                eos_token=EOS,
            ).text
        except HarnessError:
            return None

    return write


def _conversation(roles: str, *words: str) -> tuple[Message, ...]:
    """Messages of these roles, given by their first letters, with the words in turn."""
    names = {role[0]: role for role in get_args(Role)}
    return tuple(
        Message(names[role], word) for role, word in zip(roles, cycle(words), strict=False)
    )


#: (messages, generation prompt) that every import must write exactly as its source does.
PLAIN: tuple[tuple[tuple[Message, ...], bool], ...] = tuple(
    (_conversation(roles, *words), prompt)
    for words in (
        ("Say one thing.", "Another.", "A third, please"),
        (_HOSTILE, "x", "- a list\n- of two"),
    )
    for roles, prompt in (
        ("u", True),
        ("ua", False),
        ("uau", True),
        ("uaua", False),
        ("uauau", True),
        ("uauaua", False),
        ("su", True),
        ("sua", False),
        ("suau", True),
        ("suaua", False),
    )
)
#: Messages that an import may write differently, with the sentence that says so.
_DETAILS: tuple[tuple[tuple[Message, ...], str], ...] = (
    (
        _conversation("ua", " \n a question \n", "an answer"),
        "outer white space of questions is treated differently",
    ),
    (
        _conversation("ua", "a question", " \n an answer \n"),
        "outer white space of answers is treated differently",
    ),
    (
        _conversation("sua", " \n rules \n", "a question", "an answer"),
        "outer white space of the system prompt is treated differently",
    ),
    (
        _conversation("sua", "", "a question", "an answer"),
        "an empty system prompt is written differently",
    ),
    (_conversation("uua", "one", "two", "three"), "two questions in a row are written differently"),
    (
        _conversation("uaau", "one", "two", "three", "four"),
        "two answers in a row are written differently",
    ),
    (
        _conversation("aua", "one", "two", "three"),
        "a conversation that the assistant begins is written differently",
    ),
    (
        _conversation("usua", "one", "two", "three", "four"),
        "a later system prompt is written differently",
    ),
    (
        _conversation("uauaua", "one", "<think>\nhm\n</think>\n\ntwo", "three", "four"),
        "think blocks of earlier answers are treated differently",
    ),
)


def differences(theirs: Renderer, ours: Renderer, *, system: bool = True) -> tuple[str, list[str]]:
    """The first difference that forbids an import, or "", and one sentence for each tolerable one.

    A space at the end of a generation prompt is tolerable. Conversations that ``theirs`` refuses
    are not compared, nor are system prompts unless ``system``.
    """
    for messages, prompt in PLAIN:
        wanted = theirs(messages, prompt)
        if wanted is None or (not system and messages[0].role == "system"):
            continue
        written = ours(messages, prompt)
        if written is None or _comparable(written, prompt) != _comparable(wanted, prompt):
            roles = " ".join(message.role for message in messages)
            return f"{_difference(wanted, written)} in a conversation of {roles}", []
    details = []
    if any((theirs(messages, True) or "").endswith(" ") for messages, prompt in PLAIN if prompt):
        details.append(
            "the space at the end of the generation prompt, which most tokenizers join to the "
            "answer's first word; it begins the answer here"
        )
    for messages, sentence in _DETAILS:
        wanted = theirs(messages, False)
        if (
            wanted is not None
            and all(message.content.strip() in wanted for message in messages)
            and wanted != ours(messages, False)
        ):
            details.append(sentence)
    return "", details


def _comparable(text: str, prompt: bool) -> str:
    return text.rstrip(" ") if prompt else text


def _difference(wanted: str, written: str | None) -> str:
    if written is None:
        return "our template refuses"
    at = common_length(wanted, written)
    return f"the source writes {_quote(wanted[at:])} where the pieces give {_quote(written[at:])}"


def _quote(text: str) -> str:
    text = text.replace(BOS, "BOS").replace(EOS, "EOS")
    return repr(text[:24] + "…" * (len(text) > 24)) if text else "nothing"
