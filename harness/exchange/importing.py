"""A format from elsewhere as one of ours: find its pieces, write the file, compare on conversations that were not used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from harness.errors import HarnessError
from harness.exchange.sources import Source
from harness.formats.frontmatter import parse_format
from harness.formats.turns import BOS, EOS, Renderer, Turns, read_turns, template_of
from harness.records import Conversation, Format, Message, Role
from harness.render import render

_SEE = "harness formats detect says whether a shipped format equals it"
_HOSTILE = "two\nlines, {{ braces }}, 'quotes', \\ and <tags> — naïve 漢字"


@dataclass(frozen=True)
class Imported:
    """A format that was read elsewhere: the text of its file, and a sentence for each thing that it does not keep."""

    format: Format
    source: str
    lost: tuple[str, ...]


def import_format(source: Source, id: str) -> Imported:
    """Write a source as a format file. Raises HarnessError with the reason when it cannot be expressed."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", id):
        raise HarnessError(f"{id!r} cannot be a format's id", hint="small letters, digits, dots and dashes: --id my-format")
    turns, lost = source.turns, list(source.lost)
    if turns is None:
        turns, details = _read(source)
        lost += details
    if source.kind in ("SillyTavern preset", "example conversation") and not turns.stop.strip():
        turns = replace(turns, final=EOS)
        lost.append("nothing marks the end of an answer; the tokenizer's EOS is written and trained at the end of a conversation, the next header before that")
    turns = replace(turns, stops=tuple(dict.fromkeys([*_stops(turns), *source.stops])))
    text = "\n".join(_front_matter(turns, source, id, lost)) + "\n" + template_of(turns)
    format = parse_format(text, Path(f"{id}.jinja"))
    if "tools" in source.template:
        lost.append("calls of tools: the conversations here have none")
    return Imported(format, text, tuple(lost))


def _read(source: Source) -> tuple[Turns, list[str]]:
    """The pieces of a source that can be rendered, and what they leave behind of it."""
    if source.render is None:
        raise ValueError("a source has a renderer or its pieces")
    try:
        turns = read_turns(source.render)
        format = parse_format("\n".join(_front_matter(turns, source, "read", ())) + "\n" + template_of(turns), Path("read.jinja"))
        wrong, details = differences(source.render, renderer_of(format), system=format.system != "unsupported")
        if wrong:
            raise HarnessError(wrong)
    except HarnessError as error:
        raise HarnessError(f"this format cannot be imported: {error.message}", where=source.where, hint=_SEE) from None
    return turns, details


def known_as(source: Source, formats: Sequence[Format]) -> list[tuple[Format, int, int]]:
    """Each format with the number of probe conversations that it writes as the source does, and of all; best first."""
    write = source.render or renderer_of(import_format(source, "example").format)
    wanted = [write(messages, prompt) for messages, prompt in _PLAIN]
    found = []
    for format in formats:
        ours = renderer_of(format)
        same = sum(1 for (messages, prompt), text in zip(_PLAIN, wanted, strict=True) if _spelt(ours(messages, prompt), source) == _spelt(text, source))
        found.append((format, same, len(_PLAIN)))
    return sorted(found, key=lambda row: (-row[1], row[0].id))


def _stops(turns: Turns) -> Iterator[str]:
    mark = turns.stop.replace(EOS, "").replace(BOS, "").strip()
    if mark:
        yield mark
        return
    for header in (turns.user_open, turns.assistant_open):
        words = header.replace(EOS, "").replace(BOS, "").strip()
        if words:
            yield f"\n{words}" if "\n" in turns.answer_close + turns.user_open.split(words)[0] else words


def _front_matter(turns: Turns, source: Source, id: str, lost: Sequence[str]) -> Iterator[str]:
    eos = "after every assistant turn" if EOS in turns.stop else "none; the mark ends the answer" if turns.stop.strip() else "none"
    special = [stop for stop in turns.stops if stop in source.special_tokens]
    yield "{#---"
    yield f"family = {json.dumps(id)}"
    yield f"system = {json.dumps(turns.system)}"
    yield f"stops = {json.dumps(list(turns.stops), ensure_ascii=False)}"
    if special:
        yield f"stop_tokens = {json.dumps(special, ensure_ascii=False)}"
    yield f"eos = {json.dumps(eos)}"
    yield f"origin = {json.dumps(f'imported from a {source.kind}: {Path(source.where).name}', ensure_ascii=False)}"
    if lost:
        yield f"notes = {json.dumps('Not kept: ' + '; '.join(lost), ensure_ascii=False)}"
    yield ""
    yield "[roles]"
    for role, header in (
        ("system", _header(turns.system_open)),
        ("user", _header(turns.user_open)),
        ("assistant", _header(turns.assistant_open or turns.user_close)),
    ):
        if header and not (role == "system" and turns.system != "own"):
            yield f"{role} = {json.dumps(header, ensure_ascii=False)}"
    yield "---#}"


