"""Native, seen and held-out: what a format is to a model."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats.guard import TemplateFaultError, render_guarded
from harness.formats.render import render
from harness.records import Format, Group
from harness.tokens.encode import bos_text, eos_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_EXAMPLES = (
    (Message("user", "first"),),
    (Message("system", "rules"), Message("user", "first")),
    (Message("user", "first"), Message("assistant", "second"), Message("user", "third")),
)


def native_format_id(tokenizer: PreTrainedTokenizerBase, formats: Iterable[Format]) -> str | None:
    """The id of the format that equals the tokenizer's chat template, or None.

    Both are compared on three example conversations. A template that does harm equals none, and is
    reported on standard error.
    """
    template = _default_template(tokenizer.chat_template)
    if not template:
        return None
    try:
        expected = [_by_template(tokenizer, template, messages) for messages in _EXAMPLES]
    except HarnessError as error:
        print(f"{error}; --native names the model's format", file=sys.stderr)
        return None
    return next(
        (
            fmt.id
            for fmt in formats
            if [_by_format(tokenizer, fmt, messages) for messages in _EXAMPLES] == expected
        ),
        None,
    )


def _default_template(template: Any) -> str:
    """The template that transformers takes: a tokenizer may have several by name."""
    chosen = template.get("default") if isinstance(template, dict) else template
    return chosen if isinstance(chosen, str) else ""


def _by_template(
    tokenizer: PreTrainedTokenizerBase, template: str, messages: Sequence[Message]
) -> str | None:
    tokens = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    rows = [{"role": m.role, "content": m.content} for m in messages]
    try:
        return render_guarded(
            template, rows, "the model's template", add_generation_prompt=True, tokens=tokens
        )
    except TemplateFaultError:
        return None


def _by_format(
    tokenizer: PreTrainedTokenizerBase, fmt: Format, messages: tuple[Message, ...]
) -> str | None:
    try:
        return render(
            Conversation("example", messages),
            fmt,
            add_generation_prompt=True,
            bos_token=bos_text(tokenizer),
            eos_token=eos_text(tokenizer),
        ).text
    except HarnessError:
        return None


def group_formats(
    formats: Sequence[Format], native: str | None, trained_families: Iterable[str]
) -> dict[str, Group]:
    """The group of each format. Held-out means: of a family in which nothing was trained.

    ``trained_families`` are those that the adapter was trained in; before a training they are those
    that it will be trained in, so that both runs have the same groups. Without a training every
    format but the native one is held-out.
    """
    families = set(trained_families)
    groups: dict[str, Group] = {
        fmt.id: "seen" if fmt.family in families else "held-out" for fmt in formats
    }
    return {**groups, **({native: "native"} if native in groups else {})}
