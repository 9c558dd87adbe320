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

_PROBES = (
    (Message("user", "first"),),
    (Message("system", "rules"), Message("user", "first")),
    (Message("user", "first"), Message("assistant", "second"), Message("user", "third")),
)


def native_format(tokenizer: PreTrainedTokenizerBase, formats: Iterable[Format]) -> Format | None:
    """The format that renders three probe conversations exactly as the model's own chat template does, or None."""
    if not tokenizer.chat_template:
        return None
    expected = [_own(tokenizer, probe) for probe in _PROBES]
    return next(
        (
            format
            for format in formats
            if [_ours(tokenizer, format, probe) for probe in _PROBES] == expected
        ),
        None,
    )


def _own(tokenizer: PreTrainedTokenizerBase, messages: tuple[Message, ...]) -> str | None:
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


def _ours(
    tokenizer: PreTrainedTokenizerBase, format: Format, messages: tuple[Message, ...]
) -> str | None:
    try:
        return render(
            Conversation("probe", messages),
            format,
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

    ``trained_families`` are those that the adapter was trained in; before any training they are those that it
    will be trained in, so that both runs group alike. Without training everything but native is held-out.
    """
    families = set(trained_families)
    return {
        format.id: "native"
        if format.id == native
        else "seen"
        if format.family in families
        else "held-out"
        for format in formats
    }
