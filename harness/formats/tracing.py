"""Run a chat template in the Hugging Face dialect, in a sandbox, and get text and spans together.

Messages, thoughts, calls, tools, BOS and EOS are passed to the template as traced values
(harness.formats.traced), which bracket themselves with Unicode noncharacters when they are written.
``{% generation %}`` writes a bracket of its own. One pass over the output (harness.formats.unmark)
then yields text and spans together, so they cannot drift apart, and nothing is ever found by
searching for it. A text that contains some of the noncharacters gets others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from jinja2 import StrictUndefined, TemplateError, UndefinedError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from harness.formats.guard import TemplateFaultError, trace_guarded
from harness.formats.traced import Inspected, Pieces, Traced, marks_absent_from, replace, tojson
from harness.formats.unmark import Literals, TracedText, literals_of, unmark, written_pieces
from harness.records import Format, Span

#: The date for templates that write one, so that a rendering does not change from day to day.
FROZEN_NOW = datetime(2024, 7, 26)


class GenerationTag(Extension):
    """``{% generation %}…{% endgeneration %}``, as in transformers: the text inside is trained."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        mark = nodes.Output([nodes.Name("generation_mark", "load")], lineno=line)
        return [mark, *body, nodes.Output([nodes.Name("generation_mark", "load")], lineno=line)]


class TemplateRefusal(TemplateError):
    """The template itself called ``raise_exception``."""


#: What a template raises that refuses messages, or that fails on them.
REFUSALS = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)


def raise_exception(message: str) -> None:
    """The function of that name in every template."""
    raise TemplateRefusal(message)


_PROBING: ContextVar[str] = ContextVar("probing", default="")
"""The character that opens a traced piece while probes are rendered, else nothing."""


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which a macro or a block that keeps a probe's words is noticed."""

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        text = "".join(parts)
        # The text of a macro or of a set block comes as a list, that of a template does not.
        if isinstance(parts, list) and (opening := _PROBING.get()) and opening in text:
            raise Inspected
        return text


@lru_cache(maxsize=1)
def environment() -> ImmutableSandboxedEnvironment:
    """The sandbox of our templates: that of transformers, but strict on undefined names."""
    env = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        extensions=[GenerationTag, loopcontrols],
        autoescape=False,
    )
    env.filters |= {"tojson": tojson, "replace": replace}
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = FROZEN_NOW.strftime
    return env


_COMPILED: dict[str, Callable[..., str]] = {}


def compile_text(template: str) -> Callable[..., str]:
    """A template as a function of its variables, compiled in this process."""
    render = _COMPILED.get(template)
    if render is None:
        render = _COMPILED[template] = environment().from_string(template).render
    return render


class Shape(NamedTuple):
    """Everything but the format and the words that a rendering depends on: a cache key."""

    roles: tuple[str, ...]
    names: tuple[str | None, ...]
    add_generation_prompt: bool
    bos_token: str
    eos_token: str
    assistant_name: str
    user_name: str


class Extras(NamedTuple):
    """What messages hold besides roles, names and words, and the tools of the conversation.

    A tuple has one entry for each message, or none when no message holds such a thing. A call is
    its name, its arguments as JSON text, and its id.
    """

    reasoning: Sequence[str | None] = ()
    calls: Sequence[Sequence[tuple[str, str, str | None]]] = ()
    call_ids: Sequence[str | None] = ()
    tools: Sequence[str] = ()


class LostCall(TemplateError):
    """The template did not write a call, a part of one, or a tool."""


def trace(
    chat_format: Format,
    shape: Shape,
    contents: Sequence[str],
    words: type[Traced] = Traced,
    extras: Extras | None = None,
) -> TracedText:
    """Run the format's template over messages of this shape; ``words`` is the class of contents.

    A template that is not shipped runs in a limited process (harness.formats.guard). Raises what
    the template raises, LostCall for a call or a tool that it leaves out, and HarnessError for one
    that does harm.
    """
    literals = literals_of(chat_format)
    if chat_format.trusted:
        run = Run(chat_format.template, chat_format.variables, literals)
        return run_traced(run, shape, contents, words, extras)
    where, probe = chat_format.path or chat_format.id, words is not Traced
    try:
        text, spans, plain, asked = trace_guarded(
            [chat_format.template, dict(chat_format.variables), literals],
            shape,
            contents,
            where,
            probe=probe,
            extras=extras,
        )
    except TemplateFaultError as fault:
        raise _exception(fault) from None
    ranges = tuple((start, end) for start, end in plain)
    questions = tuple(
        (number, tuple(strips), method, tuple(given), answer)
        for number, strips, method, given, answer in asked
    )
    return TracedText(text, tuple(Span(*span) for span in spans), ranges, questions)


