"""Properties of a format, computed by rendering probe conversations and never typed by hand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any

from harness.conversation import Conversation, Message, Tool, ToolCall
from harness.errors import HarnessError
from harness.records import Format, Rendered

_TURNS = (
    Message("user", "first question"),
    Message("assistant", "first answer"),
    Message("user", "second question"),
    Message("assistant", "second answer"),
)
_SYSTEM = Message("system", "the rules")
_TOOL = Tool(
    '{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": '
    '{"type": "object", "properties": {"place": {"type": "string", "description": "Where."}}, '
    '"required": ["place"]}}}'
)
_CALL = ToolCall("look", '{"place": "here"}', "call00001")
_THOUGHT = (Message("user", "a question"), Message("assistant", "an answer", reasoning="a thought"))
_CALLING = (Message("user", "a question"), Message("assistant", "", tool_calls=(_CALL,)))
_RESULT = Message("tool", "a result", "look", tool_call_id=_CALL.id)
_BOS, _EOS = "<s>", "</s>"
#: The finding for each property that every format should have.
_FAULTS = {
    "prompt_is_prefix": "The generation prompt is not a prefix of the training text, so the model "
    "is prompted in a form it was not trained on: fix the add_generation_prompt branch.",
    "no_trailing_space": "The generation prompt ends in a space, which most tokenizers would "
    "merge with the answer's first word: move it into the generation block.",
    "stop_trained": "No stop is inside the generation block, so the model never learns to end: put "
    "the end-of-turn token or eos_token before endgeneration.",
}


NOTHING_TRAINED = (
    "The template has no {% generation %} block, so no part of an answer is trained: put one "
    "around the answer and its stop, or import the template unchanged with harness formats import."
)


@dataclass(frozen=True)
class FormatReport:
    """The computed properties of a format, and one sentence for each fault."""

    format: str
    properties: dict[str, Any] = field(default_factory=dict)
    findings: tuple[str, ...] = ()


def check_format(chat_format: Format) -> FormatReport:
    """Render probe conversations and check the text and its spans.

    ``harness.tokens.tokenizer_check`` adds what depends on a tokenizer.
    """
    try:
        whole = _render(chat_format, _TURNS)
        exchanges = [
            (_render(chat_format, _TURNS[:1], prompt=True), _render(chat_format, _TURNS[:2])),
            (_render(chat_format, _TURNS[:3], prompt=True), whole),
        ]
    except HarnessError as error:
        finding = f"A plain conversation cannot be rendered: {error.message}."
        return FormatReport(chat_format.id, {"lossless": False}, (finding,))
    system = _carries(chat_format, (_SYSTEM, *_TURNS))
    properties = {
        "lossless": True,
        "system": system,
        "prompt_is_prefix": all(
            answered.text.startswith(prompt.text) for prompt, answered in exchanges
        ),
        "prefix_stable": _prefix_stable(chat_format, _TURNS)
        and (not system or _prefix_stable(chat_format, (_SYSTEM, *_TURNS))),
        "no_trailing_space": not any(prompt.text.endswith(" ") for prompt, _ in exchanges),
        "stop_trained": _stop_trained(whole),
        "leading_bos": whole.text.startswith(_BOS),
    }
    carried, answer_findings = _check_answers(chat_format)
    properties |= carried
    if chat_format.kept is None:
        findings = [sentence for name, sentence in _FAULTS.items() if not properties[name]]
        if not any(span.trained for span in whole.spans):
            findings[findings.index(_FAULTS["stop_trained"])] = NOTHING_TRAINED
    else:
        findings = _seen_of_kept(chat_format)
    findings += answer_findings
    if not system and chat_format.system != "unsupported":
        findings.append(
            "A system prompt is refused, but the front matter says "
            f'system = "{chat_format.system}": write "unsupported" or fix the template.'
        )
    if whole.text.startswith(_BOS * 2):
        findings.append("The text begins with two BOS tokens: write bos_token once.")
    return FormatReport(chat_format.id, properties, tuple(findings))


def _check_answers(chat_format: Format) -> tuple[dict[str, Any], list[str]]:
    """Whether thoughts, calls and results are written, and whether answers can be parsed."""
    thoughts = _carried_thought(chat_format)
    called = _try(chat_format, _CALLING) if chat_format.calls else None
    answered = (*_CALLING, _RESULT, Message("assistant", "an answer"))
    results = chat_format.calls and not isinstance(_try(chat_format, answered), str)
    probes = [_TURNS[:2], *([_THOUGHT] if thoughts else ())]
    calls = called is not None and not isinstance(called, str)
    probes += [_CALLING] if calls else []
    unread = [probe for probe in probes if not _read_back(chat_format, probe)]
    findings = []
    if chat_format.thinks and not thoughts:
        findings.append(
            "A thought is not written, but the front matter says "
            f'reasoning = "{chat_format.reasoning}": render message.reasoning_content.'
        )
    if chat_format.calls and not (calls and results):
        reason = called if isinstance(called, str) else _try(chat_format, answered)
        findings.append(f'A call is refused, but the front matter says tools = "own": {reason}.')
    if unread and chat_format.kept is None:
        findings.append(
            "A rendered answer cannot be parsed again: fix [thoughts], [content] or [calls] in the "
            "front matter."
        )
    carries = {"thoughts": thoughts, "calls": calls, "results": results}
    if chat_format.calls:
        carries["prefix_stable_with_tools"] = _stable_with_tools(chat_format, answered)
    return {**carries, "answers_read_back": not unread}, findings


def _carried_thought(chat_format: Format) -> bool:
    """Whether the last answer's thought is written; some owners write only that before a call."""
    if not chat_format.thinks:
        return False
    before_call = replace(_CALLING[1], reasoning="a thought")
    probes = [_THOUGHT, *([(_CALLING[0], before_call)] if chat_format.calls else ())]
    renderings = [_try(chat_format, probe) for probe in probes]
    return any(not isinstance(each, str) and not each.dropped for each in renderings)