def _header(text: str | None) -> str:
    return (text or "").replace(BOS, "").replace(EOS, "").strip()


def renderer_of(format: Format) -> Renderer:
    def write(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        try:
            return render(Conversation("probe", tuple(messages)), format, add_generation_prompt=add_generation_prompt, bos_token=BOS, eos_token=EOS).text
        except HarnessError:
            return None

    return write


def _spelt(text: str | None, source: Source) -> str | None:
    """With the tokenizer's BOS and EOS in their places, since many templates spell them."""
    return None if text is None else text.replace(BOS, source.bos_token or BOS).replace(EOS, source.eos_token or EOS)


def _conversation(roles: str, *words: str) -> tuple[Message, ...]:
    names = {role[0]: role for role in get_args(Role)}
    return tuple(Message(names[role], words[index % len(words)] or "") for index, role in enumerate(roles))


#: (messages, generation prompt): what every import must write exactly as its source does.
_PLAIN: tuple[tuple[tuple[Message, ...], bool], ...] = tuple(
    (_conversation(roles, *words), prompt)
    for words in (("Say one thing.", "Another.", "A third, please"), (_HOSTILE, "x", "- a list\n- of two"))
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
    (_conversation("ua", " \n a question \n", "an answer"), "outer white space of questions is treated otherwise"),
    (_conversation("ua", "a question", " \n an answer \n"), "outer white space of answers is treated otherwise"),
    (_conversation("sua", " \n rules \n", "a question", "an answer"), "outer white space of the system prompt is treated otherwise"),
    (_conversation("sua", "", "a question", "an answer"), "an empty system prompt is written otherwise"),
    (_conversation("uua", "one", "two", "three"), "two questions in a row are written otherwise"),
    (_conversation("uaau", "one", "two", "three", "four"), "two answers in a row are written otherwise"),
    (_conversation("aua", "one", "two", "three"), "a conversation that the assistant begins is written otherwise"),
    (_conversation("usua", "one", "two", "three", "four"), "a later system prompt is written otherwise"),
    (_conversation("uauaua", "one", "<think>\nhm\n</think>\n\ntwo", "three", "four"), "think blocks of earlier answers are treated otherwise"),
)


def differences(theirs: Renderer, ours: Renderer, *, system: bool = True) -> tuple[str, list[str]]:
    """Where two ways to write a format differ: what must not, in words ("" when nothing does), and a sentence for each detail.

    A space at the end of a generation prompt is a detail. What ``theirs`` refuses is not compared, and neither
    are system prompts without ``system``.
    """
    for messages, prompt in _PLAIN:
        wanted = theirs(messages, prompt)
        if wanted is None or (not system and messages[0].role == "system"):
            continue
        found = ours(messages, prompt)
        if found is None or (found.rstrip(" ") if prompt else found) != (wanted.rstrip(" ") if prompt else wanted):
            return f"{_difference(wanted, found)} in a conversation of {' '.join(message.role for message in messages)}", []
    details = []
    if any((theirs(messages, True) or "").endswith(" ") for messages, prompt in _PLAIN if prompt):
        details.append("the space at the end of the generation prompt, which most tokenizers join to the answer's first word; it begins the answer here")
    for messages, sentence in _DETAILS:
        wanted = theirs(messages, False)
        if wanted is not None and all(message.content.strip() in wanted for message in messages) and wanted != ours(messages, False):
            details.append(sentence)
    return "", details


def _difference(wanted: str, found: str | None) -> str:
    if found is None:
        return "our template refuses"
    at = next((index for index, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), min(len(wanted), len(found)))
    return f"the source writes {_quote(wanted[at:])} where the pieces give {_quote(found[at:])}"


def _quote(text: str) -> str:
    text = text.replace(BOS, "BOS").replace(EOS, "EOS")
    return repr(text[:24] + "…" * (len(text) > 24)) if text else "nothing"
