"""Native, seen and held-out: what a format is to a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.formats.render import render
from harness.records import Conversation, Format, Group, Message
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

    Both are compared on three example conversations.
    """
    if not tokenizer.chat_template:
        return None
    expected = [_by_template(tokenizer, messages) for messages in _EXAMPLES]
    return next(
        (
            fmt.id
            for fmt in formats
            if [_by_format(tokenizer, fmt, messages) for messages in _EXAMPLES] == expected
        ),
        None,
    )


def _by_template(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> str | None:
    from jinja2 import TemplateError

    try:
        return str(
            tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in messages],
                tokenize=False,
                add_generation_prompt=True,
            )
        )
    except (TemplateError, TypeError):
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