def _try(chat_format: Format, messages: tuple[Message, ...]) -> Rendered | str:
    """The rendering, or the reason why there is none."""
    try:
        return _render(chat_format, messages)
    except HarnessError as error:
        return error.message


def _read_back(chat_format: Format, messages: tuple[Message, ...]) -> bool:
    """Whether parsing the trained text of the last answer gives the same answer."""
    from harness.formats.parse import opened_by, parse_answer

    whole, answer = _try(chat_format, messages), messages[-1]
    try:
        prompt = _render(chat_format, messages[:-1], prompt=True, tools=_tools_for(messages))
    except HarnessError:
        return False
    if isinstance(whole, str):
        return False
    text = "".join(
        whole.text[span.start : span.end]
        for span in whole.spans
        if span.trained and span.kind not in ("stop", "eos")
    )
    parsed = parse_answer(text, chat_format, opened=opened_by(prompt, chat_format), tools=[_TOOL])
    return (
        parsed.content.strip() == answer.content
        and (bool(whole.dropped) or parsed.reasoning == answer.reasoning)
        and [(call.name, call.values()) for call in parsed.tool_calls]
        == [(call.name, call.values()) for call in answer.tool_calls]
    )


def _stable_with_tools(chat_format: Format, answered: tuple[Message, ...]) -> bool:
    """Whether each prompt of a conversation with tools is a prefix of all later ones.

    Some owners write the tools before the last question.
    """
    for messages in (_TURNS, (*answered, *_TURNS[2:])):
        try:
            whole = _render(chat_format, messages, tools=(_TOOL,))
            prompts = [
                _render(chat_format, messages[:at], prompt=True, tools=(_TOOL,))
                for at, message in enumerate(messages)
                if message.role == "assistant"
            ]
        except HarnessError:
            return False
        if not all(whole.text.startswith(prompt.text) for prompt in prompts):
            return False
    return True


def _tools_for(messages: tuple[Message, ...]) -> tuple[Tool, ...]:
    return (_TOOL,) if any(message.tool_calls for message in messages) else ()


def _seen_of_kept(chat_format: Format) -> list[str]:
    """The findings on an unchanged foreign template, which only its owner can fix."""
    from harness.formats.kept.kept_facts import find_facts
    from harness.formats.kept.kept_probes import Prober

    where = chat_format.path or chat_format.id
    return find_facts(Prober(chat_format.template, where, chat_format.variables)).findings


def render_digest(chat_format: Format) -> str:
    """Sixteen hexadecimal digits over the renderings of probe conversations.

    They cover the text, its spans and stops; a refusal counts as a rendering too.
    """
    renderings: list[Any] = []
    probes = [(_TURNS, False), (_TURNS[:3], True), ((_SYSTEM, *_TURNS[:1]), True)]
    probes += [(_THOUGHT, False)] if chat_format.thinks else []
    probes += [((*_CALLING, _RESULT), True)] if chat_format.calls else []
    for messages, prompt in probes:
        try:
            rendered = _render(chat_format, messages, prompt=prompt)
            renderings.append([rendered.text, list(rendered.spans), list(rendered.stops)])
        except HarnessError:
            renderings.append(None)
    return hashlib.sha256(json.dumps(renderings).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _render(
    chat_format: Format,
    messages: tuple[Message, ...],
    *,
    prompt: bool = False,
    tools: tuple[Tool, ...] = (),
) -> Rendered:
    from harness.formats.render import render

    return render(
        Conversation("probe", messages, tools=tools or _tools_for(messages)),
        chat_format,
        add_generation_prompt=prompt,
        bos_token=_BOS,
        eos_token=_EOS,
    )


def _carries(chat_format: Format, messages: tuple[Message, ...]) -> bool:
    try:
        _render(chat_format, messages)
    except HarnessError:
        return False
    return True


def _prefix_stable(chat_format: Format, messages: tuple[Message, ...]) -> bool:
    """Whether later turns leave the earlier text unchanged, up to the end of the last answer."""
    early, whole = _render(chat_format, messages[:-2]), _render(chat_format, messages)
    words = max(span.end for span in early.spans if span.kind == "content")
    return whole.text.startswith(early.text[:words])


def _stop_trained(whole: Rendered) -> bool:
    """Whether each answer is followed by a trained stop."""
    answers = {span.message for span in whole.spans if span.trained and span.kind == "content"}
    ended = {span.message for span in whole.spans if span.trained and span.kind in ("stop", "eos")}
    return bool(answers) and answers == ended
