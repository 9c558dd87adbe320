"""Depths as percents of a model's context window: how much other talk fits before a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.evaluation.cases.case_files import load_cases
from harness.evaluation.cases.variants import Filler, Variants, at_depth, filler_from
from harness.formats.adapt import adapt_to_format
from harness.formats.render import render
from harness.records import Case, Format
from harness.tokens.encode import bos_text, eos_text, prompt_ids

if TYPE_CHECKING:
    from harness.models import LoadedModel


def variants_of(
    variants: Variants,
    cases: Sequence[Case],
    formats: Sequence[Format],
    loaded: LoadedModel | None,
    max_new_tokens: int,
) -> list[Case]:
    """The variants of the cases, with talk made of the shipped cases' questions and answers.

    Raises HarnessError for percents of the window of a model that runs elsewhere, since only a
    model that is loaded here is known to have one.
    """
    if variants == Variants():
        return []
    filler = filler_from(load_cases(()))
    if variants.window_percents:
        if loaded is None:
            raise HarnessError(
                "the window of a model that runs elsewhere is not known",
                hint="give --depths in tokens",
            )
        depths = window_depths(
            variants.window_percents, cases, filler, formats, loaded, max_new_tokens
        )
        variants = replace(variants, depths=(*variants.depths, *depths))
    return variants.of(cases, filler)


def window_depths(
    percents: Sequence[int],
    cases: Sequence[Case],
    filler: Filler,
    formats: Sequence[Format],
    loaded: LoadedModel,
    max_new_tokens: int,
) -> tuple[int, ...]:
    """For each percent of the window, the depth at which the longest prompt just fits in it.

    The prompt leaves room for the answer. It is that of the longest case with checks, in the format
    that takes most tokens, so no other is cut off. Raises HarnessError for a percentage that not
    even the bare case fits in, and for a model whose configuration names no window.
    """
    checked = [case for case in cases if case.checks and not case.tools]
    if not percents or not checked:
        return ()
    window = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if not window:
        raise HarnessError(
            "the model's configuration names no context window",
            where=loaded.name,
            hint="give --depths in tokens",
        )
    longest = max(checked, key=lambda case: sum(len(message.content) for message in case.messages))
    able = [one for one in formats if _tokens(longest, 100, filler, one, loaded) is not None]
    if not able:
        raise HarnessError(
            f"no format can carry {longest.id} behind other talk",
            hint="leave --depths out, or choose other formats",
        )
    return tuple(
        _depth(percent, window * percent // 100 - max_new_tokens, longest, filler, able, loaded)
        for percent in percents
    )


def _depth(
    percent: int,
    room: int,
    case: Case,
    filler: Filler,
    formats: Sequence[Format],
    loaded: LoadedModel,
) -> int:
    """The largest depth at which the prompt has at most ``room`` tokens."""

    def tokens(depth: int, chat_format: Format) -> int:
        return _tokens(case, depth, filler, chat_format, loaded) or 0

    widest = max(formats, key=lambda one: tokens(max(1, room // 2), one))
    low, high = 0, max(1, 2 * room)
    while high - low > 8:
        middle = (low + high) // 2
        low, high = (middle, high) if tokens(middle, widest) <= room else (low, middle)
    while low > 0 and any(tokens(low, one) > room for one in formats):
        low -= max(1, low // 50)  # another format is the widest at this depth
    if low < 1:
        raise HarnessError(
            f"{percent} % of the window has no room for {case.id}",
            hint="ask for more of it, or for depths in tokens",
        )
    return low


def _tokens(
    case: Case, depth: int, filler: Filler, chat_format: Format, loaded: LoadedModel
) -> int | None:
    """Tokens of the prompt at that depth, or None where the format cannot carry it."""
    deep = at_depth(case, depth, filler)
    try:
        rendered = render(
            adapt_to_format(deep.conversation, chat_format),
            chat_format,
            add_generation_prompt=True,
            bos_token=bos_text(loaded.tokenizer),
            eos_token=eos_text(loaded.tokenizer),
            assistant_name=case.name,
        )
    except HarnessError:
        return None
    return len(prompt_ids(rendered, loaded.tokenizer))
