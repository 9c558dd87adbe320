"""Properties of a format, computed by rendering probe conversations and never typed by hand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.records import Format, Rendered

_TURNS = (
    Message("user", "first question"),
    Message("assistant", "first answer"),
    Message("user", "second question"),
    Message("assistant", "second answer"),
)
_SYSTEM = Message("system", "the rules")
_BOS, _EOS = "<s>", "</s>"
#: The finding for each property that every format should have.
_FAULTS = {
    "prompt_is_prefix": "The generation prompt is no prefix of the training text, so the model is "
    "asked in a form that it never learnt: mend the add_generation_prompt branch.",
    "no_trailing_space": "The generation prompt ends in a space, which most tokenizers would have "
    "joined to the answer's first word: move it into the generation block.",
    "stop_trained": "No stop is inside the generation block, so the model never learns to end: put "
    "the end-of-turn mark or eos_token before endgeneration.",
}


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
    findings = [sentence for name, sentence in _FAULTS.items() if not properties[name]]
    if not system and chat_format.system != "unsupported":
        findings.append(
            "A system prompt is refused, but the front matter says "
            f'system = "{chat_format.system}": write "unsupported" or mend the template.'
        )
    if whole.text.startswith(_BOS * 2):
        findings.append("The text begins with two BOS: write bos_token once.")
    return FormatReport(chat_format.id, properties, tuple(findings))


def render_digest(chat_format: Format) -> str:
    """Sixteen hexadecimal digits over the renderings of probe conversations.

    They cover the text, its spans and stops; a refusal counts as a rendering too.
    """
    renderings: list[Any] = []
    for messages, prompt in ((_TURNS, False), (_TURNS[:3], True), ((_SYSTEM, *_TURNS[:1]), True)):
        try:
            rendered = _render(chat_format, messages, prompt=prompt)
            renderings.append([rendered.text, list(rendered.spans), list(rendered.stops)])
        except HarnessError:
            renderings.append(None)
    return hashlib.sha256(json.dumps(renderings).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _render(
    chat_format: Format, messages: tuple[Message, ...], *, prompt: bool = False
) -> Rendered:
    from harness.formats.render import render

    return render(
        Conversation("probe", messages),
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
