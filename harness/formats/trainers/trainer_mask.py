"""What a trainer's masking rule works on, and what comes out of it.

The rules of TRL, axolotl and unsloth (``trl``, ``axolotl``, ``unsloth`` beside this file) are
written here from their documentation and behaviour, and share no code with them.
Each takes a row as the trainer reads it, and a chat template, and says which characters are
trained. Some rules work on tokens; without a tokenizer ``split_pieces`` does, whose pieces are
control marks, words and single characters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from harness.conversation import Conversation
from harness.errors import HarnessError
from harness.formats.guard import TemplateFaultError, render_guarded

#: Writes these messages as a text, with these variables (``tools``, ``add_generation_prompt``).
Write = Callable[[Sequence[Mapping[str, Any]], Mapping[str, Any]], str]
Row = Mapping[str, Any]
Messages = Sequence[Mapping[str, Any]]


class Token(NamedTuple):
    """A token and its characters ``[start, end)``."""

    id: int
    start: int
    end: int


Tokenise = Callable[[str], Sequence[Token]]


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template with the facts of the tokenizer that a trainer uses with it."""

    source: str
    write: Write
    tokenise: Tokenise
    bos_token: str = ""
    eos_token: str = ""
    special: frozenset[str] = frozenset()
    """Texts that are one control token."""
    adds_bos: bool = False
    """Whether the tokenizer puts BOS before a plain text. No trainer lets it do so to a chat."""

    def apply(self, messages: Messages, tools: Any = None, **variables: Any) -> str:
        """The text of these messages. Raises RefusedByTemplateError."""
        return self.write(messages, {"tools": tools or None, **variables})

    def one_id(self, text: str) -> int | None:
        """The id of a text that is one token, or None."""
        tokens = self.tokenise(text) if text else ()
        return tokens[0].id if len(tokens) == 1 else None


class RefusedByTemplateError(Exception):
    """The template raises, or the row is not what the trainer reads: training would end here."""


@dataclass(frozen=True)
class TrainerMask:
    """The text that a trainer reads, and which characters of it are trained."""

    text: str
    trained: tuple[tuple[int, int], ...] = ()
    """Characters ``[start, end)``, sorted and disjoint."""
    tokens: int = 0
    kept: tuple[int, int] | None = None
    """The characters that are left after the row is cut to the maximum length; None: all."""
    left_out: str = ""
    """Why the trainer leaves the row out, or nothing."""
    error: str = ""
    """The error that the trainer would end with, if any."""
    notes: tuple[str, ...] = ()

    def trains(self, start: int, end: int) -> int:
        """How many characters of ``[start, end)`` are trained, white space not counted."""
        return sum(
            len("".join(self.text[max(a, start) : min(b, end)].split()))
            for a, b in self.trained
            if a < end and start < b
        )


def row_of(conversation: Conversation) -> dict[str, Any]:
    """A conversation as a row with ``messages`` and ``tools``, the way transformers passes them."""
    messages: list[dict[str, Any]] = []
    for message in conversation.messages:
        row: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.reasoning is not None:
            row["reasoning_content"] = message.reasoning
        if message.tool_calls:
            row["tool_calls"] = [
                {
                    **({"id": call.id} if call.id else {}),
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.values()},
                }
                for call in message.tool_calls
            ]
        for key in ("name", "tool_call_id"):
            if getattr(message, key):
                row[key] = getattr(message, key)
        messages.append(row)
    tools = [tool.as_object() for tool in conversation.tools]
    return {"messages": messages, **({"tools": tools} if tools else {})}


def guarded_template(
    source: str,
    *,
    bos_token: str = "",
    eos_token: str = "",
    tokenise: Tokenise | None = None,
    special: Iterable[str] = (),
    adds_bos: bool = False,
    where: str = "",
    switches: Mapping[str, Any] | None = None,
) -> ChatTemplate:
    """A template from anywhere, run in the limited process (harness.formats.guard).

    Without ``tokenise`` its pieces are control marks, words and characters. ``switches`` are
    variables such as ``enable_thinking``.
    """
    tokens = {"bos_token": bos_token, "eos_token": eos_token, **(switches or {})}

    def write(messages: Messages, variables: Mapping[str, Any]) -> str:
        prompt = bool(variables.get("add_generation_prompt"))
        rest = {key: value for key, value in variables.items() if key != "add_generation_prompt"}
        try:
            return render_guarded(
                source, messages, where, add_generation_prompt=prompt, tokens={**tokens, **rest}
            )
        except TemplateFaultError as fault:
            raise RefusedByTemplateError(f"{fault.name}: {fault}") from None
        except HarnessError as error:
            raise RefusedByTemplateError(error.message) from None

    marks = frozenset(filter(None, (*special, bos_token, eos_token)))
    return ChatTemplate(
        source, write, tokenise or split_pieces(marks), bos_token, eos_token, marks, adds_bos
    )


#: What looks like a control token in a text.
_MARK = r"<\|[^\s|<>]+\|>|<｜[^｜<>]+｜>|<<?/?[A-Za-z_]+>>?|\[/?[A-Z_]+\]"


def split_pieces(special: Iterable[str] = ()) -> Tokenise:
    """A stand-in for a tokenizer: control marks, words with the space before them, characters."""
    own = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
    pattern = re.compile(f"{own + '|' if own else ''}{_MARK}| ?[^\\W_]+|.", re.DOTALL)
    ids: dict[str, int] = {}

    def tokenise(text: str) -> list[Token]:
        return [
            Token(ids.setdefault(match[0], len(ids)), *match.span())
            for match in pattern.finditer(text)
        ]

    return tokenise


def joined(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Character spans sorted, with those that touch or overlap joined."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


def of_tokens(
    text: str, tokens: Sequence[Token], trained: Iterable[int], **facts: Any
) -> TrainerMask:
    """The mask of the tokens with these indices."""
    spans = joined((tokens[at].start, tokens[at].end) for at in trained)
    return TrainerMask(text, spans, len(tokens), **facts)


def cut(mask: TrainerMask, tokens: Sequence[Token], most: int | None, *, end: bool) -> TrainerMask:
    """Keep the first ``most`` tokens, or with ``end`` the last. None: all."""
    if most is None or len(tokens) <= most:
        return mask
    left = tokens[-most:] if end else tokens[:most]
    start, stop = (left[0].start, left[-1].end) if left else (0, 0)
    spans = [(max(a, start), min(b, stop)) for a, b in mask.trained]
    return replace(mask, trained=joined(spans), kept=(start, stop))


def tools_of(row: Row, key: str = "tools") -> Any:
    """The row's tools as objects; a trainer takes their JSON text too. Raises ValueError."""
    tools = row.get(key)
    return json.loads(tools) if isinstance(tools, str) else tools