def _exception(fault: TemplateFaultError) -> Exception:
    """A fault in the limited process as the exception that it was there."""
    kinds: tuple[type[Exception], ...] = (TemplateRefusal, LostCall, UndefinedError, TypeError)
    kind = next((kind for kind in kinds if kind.__name__ == fault.name), TemplateError)
    named = kind is not TemplateError or fault.name == "TemplateError"
    return kind(str(fault) if named else f"{fault.name}: {fault}")


class Run(NamedTuple):
    """A template, the switches that are set, and the texts that split its answers."""

    template: str
    variables: Mapping[str, Any]
    literals: Literals


def run_traced(
    run: Run,
    shape: Shape,
    contents: Sequence[str],
    words: type[Traced],
    extras: Extras | None = None,
) -> TracedText:
    """Run a template over messages of this shape, in this process."""
    tokens = [shape.bos_token, shape.eos_token, shape.assistant_name, shape.user_name]
    names = [name for name in shape.names if name]
    pieces = Pieces(
        marks_absent_from([*contents, *names, *tokens, run.template, *_texts(run, extras)])
    )
    pieces.known = [("content", index) for index in range(len(contents))]
    messages: list[dict[str, Any]] = []
    for index, (role, name, content) in enumerate(
        zip(shape.roles, shape.names, contents, strict=True)
    ):
        entry: dict[str, Any] = {"role": role, "content": words(content, index, pieces)}
        if name:
            entry["name"] = name
        messages.append(entry)
    tools, needed = _add_extras(messages, extras, pieces) if extras else (None, {})
    variables = {
        **run.variables,
        "messages": messages,
        "tools": tools,
        "add_generation_prompt": shape.add_generation_prompt,
        "bos_token": pieces.text(shape.bos_token, "bos", -1),
        "eos_token": pieces.text(shape.eos_token, "eos", -1),
        "assistant_name": shape.assistant_name,
        "user_name": shape.user_name,
        "generation_mark": pieces.marks.generation,
    }
    probing = _PROBING.set("" if words is Traced else pieces.marks.open)
    try:
        marked = compile_text(run.template)(variables)
    finally:
        _PROBING.reset(probing)
    if needed:
        _check_written(marked, pieces, needed)
    return unmark(marked, pieces, run.literals)


def _texts(run: Run, extras: Extras | None) -> Iterator[str]:
    """All texts that a template may write, besides words, names and tokens."""
    yield from (value for value in run.variables.values() if isinstance(value, str))
    if extras:
        yield from filter(None, (*extras.reasoning, *extras.call_ids, *extras.tools))
        for calls in extras.calls:
            yield from filter(None, (text for call in calls for text in call))


def _add_extras(
    messages: list[dict[str, Any]], extras: Extras, pieces: Pieces
) -> tuple[list[Any] | None, dict[int, str]]:
    """Add thoughts, calls and ids to the messages.

    Returns the tools, or None, and the numbers of the pieces that must be written, with what each
    is a part of.
    """
    needed: dict[int, str] = {}
    for index, thought in enumerate(extras.reasoning):
        if thought is not None:
            traced = pieces.text(thought, "reasoning", index)
            messages[index] |= {"reasoning_content": traced, "thinking": traced}
    for index, calls in enumerate(extras.calls):
        if calls:
            messages[index]["tool_calls"] = [
                _call(call, index, pieces, needed, f"the call of {call[0]} in message {index}")
                for call in calls
            ]
    for index, call_id in enumerate(extras.call_ids):
        if call_id is not None:
            messages[index]["tool_call_id"] = pieces.text(call_id, "content", -1)
    tools = [pieces.value(json.loads(tool), "content", -1) for tool in extras.tools]
    for tool in tools:
        name = tool["function"]["name"]
        needed[name.number] = f"the tool {name.read()}"
    return tools or None, needed


def _call(
    call: tuple[str, str, str | None],
    index: int,
    pieces: Pieces,
    needed: dict[int, str],
    label: str,
) -> dict[str, Any]:
    """A call as a template sees it. All of it must be written but its id."""
    name, arguments, call_id = call
    first = len(pieces.known)
    function = {
        "name": pieces.text(name, "call", index),
        "arguments": pieces.value(json.loads(arguments), "call", index),
    }
    needed |= dict.fromkeys(range(first, len(pieces.known)), label)
    traced_id = {"id": pieces.text(call_id, "call", index)} if call_id is not None else {}
    return {**traced_id, "type": "function", "function": function}


def _check_written(marked: str, pieces: Pieces, needed: dict[int, str]) -> None:
    written = written_pieces(marked, pieces)
    for number, label in needed.items():
        if number not in written:
            raise LostCall(f"it drops {label}")
