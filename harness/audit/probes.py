"""Short questions, written in every format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.evaluation.cases.case_files import kind_of, load_cases
from harness.formats.adapt import adapt_to_format
from harness.formats.render import render
from harness.records import Case, Format, Rendered
from harness.tokens.encode import bos_text, eos_text, prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from harness.conversation import Conversation

#: Questions asked in each format.
QUESTIONS = 3


@dataclass(frozen=True, slots=True)
class AskedFormats:
    """Formats that write the same prompts, and these prompts as token ids."""

    formats: tuple[str, ...]
    family: str
    prompts: tuple[tuple[int, ...], ...]


def ask_in(
    formats: Sequence[Format], tokenizer: PreTrainedTokenizerBase, native: str | None = None
) -> list[AskedFormats]:
    """The questions in all formats that write something after a question.

    ``native`` comes first among formats that write the same prompts. Raises HarnessError if no
    format can write the questions.
    """
    questions = shortest_references(QUESTIONS)
    alike: dict[tuple[tuple[int, ...], ...], list[Format]] = {}
    for one in sorted(formats, key=lambda one: one.id != native):
        if prompts := _prompts(one, questions, tokenizer):
            alike.setdefault(prompts, []).append(one)
    found = [
        AskedFormats(tuple(one.id for one in some), some[0].family, prompts)
        for prompts, some in alike.items()
    ]
    if not found:
        raise HarnessError("no format can write the questions")
    return found


def shortest_references(count: int) -> list[Case]:
    """The shortest shipped questions that have a reference."""
    cases = [case for case in load_cases() if kind_of(case) == "reference"]
    alone = [case for case in cases if len(case.messages) == 1]
    return sorted(alone, key=lambda case: (len(case.messages[0].content), case.id))[:count]


def written(
    conversation: Conversation,
    chat_format: Format,
    tokenizer: PreTrainedTokenizerBase,
    *,
    as_prompt: bool,
) -> Rendered:
    """The text of a conversation; ``as_prompt`` ends it where an answer begins.

    Raises HarnessError if the format refuses it.
    """
    return render(
        adapt_to_format(conversation, chat_format),
        chat_format,
        add_generation_prompt=as_prompt,
        bos_token=bos_text(tokenizer),
        eos_token=eos_text(tokenizer),
    )


def _prompts(
    chat_format: Format, questions: Sequence[Case], tokenizer: PreTrainedTokenizerBase
) -> tuple[tuple[int, ...], ...]:
    """The prompts up to the answer; none if the format refuses one, or writes nothing after it."""
    found = []
    for question in questions:
        try:
            rendered = written(question.conversation, chat_format, tokenizer, as_prompt=True)
        except HarnessError:
            return ()
        if rendered.spans[-1].kind == "content":
            return ()
        found.append(tuple(prompt_ids(rendered, tokenizer)))
    return tuple(found)
