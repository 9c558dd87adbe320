"""Find the known format that writes the same text as a source."""

from __future__ import annotations

from collections.abc import Sequence

from harness.conversation import Conversation, Message, Tool
from harness.errors import HarnessError
from harness.formats.exchange.alike import Alike, most_alike
from harness.formats.exchange.comparing import PLAIN, renderer_of
from harness.formats.exchange.importing import import_format
from harness.formats.exchange.sources import Source
from harness.formats.kept.kept_probes import A2, CALL, DATES, RESULT, T1, T2, TOOL, U1, U2, Prober
from harness.formats.kept.kept_render import frozen_clock
from harness.formats.render import render
from harness.formats.tracing import FROZEN_NOW
from harness.formats.turns import BOS, EOS
from harness.records import Format


def rank_formats(source: Source, formats: Sequence[Format]) -> list[tuple[Format, int, int]]:
    """Each format, the number of probe conversations it writes as the source does, and their total.

    The best comes first. A source that writes the date of the day equals only a format that asks
    for it too, and never one that writes the date of a certain day.
    """
    write = source.render or renderer_of(import_format(source, "example").format)
    probes = [probe for probe in PLAIN if probe[1] or not source.only_prompts]
    with frozen_clock(FROZEN_NOW):
        wanted = [_comparable(write(messages, prompt), source) for messages, prompt in probes]
    dated = _dated(source)
    rows = []
    for chat_format in formats:
        ours = renderer_of(chat_format)
        asks = "strftime_now" in chat_format.template
        same = sum(
            _comparable(ours(messages, prompt), source) == text
            for (messages, prompt), text in zip(probes, wanted, strict=True)
        )
        rows.append((chat_format, 0 if dated and not asks else same, len(probes)))
    return sorted(rows, key=lambda row: (-row[1], row[0].id))


def variant_of(source: Source, formats: Sequence[Format]) -> Alike | None:
    """The known format with the same turns, and how the source differs from it."""
    if source.render is None or source.only_prompts:
        return None
    if _dated(source):
        formats = [each for each in formats if "strftime_now" in each.template]
    with frozen_clock(FROZEN_NOW):
        return most_alike(source.render, formats)


def _dated(source: Source) -> bool:
    """Whether a source's text depends on the date."""
    if source.render is None or "strftime_now" not in source.template:
        return False
    texts = []
    for date in DATES:
        with frozen_clock(date):
            texts.append([source.render(*probe) for probe in PLAIN])
    return texts[0] != texts[1]


def differs_beyond(source: Source, chat_format: Format) -> list[str]:
    """Where a source that equals a format in plain turns differs from it: thoughts, tools."""
    if not source.template:
        return []
    theirs = Prober(source.template, source.where, {})
    return [
        name
        for name, messages, tools in (
            ("thoughts", (U1, T1, U2, T2), ()),
            ("tools", (U1, CALL, RESULT, A2), (TOOL,)),
        )
        if not _same_beyond(theirs, chat_format, messages, tools)
    ]


def _same_beyond(
    theirs: Prober, chat_format: Format, messages: tuple[Message, ...], tools: tuple[Tool, ...]
) -> bool:
    with frozen_clock(FROZEN_NOW):
        wanted = theirs.render(*messages, plain=True, tools=bool(tools))
        conversation = Conversation("probe", messages, tools=tools)
        try:
            ours = render(conversation, chat_format, bos_token=BOS, eos_token=EOS).text
        except HarnessError:
            ours = None
    return ours == (wanted and wanted.text)


def _comparable(text: str | None, source: Source) -> str | None:
    """The text with the source's own BOS and EOS, since many templates spell them out."""
    if text is None:
        return None
    text = text.removeprefix(BOS) if source.leaves_bos else text
    return text.replace(BOS, source.bos_token or BOS).replace(EOS, source.eos_token or EOS)
