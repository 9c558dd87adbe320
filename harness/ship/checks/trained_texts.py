"""What was trained, as the prompts of inference: texts, ids, and what ends an answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.conversation import Conversation
from harness.errors import HarnessError
from harness.formats.adapt import adapt_to_format
from harness.formats.kept.kept_render import frozen_clock
from harness.formats.render import render
from harness.formats.tracing import FROZEN_NOW
from harness.records import Encoded, Format, Rendered
from harness.ship.checks.standard_shapes import standard_shapes
from harness.tokens.encode import bos_text, encode, eos_text, special_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_PROMPTS = 1000
"""The most prompts of the user's rows that are compared; the reason counts the rest."""


@dataclass(frozen=True, slots=True)
class TrainedPrompt:
    """The conversation before one trained answer, and what the model read there."""

    conversation: Conversation
    """Messages that end before the answer."""
    rendered: Rendered
    ids: tuple[int, ...]
    without_prompt: str
    """The same text without the generation prompt; "" if the format does not begin with it."""
    own: bool
    """Whether it is a row of the user, and not one of the standard shapes."""

    @property
    def where(self) -> str:
        """Its row and the number of the answer, for messages."""
        answers = sum(message.role == "assistant" for message in self.conversation.messages)
        return f"{self.conversation.place}, answer {answers + 1}"


@dataclass(frozen=True)
class TrainedTexts:
    """Everything that a runtime is compared with."""

    chat_format: Format
    tokenizer: PreTrainedTokenizerBase
    prompts: tuple[TrainedPrompt, ...]
    scope: str
    """What ``prompts`` are, in words."""
    longest: int
    """Tokens of the longest row with its answers, or of the longest prompt."""
    tails: tuple[str, ...]
    """The texts with which a trained answer ended, such as ``<|im_end|>``."""
    answered: frozenset[int]
    """The ids inside trained answers, their ends left out."""

    @property
    def bos(self) -> str:
        """The tokenizer's BOS, "" if it has none. The model may be trained without it."""
        return str(self.tokenizer.bos_token or "")

    @property
    def bos_written(self) -> str:
        """The BOS that was trained, "" if none."""
        return bos_text(self.tokenizer)

    @property
    def eos(self) -> str:
        return eos_text(self.tokenizer)

    @property
    def stops(self) -> tuple[str, ...]:
        """Every text that can end an answer: stops of the format, EOS, and the trained ends."""
        return tuple(dict.fromkeys([*self.chat_format.stops, self.eos, *self.tails]))

    def tokens_of(self, tail: str) -> dict[str, int]:
        """The control tokens in the end of an answer, with their ids."""
        known = [text for text in special_texts(self.tokenizer) if text and text in tail]
        return {text: int(self.tokenizer.convert_tokens_to_ids(text)) for text in known}

    @property
    def dated(self) -> bool:
        """Whether the template writes the date, so that a text changes from day to day."""
        template = self.chat_format.template
        return "strftime_now" in template or "date_string" in template


