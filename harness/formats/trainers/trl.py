"""TRL's SFTTrainer: which tokens its labels keep.

By documentation and behaviour of TRL 1.16: a conversation is
written by the chat template, and **every** token is trained, headers and questions too. With
``assistant_only_loss`` those inside ``{% generation %}`` are. A row of ``prompt`` and
``completion`` trains the completion unless ``completion_only_loss`` is false. A plain text gets the
EOS, and what the tokenizer adds by itself. Then the row is cut to ``max_length`` tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.formats.trainers.trainer_mask import (
    ChatTemplate,
    Messages,
    RefusedByTemplateError,
    Row,
    Token,
    TrainerMask,
    cut,
    of_tokens,
    tools_of,
)
from harness.formats.turns import common_length

#: Writes where a generation block begins and ends; removed from the text again.
_EDGE = "\ufdd3"
_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
NO_BLOCK = (
    "the template has no {% generation %} block: TRL takes its own copy of a template that it "
    "knows, and ends with an error for any other"
)


@dataclass(frozen=True)
class TrlSettings:
    """The settings of SFTConfig that decide what is trained, with its defaults."""

    assistant_only_loss: bool = False
    completion_only_loss: bool | None = None
    max_length: int | None = 1024
    truncation_mode: str = "keep_start"
    packing: bool = False
    packing_strategy: str = "bfd"
    dataset_text_field: str = "text"
    eos_token: str | None = None


def trl_mask(template: ChatTemplate, row: Row, settings: TrlSettings | None = None) -> TrainerMask:
    """What TRL's SFTTrainer trains of a row. Nothing is raised: a refusal is the mask's error."""
    settings = settings or TrlSettings()
    if settings.eos_token:
        template = replace(template, eos_token=settings.eos_token)
    try:
        mask = _whole(template, row, settings)
    except (RefusedByTemplateError, ValueError) as refusal:
        return TrainerMask("", error=str(refusal))
    if mask.error:
        return mask
    tokens = template.tokenise(mask.text)
    if settings.packing:
        return _packed(mask, tokens, settings)
    mask = cut(mask, tokens, settings.max_length, end=settings.truncation_mode == "keep_end")
    if mask.kept and not mask.trained:
        return replace(
            mask, left_out=f"nothing is left to train within {settings.max_length} tokens"
        )
    return mask


def _packed(mask: TrainerMask, tokens: Sequence[Token], settings: TrlSettings) -> TrainerMask:
    """``bfd`` truncates each row to the block; ``wrapped`` cuts anywhere, and the next row follows.

    Any other strategy splits a row over blocks, so that all of it is trained.
    """
    if settings.packing_strategy == "bfd":
        return cut(mask, tokens, settings.max_length, end=False)
    if settings.packing_strategy != "wrapped":
        return mask
    note = f"packing_strategy = wrapped: rows are cut into blocks of {settings.max_length} tokens"
    return replace(mask, notes=(*mask.notes, note))


def _whole(template: ChatTemplate, row: Row, settings: TrlSettings) -> TrainerMask:
    variables = dict(row.get("chat_template_kwargs") or {})
    if "prompt" in row and "completion" in row:
        return _completion(template, row, settings, variables)
    messages = messages_of(row)
    if messages is None:
        return _plain(template, row, settings)
    return _conversation(template, messages, row, settings, variables)


def messages_of(row: Row) -> Messages | None:
    """The row's conversation; ``conversations`` of from and value are converted, as TRL does."""
    messages = row.get("messages")
    if isinstance(messages, list) and messages:
        return messages
    turns = row.get("conversations")
    if not (isinstance(turns, list) and turns and isinstance(turns[0], Mapping)):
        return None
    if "role" in turns[0]:
        return turns
    names = {"human": "user", "gpt": "assistant", "system": "system"}
    return [
        {
            "role": names.get(str(turn.get("from")).lower(), turn.get("from")),
            "content": turn.get("value"),
        }
        for turn in turns
    ]


def _conversation(
    template: ChatTemplate,
    messages: Messages,
    row: Row,
    settings: TrlSettings,
    variables: dict[str, Any],
) -> TrainerMask:
    tools = tools_of(row)
    if not settings.assistant_only_loss:
        text = template.apply(messages, tools, **variables)
        return of_tokens(text, tokens := template.tokenise(text), range(len(tokens)))
    if not _GENERATION.search(template.source):
        text = template.apply(messages, tools, **variables)
        return TrainerMask(text, tokens=len(template.tokenise(text)), error=NO_BLOCK)
    text, blocks = _generated(template, messages, tools, variables)
    tokens = template.tokenise(text)
    inside = [
        at
        for at, token in enumerate(tokens)
        if any(token.start < end and start < token.end for start, end in blocks)
    ]
    mask = of_tokens(text, tokens, inside)
    return mask if inside else replace(mask, error="a row has no assistant tokens")


def _generated(
    template: ChatTemplate, messages: Messages, tools: Any, variables: dict[str, Any]
) -> tuple[str, list[tuple[int, int]]]:
    """The text, and the characters of its generation blocks."""
    pieces = template.apply(messages, tools, generation_mark=_EDGE, **variables).split(_EDGE)
    at, blocks = 0, []
    for index, piece in enumerate(pieces):
        if index % 2:
            blocks.append((at, at + len(piece)))
        at += len(piece)
    return "".join(pieces), blocks


def _completion(
    template: ChatTemplate, row: Row, settings: TrlSettings, variables: dict[str, Any]
) -> TrainerMask:
    """A prompt and its completion: the loss is on what differs from the prompt alone."""
    prompt, completion = row["prompt"], row["completion"]
    only = settings.completion_only_loss is not False
    if isinstance(prompt, list):
        tools = tools_of(row)
        asked = template.apply(prompt, tools, add_generation_prompt=True, **variables)
        mask = _conversation(template, [*prompt, *completion], row, settings, variables)
        text = mask.text
    else:
        end = "" if str(completion).endswith(template.eos_token) else template.eos_token
        bos = _added_bos(template)
        asked, text = bos + prompt, f"{bos}{prompt}{completion}{end}"
        mask = of_tokens(text, every := template.tokenise(text), range(len(every)))
    if mask.error or not only:
        return mask
    tokens, before = template.tokenise(text), template.tokenise(asked)
    same = common_length([token.id for token in tokens], [token.id for token in before])
    edge = tokens[same].start if same < len(tokens) else len(text)
    spans = tuple((max(start, edge), end) for start, end in mask.trained if end > edge)
    notes = mask.notes
    if same < len(before):
        lost = asked[before[same].start :]
        notes = (
            *notes,
            f"the prompt alone ends with {lost!r}, which the whole row does not have there",
        )
    return replace(mask, trained=spans, notes=notes)


def _plain(template: ChatTemplate, row: Row, settings: TrlSettings) -> TrainerMask:
    """A text as it is, with the BOS that the tokenizer adds before it, and EOS after it."""
    text = row.get(settings.dataset_text_field)
    if not isinstance(text, str):
        columns = ", ".join(sorted(map(str, row)))
        raise ValueError(
            f"no column messages, prompt or {settings.dataset_text_field} in {columns}"
        )
    if settings.assistant_only_loss:
        raise ValueError("assistant_only_loss needs conversations, and the row is a text")
    end = "" if text.endswith(template.eos_token) else template.eos_token
    whole = _added_bos(template) + text + end
    return of_tokens(whole, tokens := template.tokenise(whole), range(len(tokens)))


def _added_bos(template: ChatTemplate) -> str:
    return template.bos_token if template.adds_bos else ""
