"""Native, seen and held-out: what a format is to a model."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats.guard import TemplateFaultError
from harness.formats.kept.keeping import keep_template
from harness.formats.kept.kept_probes import DATES
from harness.formats.kept.kept_render import frozen_clock, render_kept
from harness.formats.render import render
from harness.formats.tracing import FROZEN_NOW
from harness.records import Format, Group, KeptTemplate
from harness.tokens.encode import bos_text, eos_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: The id of a model's own template that equals no known format.
NATIVE = "native"
#: Tokens that a rendering gets for itself.
_SPAN_TOKENS = ("bos_token", "eos_token")
_EXAMPLES = (
    (Message("user", "first"),),
    (Message("system", "rules"), Message("user", "first")),
    (Message("user", "first"), Message("assistant", "second"), Message("user", "third")),
)


def native_format_id(tokenizer: PreTrainedTokenizerBase, formats: Iterable[Format]) -> str | None:
    """The id of the format that equals the tokenizer's chat template, or None.

    Both are compared on three example conversations. A template that writes the date of the day
    equals only a format that asks for it too. One that does harm equals none, and is reported on
    standard error.
    """
    template = _default_template(tokenizer.chat_template)
    if not template:
        return None
    try:
        expected, later = (_by_template(tokenizer, template, date) for date in DATES)
        now = _by_template(tokenizer, template, FROZEN_NOW)
    except HarnessError as error:
        print(f"{error}; --native names the model's format", file=sys.stderr)
        return None
    dated = expected != later
    return next(
        (
            fmt.id
            for fmt in formats
            if (not dated or "strftime_now" in fmt.template)
            and [_by_format(tokenizer, fmt, messages) for messages in _EXAMPLES] == now
        ),
        None,
    )


def native_format(tokenizer: PreTrainedTokenizerBase, formats: Iterable[Format]) -> Format | None:
    """The format that equals the tokenizer's chat template, or else the template kept as it is.

    The kept one is called ``native``. None without a template, and for one that cannot be kept;
    standard error says why.
    """
    known = {one.id: one for one in formats}
    found = native_format_id(tokenizer, known.values())
    if found is not None:
        return known[found]
    template = _default_template(tokenizer.chat_template)
    return kept_native(template, _tokens(tokenizer)) if template else None


def kept_native(template: str, tokens: Mapping[str, str] | None = None) -> Format | None:
    """A model's own template kept as it is, called ``native``; None where it cannot be kept.

    ``tokens`` are its tokenizer's special tokens by name. Standard error says why, or what is wrong
    with it.
    """
    tokens = tokens or {}
    named = {key: tokens[key] for key in tokens if key in template and key not in _SPAN_TOKENS}
    try:
        kept = keep_template(
            template,
            NATIVE,
            where="the model's chat template",
            origin="the model's own chat template",
            special_tokens=tuple(tokens.values()),
            variables=named,
        )
    except HarnessError as error:
        print(f"{error}; --native names the model's format", file=sys.stderr)
        return None
    for finding in kept.findings:
        print(f"{NATIVE}, the model's own template: {finding}", file=sys.stderr)
    return kept.format


def _default_template(template: Any) -> str:
    """The template that transformers takes: a tokenizer may have several by name."""
    chosen = template.get("default") if isinstance(template, dict) else template
    return chosen if isinstance(chosen, str) else ""


def _tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items()}


def _by_template(
    tokenizer: PreTrainedTokenizerBase, template: str, date: datetime
) -> list[str | None]:
    """The examples in the tokenizer's template on this date."""
    tokens = _tokens(tokenizer)
    chat_format = Format(
        NATIVE,
        NATIVE,
        template,
        (),
        "",
        variables={key: text for key, text in tokens.items() if key not in _SPAN_TOKENS},
        path="the model's template",
        kept=KeptTemplate(),
    )
    written: list[str | None] = []
    for messages in _EXAMPLES:
        try:
            with frozen_clock(date):
                done = render_kept(
                    chat_format,
                    messages,
                    add_generation_prompt=True,
                    bos_token=tokens.get("bos_token", ""),
                    eos_token=tokens.get("eos_token", ""),
                    plain=True,
                )
            written.append(done.text)
        except TemplateFaultError:
            written.append(None)
    return written


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
