"""The lines before an exported template that give it messages as our renderer does.

A server hands a template what its client sent: content that is null or a list of parts, a role that
the format does not have, tools for a format without. Our formats are written for messages that have
been read and adapted (``harness.formats.adapt.adapt_to_format``); outside nobody does that but the
template. What cannot be written is refused in the words of our renderer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.formats.turns_template import jinja_literal
from harness.records import Format

#: Names of speakers, in formats that write them.
_SPEAKERS = {"assistant_name": "Assistant", "user_name": "User"}
#: The variable of the lines; no format has one of this name.
_NS = "given"


def write_prelude(chat_format: Format) -> str:
    """Jinja for transformers and for llama.cpp, which has no ``dict`` and no assignment to one."""
    return "\n".join(_lines(chat_format)) + "\n"


def _lines(chat_format: Format) -> Iterator[str]:
    for name, default in _SPEAKERS.items():
        if name in chat_format.template:
            yield f"{{%- set {name} = {name} | default({jinja_literal(default)}, true) %}}"
    for name, value in chat_format.variables.items():
        yield f"{{%- if {name} is not defined %}}"
        yield f"    {{%- set {name} = {_literal(value)} %}}"
        yield "{%- endif %}"
    if not chat_format.calls:
        yield "{%- if tools %}"
        yield f"    {_refuse(chat_format, 'tools')}"
        yield "{%- endif %}"
    begun = "messages=[], text='', thought='', role='', developer=false"
    yield f"{{%- set {_NS} = namespace({begun}) %}}"
    yield "{%- for message in messages %}"
    yield from _text_lines(chat_format)
    if not chat_format.calls:
        yield "    {%- if message['tool_calls'] %}"
        yield f"        {_refuse(chat_format, 'calls of tools')}"
        yield "    {%- elif message['role'] == 'tool' %}"
        yield f"        {_refuse(chat_format, 'results of tools')}"
        yield "    {%- endif %}"
    elif _reads_arguments(chat_format.template):
        yield "    {%- for call in message['tool_calls'] or [] %}"
        yield "        {%- if call['function']['arguments'] is string %}"
        yield f"            {_refuse(chat_format, 'arguments as text: send an object')}"
        yield "        {%- endif %}"
        yield "    {%- endfor %}"
    yield f"    {{%- set {_NS}.role = message['role'] %}}"
    yield from _adapting_lines(chat_format)
    rebuilt = f"{{%- set {_NS}.messages = {_NS}.messages + [{{{_fields(chat_format)}}}] %}}"
    if chat_format.names == "none":
        yield f"    {{%- if {_unchanged(chat_format)} %}}"
        yield f"        {{%- set {_NS}.messages = {_NS}.messages + [message] %}}"
        yield "    {%- else %}"
        yield f"        {rebuilt}"
        yield "    {%- endif %}"
    else:
        yield f"    {rebuilt}"
    yield "{%- endfor %}"
    yield f"{{%- set messages = {_NS}.messages %}}"


def _text_lines(chat_format: Format) -> Iterator[str]:
    """The content as one text."""
    yield f"    {{%- set {_NS}.text = '' %}}"
    yield "    {%- if message['content'] is string %}"
    yield f"        {{%- set {_NS}.text = message['content'] %}}"
    yield "    {%- elif message['content'] %}"
    yield "        {%- for part in message['content'] %}"
    yield "            {%- if part['text'] is not string %}"
    yield f"                {_refuse(chat_format, 'pictures, sounds and files')}"
    yield "            {%- endif %}"
    yield f"            {{%- set {_NS}.text = {_NS}.text + part['text'] %}}"
    yield "        {%- endfor %}"
    yield "    {%- endif %}"


def _adapting_lines(chat_format: Format) -> Iterator[str]:
    """A developer's message is the system's, and joins another; a question carries the system.

    A thought in an answer's words is its thought.
    """
    if chat_format.reasoning != "none":
        yield from _thought_lines(chat_format)
    before = f"{_NS}.messages[-1]"
    joined = f"{_NS}.text = {before}['content'] + '\\n\\n' + {_NS}.text"
    shorter = f"{_NS}.messages = {_NS}.messages[:-1]"
    if "developer" not in chat_format.roles:
        yield f"    {{%- if {_NS}.role == 'developer' %}}"
        yield f"        {{%- set {_NS}.role = 'system' %}}"
        yield f"        {{%- set {_NS}.developer = true %}}"
        yield "    {%- endif %}"
        yield (
            f"    {{%- if {_NS}.developer and {_NS}.role == 'system' and {_NS}.messages"
            f" and {before}['role'] == 'system' %}}"
        )
        yield f"        {{%- set {joined} %}}"
        yield f"        {{%- set {shorter} %}}"
        yield "    {%- endif %}"
    if chat_format.system == "unsupported":
        yield (
            f"    {{%- if {_NS}.role == 'user' and {_NS}.messages | length == 1"
            f" and {before}['role'] == 'system' %}}"
        )
        yield f"        {{%- set {joined} %}}"
        yield f"        {{%- set {shorter} %}}"
        yield "    {%- endif %}"


def _thought_lines(chat_format: Format) -> Iterator[str]:
    """The thought of an answer, which may open its words; none where thinking is switched off."""
    thought = "message['reasoning_content'] or message['reasoning'] or message['thinking'] or ''"
    yield f"    {{%- set {_NS}.thought = {thought if chat_format.thinks else repr('')} %}}"
    known = "" if not chat_format.thinks else f" and not {_NS}.thought"
    yield f"    {{%- if {_NS}.role == 'assistant' and '</think>' in {_NS}.text{known} %}}"
    yield f"        {{%- set words = {_NS}.text.split('</think>')[-1] %}}"
    if chat_format.thinks:
        length = f"{_NS}.text | length - words | length - {len('</think>')}"
        yield f"        {{%- set {_NS}.thought = {_NS}.text[:{length}].strip() %}}"
        yield f"        {{%- if {_NS}.thought.startswith('<think>') %}}"
        yield f"            {{%- set {_NS}.thought = {_NS}.thought[7:] %}}"
        yield "        {%- endif %}"
        yield f"        {{%- set {_NS}.thought = {_NS}.thought.strip('\\n') %}}"
    yield f"        {{%- set {_NS}.text = words.lstrip('\\n') %}}"
    yield "    {%- endif %}"


def _unchanged(chat_format: Format) -> str:
    """Whether a message is given to the template as it is."""
    tests = [
        "message['content'] is string",
        f"{_NS}.text == message['content']",
        f"{_NS}.role == message['role']",
    ]
    if chat_format.thinks:
        tests.append("not (message['thinking'] or message['reasoning'])")
    elif chat_format.reasoning != "none":
        tests.append("not message['reasoning_content']")
    return " and ".join(tests)


def _fields(chat_format: Format) -> str:
    """What a template of ours reads of a message. ``absent`` is no variable: undefined, as a key
    that a message does not have.
    """
    fields = {"role": f"{_NS}.role", "content": f"{_NS}.text"}
    if chat_format.names != "none" or chat_format.calls:
        fields["name"] = "message['name'] or absent"
    if chat_format.thinks:
        fields["reasoning_content"] = fields["thinking"] = f"{_NS}.thought"
    if chat_format.calls:
        fields["tool_calls"] = "message['tool_calls'] or []"
        fields["tool_call_id"] = "message['tool_call_id'] or absent"
    return ", ".join(f"'{name}': {value}" for name, value in fields.items())


def _refuse(chat_format: Format, what: str) -> str:
    words = f"format {chat_format.id} has no place for {what}"
    return f"{{{{- raise_exception({jinja_literal(words)}) }}}}"


#: A call's arguments, written as JSON.
_ARGUMENTS = re.compile(r"(\w[\w.\[\]']*(?:\.arguments|\['arguments'\])) *\| *tojson(\([^()]*\))?")


def _reads_arguments(template: str) -> bool:
    """Whether the template takes arguments apart, which JSON text cannot be."""
    return bool(re.search(r"(\.|\[')arguments\b", _ARGUMENTS.sub("", template)))


def arguments_as_given(template: str) -> str:
    """The template with arguments of calls that are JSON already written as they are."""
    return _ARGUMENTS.sub(r"(\1 if \1 is string else \1 | tojson\2)", template)


def _literal(value: object) -> str:
    return jinja_literal(value) if isinstance(value, str) else str(value).lower()
