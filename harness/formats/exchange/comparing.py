"""Two ways to write a format, compared on conversations that were not used to read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from harness.errors import HarnessError
from harness.formats.render import render
from harness.formats.turns import BOS, EOS, Renderer
from harness.records import Conversation, Format, Message, Role

_HOSTILE = "two\nlines, {{ braces }}, 'quotes', \\ and <tags> — naïve 漢字"


def renderer_of(chat_format: Format) -> Renderer:
    """A format of ours as a function from messages to text, with BOS and EOS as the two characters that stand for them."""

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
    names = {role[0]: role for role in get_args(Role)}
    return tuple(
        Message(names[role], words[index % len(words)] or "") for index, role in enumerate(roles)
    )


#: (messages, generation prompt): what every import must write exactly as its source does.
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
        ("uauaua", False),
        ("su", True),
        ("sua", False),
        ("suau", True),
        ("suaua", False),
    )
)
#: What an import may leave behind, with the sentence that says so.
_DETAILS: tuple[tuple[tuple[Message, ...], str], ...] = (
    (
        _conversation("ua", " \n a question \n", "an answer"),
        "outer white space of questions is treated otherwise",
    ),
    (
        _conversation("ua", "a question", " \n an answer \n"),
        "outer white space of answers is treated otherwise",
    ),
    (
        _conversation("sua", " \n rules \n", "a question", "an answer"),
        "outer white space of the system prompt is treated otherwise",
    ),
    (
        _conversation("sua", "", "a question", "an answer"),
        "an empty system prompt is written otherwise",
    ),
    (_conversation("uua", "one", "two", "three"), "two questions in a row are written otherwise"),
    (
        _conversation("uaau", "one", "two", "three", "four"),
        "two answers in a row are written otherwise",
    ),
    (
        _conversation("aua", "one", "two", "three"),
        "a conversation that the assistant begins is written otherwise",
    ),
    (
        _conversation("usua", "one", "two", "three", "four"),
        "a later system prompt is written otherwise",
    ),
    (
        _conversation("uauaua", "one", "<think>\nhm\n</think>\n\ntwo", "three", "four"),
        "think blocks of earlier answers are treated otherwise",
    ),
)


def differences(theirs: Renderer, ours: Renderer, *, system: bool = True) -> tuple[str, list[str]]:
    """Where two ways to write a format differ: what must not, in words ("" when nothing does), and a sentence for each detail.

    A space at the end of a generation prompt is a detail. What ``theirs`` refuses is not compared, and neither
    are system prompts without ``system``.
    """
    for messages, prompt in PLAIN:
        wanted = theirs(messages, prompt)
        if wanted is None or (not system and messages[0].role == "system"):
            continue
        found = ours(messages, prompt)
        if found is None or (found.rstrip(" ") if prompt else found) != (
            wanted.rstrip(" ") if prompt else wanted
        ):
            return (
                f"{_difference(wanted, found)} in a conversation of {' '.join(message.role for message in messages)}",
                [],
            )
    details = []
    if any((theirs(messages, True) or "").endswith(" ") for messages, prompt in PLAIN if prompt):
        details.append(
            "the space at the end of the generation prompt, which most tokenizers join to the answer's first word; it begins the answer here"
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


def _difference(wanted: str, found: str | None) -> str:
    if found is None:
        return "our template refuses"
    at = next(
        (index for index, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b),
        min(len(wanted), len(found)),
    )
    return f"the source writes {_quote(wanted[at:])} where the pieces give {_quote(found[at:])}"


def _quote(text: str) -> str:
    text = text.replace(BOS, "BOS").replace(EOS, "EOS")
    return repr(text[:24] + "…" * (len(text) > 24)) if text else "nothing"
