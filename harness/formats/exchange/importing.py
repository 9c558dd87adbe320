"""Import a format: find its pieces, write its file, and compare both on other conversations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.formats.exchange.chat_templates import gguf_findings
from harness.formats.exchange.comparing import PLAIN, differences, renderer_of
from harness.formats.exchange.programs.preset_template import Written
from harness.formats.exchange.sources import Source
from harness.formats.frontmatter import parse_format, write_front_matter
from harness.formats.kept.keeping import keep_template
from harness.formats.turns import BOS, EOS, Renderer, Turns, read_turns, without_tokens
from harness.formats.turns_template import template_of
from harness.records import Format

_NO_MARK = (
    "nothing marks the end of an answer; the tokenizer's EOS is written and trained at the end of "
    "a conversation, the next header before that"
)
_NO_BOS = (
    "BOS, which the program leaves to its server: write bos_token first in the template if yours "
    "adds one"
)
_SEE = "harness formats detect says whether a shipped format equals it"


@dataclass(frozen=True)
class Imported:
    """An imported format, the text of its file, and one sentence for each thing that was lost.

    ``findings`` are faults of a template that is kept as it is, ``proved`` the shapes of
    conversation on which its loss mask was proved, ``refused`` those that it does not take.
    """

    format: Format
    source: str
    lost: tuple[str, ...]
    findings: tuple[str, ...] = ()
    proved: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def import_format(
    source: Source, format_id: str, variables: Mapping[str, Any] | None = None
) -> Imported:
    """Write a source as a format file. A chat template is kept as it is.

    ``variables`` are values that a chat template reads. Raises HarnessError with the reason when it
    cannot be expressed, and for variables without a chat template.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", format_id):
        raise HarnessError(
            f"invalid format id {format_id!r}",
            hint="use small letters, digits, dots and dashes: --id my-format",
        )
    if variables and not source.template:
        raise HarnessError(
            f"--variable is for a chat template; this is a {source.kind}", source.where
        )
    if source.written is not None:
        return _as_written(source, source.written, format_id)
    if source.template:
        return _kept(source, format_id, variables or {})
    turns, lost = source.turns, list(source.lost)
    if source.render is not None:
        turns, details = _read(source, source.render)
        lost += details
    if turns is None:
        raise ValueError("a source has a renderer or its pieces")
    if not (turns.stop + turns.final).strip():
        turns = replace(turns, final=EOS)
        lost.append(_NO_MARK)
    if source.leaves_bos and not turns.begin.startswith(BOS):
        lost.append(_NO_BOS)
    turns = replace(turns, stops=tuple(dict.fromkeys([*_stops(turns), *source.stops])))
    text = _front_matter(turns, source, format_id, lost) + template_of(turns)
    chat_format = parse_format(text, Path(f"{format_id}.jinja"))
    return Imported(chat_format, text, tuple(lost))


def _kept(source: Source, format_id: str, variables: Mapping[str, Any]) -> Imported:
    """A chat template as it is, with the tokens that it reads by name."""
    tokens = source.found.tokens if source.found else {}
    named = {
        key: text
        for key, text in tokens.items()
        if key in source.template and key not in ("bos_token", "eos_token")
    }
    kept = keep_template(
        source.template,
        format_id,
        where=source.where,
        origin=f"kept as it is from a {source.kind}: {Path(source.where).name}",
        special_tokens=source.special_tokens,
        variables={**named, **variables},
    )
    findings = [*kept.findings]
    if source.found and source.found.vocabulary:
        bos = _writes_bos(kept.format, source)
        findings += gguf_findings(source.found, kept.format.stops, writes_bos=bos)
    return Imported(
        kept.format,
        kept.source,
        source.lost,
        tuple(findings),
        kept.proof.proved,
        kept.proof.refused,
    )


def _writes_bos(chat_format: Format, source: Source) -> bool:
    text = renderer_of(chat_format)(PLAIN[0][0], True) or ""
    return text.startswith(BOS) or bool(source.bos_token and text.startswith(source.bos_token))


def _as_written(source: Source, written: Written, format_id: str) -> Imported:
    """The template that the source's reader wrote, compared with what the source renders."""
    lost = list(source.lost)
    if not written.mark:
        lost.append(_NO_MARK)
    if source.leaves_bos and "bos_token" not in written.template:
        lost.append(_NO_BOS)
    facts: dict[str, str | Sequence[str]] = {
        "family": format_id,
        **written.facts,
        "origin": f"imported from a {source.kind}: {Path(source.where).name}",
    }

    def parsed(lost: Sequence[str]) -> tuple[Format, str]:
        notes = {"notes": "Not kept: " + "; ".join(lost)} if lost else {}
        text = write_front_matter({**facts, **notes}, written.roles) + written.template
        return parse_format(text, Path(f"{format_id}.jinja")), text

    chat_format, _ = parsed(())
    if source.render is not None:
        wrong, details = differences(
            source.render, renderer_of(chat_format), system=chat_format.system != "unsupported"
        )
        if wrong:
            raise HarnessError(f"this format cannot be imported: {wrong}", source.where, _SEE)
        lost += details
    chat_format, text = parsed(lost)
    return Imported(chat_format, text, tuple(lost))


def _read(source: Source, write: Renderer) -> tuple[Turns, list[str]]:
    """The pieces of a source that can be rendered, and one sentence for each thing lost."""
    try:
        turns = source.turns or read_turns(write)
        chat_format = parse_format(
            _front_matter(turns, source, "read", ()) + template_of(turns), Path("read.jinja")
        )
        wrong, details = differences(
            write, renderer_of(chat_format), system=chat_format.system != "unsupported"
        )
        if wrong:
            raise HarnessError(wrong)
    except HarnessError as error:
        raise HarnessError(
            f"this format cannot be imported: {error.message}", where=source.where, hint=_SEE
        ) from None
    return turns, details


def _stops(turns: Turns) -> Iterator[str]:
    mark = without_tokens(turns.stop)
    if mark:
        yield mark
        return
    for header in (turns.user_open, turns.assistant_open):
        words = without_tokens(header)
        if words:
            yield (
                f"\n{words}"
                if "\n" in turns.answer_close + turns.user_open.split(words)[0]
                else words
            )


def _front_matter(turns: Turns, source: Source, format_id: str, lost: Sequence[str]) -> str:
    facts: dict[str, str | Sequence[str]] = {
        "family": format_id,
        "system": turns.system,
        "stops": turns.stops,
    }
    if special := [stop for stop in turns.stops if stop in source.special_tokens]:
        facts["stop_tokens"] = special
    if EOS in turns.stop:
        facts["eos"] = "after every assistant turn"
    else:
        facts["eos"] = "none; the mark ends the answer" if turns.stop.strip() else "none"
    facts["origin"] = f"imported from a {source.kind}: {Path(source.where).name}"
    if lost:
        facts["notes"] = "Not kept: " + "; ".join(lost)
    headers = {
        "system": without_tokens(turns.system_open or "") if turns.system == "own" else "",
        "user": without_tokens(turns.user_open),
        "assistant": without_tokens(turns.assistant_open or turns.user_close),
    }
    return write_front_matter(facts, {role: header for role, header in headers.items() if header})
