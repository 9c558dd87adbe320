"""A format from elsewhere as one of ours: find its pieces, write the file, compare on conversations that were not used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import HarnessError
from harness.formats.exchange.comparing import PLAIN, differences, renderer_of
from harness.formats.exchange.sources import Source
from harness.formats.frontmatter import parse_format
from harness.formats.turns import BOS, EOS, Turns, read_turns
from harness.formats.turns_template import template_of
from harness.records import Format

_SEE = "harness formats detect says whether a shipped format equals it"


@dataclass(frozen=True)
class Imported:
    """A format that was read elsewhere: the text of its file, and a sentence for each thing that it does not keep."""

    format: Format
    source: str
    lost: tuple[str, ...]


def import_format(source: Source, format_id: str) -> Imported:
    """Write a source as a format file. Raises HarnessError with the reason when it cannot be expressed."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", format_id):
        raise HarnessError(
            f"{format_id!r} cannot be a format's id",
            hint="small letters, digits, dots and dashes: --id my-format",
        )
    turns, lost = source.turns, list(source.lost)
    if turns is None:
        turns, details = _read(source)
        lost += details
    if source.kind in ("SillyTavern preset", "example conversation") and not turns.stop.strip():
        turns = replace(turns, final=EOS)
        lost.append(
            "nothing marks the end of an answer; the tokenizer's EOS is written and trained at the end of a conversation, the next header before that"
        )
    turns = replace(turns, stops=tuple(dict.fromkeys([*_stops(turns), *source.stops])))
    text = "\n".join(_front_matter(turns, source, format_id, lost)) + "\n" + template_of(turns)
    chat_format = parse_format(text, Path(f"{format_id}.jinja"))
    if "tools" in source.template:
        lost.append("calls of tools: the conversations here have none")
    return Imported(chat_format, text, tuple(lost))


def _read(source: Source) -> tuple[Turns, list[str]]:
    """The pieces of a source that can be rendered, and what they leave behind of it."""
    if source.render is None:
        raise ValueError("a source has a renderer or its pieces")
    try:
        turns = read_turns(source.render)
        chat_format = parse_format(
            "\n".join(_front_matter(turns, source, "read", ())) + "\n" + template_of(turns),
            Path("read.jinja"),
        )
        wrong, details = differences(
            source.render, renderer_of(chat_format), system=chat_format.system != "unsupported"
        )
        if wrong:
            raise HarnessError(wrong)
    except HarnessError as error:
        raise HarnessError(
            f"this format cannot be imported: {error.message}", where=source.where, hint=_SEE
        ) from None
    return turns, details


def rank_formats(source: Source, formats: Sequence[Format]) -> list[tuple[Format, int, int]]:
    """Each format with the number of probe conversations that it writes as the source does, and of all; best first."""
    write = source.render or renderer_of(import_format(source, "example").format)
    wanted = [write(messages, prompt) for messages, prompt in PLAIN]
    found = []
    for chat_format in formats:
        ours = renderer_of(chat_format)
        same = sum(
            1
            for (messages, prompt), text in zip(PLAIN, wanted, strict=True)
            if _with_own_tokens(ours(messages, prompt), source) == _with_own_tokens(text, source)
        )
        found.append((chat_format, same, len(PLAIN)))
    return sorted(found, key=lambda row: (-row[1], row[0].id))


def _stops(turns: Turns) -> Iterator[str]:
    mark = turns.stop.replace(EOS, "").replace(BOS, "").strip()
    if mark:
        yield mark
        return
    for header in (turns.user_open, turns.assistant_open):
        words = header.replace(EOS, "").replace(BOS, "").strip()
        if words:
            yield (
                f"\n{words}"
                if "\n" in turns.answer_close + turns.user_open.split(words)[0]
                else words
            )


def _front_matter(
    turns: Turns, source: Source, format_id: str, lost: Sequence[str]
) -> Iterator[str]:
    eos = (
        "after every assistant turn"
        if EOS in turns.stop
        else "none; the mark ends the answer"
        if turns.stop.strip()
        else "none"
    )
    special = [stop for stop in turns.stops if stop in source.special_tokens]
    yield "{#---"
    yield f"family = {json.dumps(format_id)}"
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


def _with_own_tokens(text: str | None, source: Source) -> str | None:
    """With the tokenizer's BOS and EOS in their places, since many templates spell them."""
    return (
        None
        if text is None
        else text.replace(BOS, source.bos_token or BOS).replace(EOS, source.eos_token or EOS)
    )
