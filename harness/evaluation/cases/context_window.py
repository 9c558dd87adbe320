"""Variants of the cases for one model: how much other talk fits in its window before a question, in every format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.evaluation.cases.case_files import load_cases
from harness.evaluation.cases.variants import Filler, Variants, at_depth, filler_of
from harness.formats.render import adapt_to_format, render
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
    """The variants of the cases, with the shares of the window read as depths. The talk is made of the shipped cases' questions and answers.

    Raises HarnessError for shares of the window of a model that runs on a server or a cluster, which is not known here.
    """
    if variants == Variants():
        return []
    filler = filler_of(load_cases(()))
    if variants.shares and loaded is None:
        raise HarnessError(
            "the window of a model that runs elsewhere is not known", hint="give --depths in tokens"
        )
    if loaded is not None:
        variants = replace(
            variants,
            depths=(
                *variants.depths,
                *window_depths(variants.shares, cases, filler, formats, loaded, max_new_tokens),
            ),
        )
    return variants.of(cases, filler)


def window_depths(
    shares: Sequence[int],
    cases: Sequence[Case],
    filler: Filler,
    formats: Sequence[Format],
    loaded: LoadedModel,
    max_new_tokens: int,
) -> tuple[int, ...]:
    """For each percent of the model's window the depth at which its longest prompt, with room for the answer, just fits in it.

    The prompt is that of the longest case with checks in the format that takes most tokens, so no other is cut off. Raises
    HarnessError for a share that not even the bare case fits in, and for a model that does not tell its window.
    """
    asked = [case for case in cases if case.checks]
    if not shares or not asked:
        return ()
    window = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if not window:
        raise HarnessError(
            "the model does not tell its window", where=loaded.name, hint="give --depths in tokens"
        )
    longest = max(asked, key=lambda case: sum(len(message.content) for message in case.messages))
    carrying = [
        format for format in formats if _tokens(longest, 100, filler, format, loaded) is not None
    ]
    if not carrying:
        raise HarnessError(
            f"no format can carry {longest.id} behind other talk",
            hint="leave --depths out, or choose other formats",
        )
    return tuple(
        _depth(share, window * share // 100 - max_new_tokens, longest, filler, carrying, loaded)
        for share in shares
    )


def _depth(
    share: int,
    room: int,
    case: Case,
    filler: Filler,
    formats: Sequence[Format],
    loaded: LoadedModel,
) -> int:
    """The deepest place at which the prompt has at most ``room`` tokens."""
    widest = max(
        formats, key=lambda format: _tokens(case, max(1, room // 2), filler, format, loaded) or 0
    )
    low, high = 0, max(1, 2 * room)
    while high - low > 8:
        middle = (low + high) // 2
        low, high = (
            (middle, high)
            if (_tokens(case, middle, filler, widest, loaded) or 0) <= room
            else (low, middle)
        )
    while low > 0 and any(
        (_tokens(case, low, filler, format, loaded) or 0) > room for format in formats
    ):
        low -= max(1, low // 50)  # another format is the widest at this depth
    if low < 1:
        raise HarnessError(
            f"{share} % of the window has no room for {case.id}",
            hint="ask for more of it, or for depths in tokens",
        )
    return low


def _tokens(
    case: Case, tokens: int, filler: Filler, format: Format, loaded: LoadedModel
) -> int | None:
    """Tokens of the prompt at that depth, or None where the format cannot carry it."""
    made = at_depth(case, tokens, filler)
    try:
        rendered = render(
            adapt_to_format(made.conversation, format),
            format,
            add_generation_prompt=True,
            bos_token=bos_text(loaded.tokenizer),
            eos_token=eos_text(loaded.tokenizer),
            assistant_name=case.name,
        )
    except HarnessError:
        return None
    return len(prompt_ids(rendered, loaded.tokenizer))