def trained_texts(
    chat_format: Format,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Iterable[Conversation] = (),
    *,
    most: int = MOST_PROMPTS,
) -> TrainedTexts:
    """The prompt before each answer of the rows and of the standard shapes.

    A row that the format refuses was not trained and is left out. Raises HarnessError where nothing
    is left, and for a tokenizer without EOS.
    """
    eos_text(tokenizer)  # raises
    rows = [(row, True) for row in conversations]
    shapes = [(shape, False) for shape in standard_shapes(chat_format)]
    prompts: list[TrainedPrompt] = []
    tails: dict[str, None] = {}
    answered: set[int] = set()
    longest = left_out = skipped = own = 0
    for row, is_own in [*rows, *shapes]:
        conversation = adapt_to_format(row, chat_format)
        try:
            whole = _render(conversation, chat_format, tokenizer)
        except HarnessError:
            skipped += is_own
            continue
        encoded = encode(whole, tokenizer)
        longest = max(longest, len(encoded.ids))
        tails.update(
            dict.fromkeys(_tails(whole, len(conversation.messages) - 1, chat_format.stops))
        )
        pairs = zip(_trained_ids(encoded), encoded.kinds, strict=True)
        answered.update(one for one, kind in pairs if kind not in ("stop", "eos"))
        for prompt in _prompts(conversation, chat_format, tokenizer, own=is_own):
            if is_own and own == most:
                left_out += 1
                continue
            own += is_own
            prompts.append(prompt)
    if not prompts:
        raise HarnessError(f"the format {chat_format.id} renders none of the rows")
    scope = f"{_count(len(prompts) - own, 'prompt')} of standard shapes"
    if rows:
        scope = f"{_count(own, 'prompt')} of {_count(len(rows) - skipped, 'row')} and {scope}"
    if skipped:
        scope += f"; left out: {_count(skipped, 'row')} that the format cannot render"
    if left_out:
        scope += f"; left out: {_count(left_out, 'more prompt')}"
    return TrainedTexts(
        chat_format, tokenizer, tuple(prompts), scope, longest, tuple(tails), frozenset(answered)
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _tails(whole: Rendered, last: int, stops: tuple[str, ...]) -> list[str]:
    """What ends each trained answer.

    An earlier answer may end differently from the last one, in a mark where no runtime may stop
    (``<|end|>`` in harmony): it counts if it holds a stop of the format.
    """
    found: dict[int, str] = {}
    for span in whole.spans:
        if span.trained and span.kind in ("stop", "eos"):
            text = whole.text[span.start : span.end]
            found[span.message] = found.get(span.message, "") + text
    return [
        tail
        for message, tail in found.items()
        if message == last or any(stop in tail for stop in stops)
    ]


def _trained_ids(encoded: Encoded) -> list[int]:
    return [one for one, flag in zip(encoded.ids, encoded.trained, strict=True) if flag]


def _prompts(
    conversation: Conversation,
    chat_format: Format,
    tokenizer: PreTrainedTokenizerBase,
    *,
    own: bool,
) -> Iterable[TrainedPrompt]:
    for at, message in enumerate(conversation.messages):
        if message.role != "assistant" or not at or not message.weight:
            continue
        before = replace(conversation, messages=conversation.messages[:at])
        name = message.name or conversation.assistant_name()
        try:
            rendered = _render(before, chat_format, tokenizer, prompt=True, name=name)
        except HarnessError:  # some owners refuse a prompt behind a call without its result
            continue
        try:
            plain = _render(before, chat_format, tokenizer, name=name).text
        except HarnessError:
            plain = ""
        plain = plain if rendered.text.startswith(plain) and plain != rendered.text else ""
        yield TrainedPrompt(before, rendered, encode(rendered, tokenizer).ids, plain, own)


def with_other_switch(trained: TrainedTexts, prompt: TrainedPrompt) -> Iterator[tuple[str, str]]:
    """The prompt with each other value of each switch: ``name=value`` and the text."""
    chat_format = trained.chat_format
    for name, values in chat_format.switches.items():
        for value in values:
            if value == chat_format.setting(name):
                continue
            other = replace(chat_format, variables={**chat_format.variables, name: value})
            try:
                text = _render(prompt.conversation, other, trained.tokenizer, prompt=True).text
            except HarnessError:
                continue
            yield f"{name}={json.dumps(value)}", text


def _render(
    conversation: Conversation,
    chat_format: Format,
    tokenizer: PreTrainedTokenizerBase,
    *,
    prompt: bool = False,
    name: str | None = None,
) -> Rendered:
    options: dict[str, Any] = {
        "bos_token": bos_text(tokenizer),
        "eos_token": eos_text(tokenizer),
        "assistant_name": name,
    }
    with frozen_clock(FROZEN_NOW):
        return render(conversation, chat_format, add_generation_prompt=prompt, **options)


def rows_of(
    conversation: Conversation, chat_format: Format, *, as_text: bool = False
) -> list[dict[str, Any]]:
    """The messages as a chat template gets them, in the form that this format expects.

    ``as_text``: arguments of calls are JSON texts, as in the API of a server.
    """
    kept = chat_format.kept
    rows = []
    for message in conversation.messages:
        words: Any = message.content
        if kept and kept.content == "parts":
            words = [{"type": "text", "text": words}]
        row: dict[str, Any] = {"role": message.role, "content": words}
        if message.name:
            row["name"] = message.name
        if message.reasoning and message.reasoning.strip() and chat_format.thinks:
            row["reasoning_content"] = message.reasoning
            if kept:
                row[kept.thought] = message.reasoning
        if message.tool_calls:
            texts = as_text or (kept is not None and kept.arguments == "text")
            row["tool_calls"] = [
                {
                    **({"id": call.id} if call.id else {}),
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": call.arguments if texts else json.loads(call.arguments),
                    },
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id:
            row["tool_call_id"] = message.tool_call_id
        rows.append(row)
    return rows


def tools_of(conversation: Conversation) -> list[dict[str, Any]] | None:
    """The tools as a chat template gets them; None if the conversation has none."""
    return [tool.as_object() for tool in conversation.tools] or None
