"""Conversation × Format → Rendered: the one place where text and its spans are made. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError

from harness.errors import HarnessError
from harness.formats.template import Marks, Traced, compile_template, marks_absent_from
from harness.records import Conversation, Format, Message, Rendered, Span, SpanKind

USER_NAME = "User"
ASSISTANT_NAME = "Assistant"


def render(
    conversation: Conversation,
    format: Format,
    *,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
    bos_token: str = "",
    eos_token: str = "",
    assistant_name: str | None = None,
) -> Rendered:
    """Render a conversation in a format.

    ``add_generation_prompt`` ends the text where the assistant is to begin; ``continue_final_message``
    ends it with the last answer's words, without its stop, for the model to go on. ``assistant_name`` is who
    answers in a format with names; without it the last named assistant turn decides. Rendering loses
    nothing: HarnessError names the format and the message when the template refuses it, drops it or
    changes its words (outer white space may go, where the format's owner trims it).
    """
    if continue_final_message:
        _check_unfinished(conversation, add_generation_prompt)
    texts = [text for message in conversation.messages for text in (message.content, message.name or "")]
    marks = marks_absent_from([*texts, bos_token, eos_token, assistant_name or "", format.template])
    pieces: list[tuple[SpanKind, int]] = []

    def traced(text: str, kind: SpanKind, message: int = -1) -> Traced:
        pieces.append((kind, message))
        return Traced(text, len(pieces) - 1, marks)

    messages = []
    for index, message in enumerate(conversation.messages):
        entry: dict[str, str] = {"role": message.role, "content": traced(message.content, "content", index)}
        if message.name:
            entry["name"] = message.name
        messages.append(entry)
    try:
        marked = compile_template(format)(
            messages=messages,
            add_generation_prompt=add_generation_prompt,
            bos_token=traced(bos_token, "bos"),
            eos_token=traced(eos_token, "eos"),
            assistant_name=assistant_name or conversation.assistant_name() or ASSISTANT_NAME,
            user_name=_user_name(conversation),
            generation_mark=marks.generation,
        )
    except (TemplateError, SecurityError, TypeError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, TemplateError) else str(error)
        raise HarnessError(f"format {format.id} cannot render this conversation: {reason}", where=conversation.source or conversation.id) from None
    text, spans = _unmark(marked, marks, pieces)
    _check_lossless(conversation, format, text, spans)
    if continue_final_message:
        text, spans = _without_the_end(text, spans)
    return Rendered(text, spans, resolved_stops(format, conversation), format.id)


def resolved_stops(format: Format, conversation: Conversation) -> tuple[str, ...]:
    """The format's stops with the user's name in the place that waits for it."""
    return tuple(stop.replace("{user_name}", _user_name(conversation)) for stop in format.stops)


def _user_name(conversation: Conversation) -> str:
    return next((m.name for m in conversation.messages if m.role == "user" and m.name), None) or USER_NAME


def _unmark(marked: str, marks: Marks, pieces: list[tuple[SpanKind, int]]) -> tuple[str, tuple[Span, ...]]:
    """Split the marked output into plain text and spans in one pass."""
    parts: list[str] = []
    spans: list[Span] = []
    length = 0
    for part, kind, message, trained in _classify(marked, marks, pieces):
        if not part:
            continue
        last = spans[-1] if spans else None
        if last and (last.kind, last.message, last.trained) == (kind, message, trained):
            spans[-1] = Span(last.start, length + len(part), kind, message, trained)
        else:
            spans.append(Span(length, length + len(part), kind, message, trained))
        parts.append(part)
        length += len(part)
    return "".join(parts), tuple(spans)


def _classify(marked: str, marks: Marks, pieces: list[tuple[SpanKind, int]]) -> Iterator[tuple[str, SpanKind, int, bool]]:
    """Yield (text, kind, message, trained) in order.

    Inside a generation block, what stands before the answer is glue (the space that belongs to the
    answer), what stands after it is its stop. Outside, text is header, and white space between
    headers is glue.
    """
    at, inside, message, answered = 0, False, -1, False
    open_piece: tuple[SpanKind, int] | None = None
    for mark in marks.pattern.finditer(marked):
        part = marked[at : mark.start()]
        at = mark.end()
        if open_piece is not None:
            kind, index = open_piece
            yield part, kind, index if kind == "content" else (message if inside else -1), inside
        elif inside:
            yield part, "stop" if answered else "glue", message, True
        else:
            yield part, "header" if part.strip() else "glue", -1, False
        if mark[1] is not None:
            open_piece = pieces[int(mark[1])]
            if open_piece[0] == "content":
                message, answered = open_piece[1], True
        elif mark[0] == marks.close:
            open_piece = None
        else:
            inside, answered = not inside, False
            if inside:
                message = _next_content(marked, at, marks, pieces)
    part = marked[at:]
    yield part, "header" if part.strip() else "glue", -1, False


def _next_content(marked: str, at: int, marks: Marks, pieces: list[tuple[SpanKind, int]]) -> int:
    """The message whose content comes first inside the generation block that begins at ``at``, or −1."""
    for mark in marks.pattern.finditer(marked, at):
        if mark[0] == marks.generation:
            break
        if mark[1] is not None and pieces[int(mark[1])][0] == "content":
            return pieces[int(mark[1])][1]
    return -1


def _check_unfinished(conversation: Conversation, add_generation_prompt: bool) -> None:
    last = conversation.messages[-1]
    where = conversation.source or conversation.id
    if add_generation_prompt:
        raise HarnessError("a generation prompt and an unfinished last message exclude each other", where=where)
    if last.role != "assistant" or not last.content.strip():
        raise HarnessError(f"only an answer that has begun can be continued, and the last message is {last.role}", where=where, hint="use a generation prompt")


def _without_the_end(text: str, spans: tuple[Span, ...]) -> tuple[str, tuple[Span, ...]]:
    """Cut what follows the last message's words."""
    end = max(span.end for span in spans if span.kind == "content")
    return text[:end], tuple(span for span in spans if span.end <= end)


def _check_lossless(conversation: Conversation, format: Format, text: str, spans: tuple[Span, ...]) -> None:
    shown = [""] * len(conversation.messages)
    for span in spans:
        if span.kind == "content":
            shown[span.message] += text[span.start : span.end]
    for index, message in enumerate(conversation.messages):
        words = shown[index].strip()
        if words != message.content.strip() and words not in _without_reasoning(format, message):
            fate = "changes" if shown[index].strip() else "drops"
            raise HarnessError(
                f"format {format.id} {fate} message {index} ({message.role})",
                where=conversation.source or conversation.id,
                hint="the format has no place for a system prompt" if message.role == "system" else "the template must write every message's content once",
            )


def _without_reasoning(format: Format, message: Message) -> tuple[str, ...]:
    """What a format may leave of an answer that opens with a think block: its owner drops the block, or its opening tag, by position."""
    if format.reasoning == "none" or message.role != "assistant" or "</think>" not in message.content:
        return ()
    return message.content.rpartition("</think>")[2].strip(), message.content.strip().removeprefix("<think>").strip()
