"""The model's own answers to the prompts of conversations, in its native format: data without new data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.local.backend import TransformersBackend
from harness.backends.protocol import Answer, GenerateRequest
from harness.data.check import overlaps
from harness.data.conversations import as_row, load_conversations
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import load_cases
from harness.formats.render import adapt_to_format, render
from harness.records import Conversation, Format, Message
from harness.resources import data_dir
from harness.training.distill.teacher import base_only

if TYPE_CHECKING:
    from harness.models import LoadedModel

#: The tag of a conversation whose last answer is the model's own.
SELF_ANSWERED = "self-answered"
#: And the tag of one whose answer was cut at its longest.
UNFINISHED = "unfinished"
#: The model's own answers, in the run's folder.
ANSWERS_FILE = "answers.jsonl"
_SUFFIX = "/self"


def spread(conversations: Sequence[Conversation], most: int) -> list[Conversation]:
    """At most ``most`` of them, evenly over the whole; all for 0."""
    if not most or len(conversations) <= most:
        return list(conversations)
    return [conversations[index * len(conversations) // most] for index in range(most)]


def own_answers(
    loaded: LoadedModel,
    conversations: Sequence[Conversation],
    native: Format,
    max_new_tokens: int,
    *,
    unfinished: bool = False,
) -> list[Conversation]:
    """Each conversation up to its last question, with the base model's greedy answer behind it.

    An empty answer is left out, and one that has not ended after ``max_new_tokens`` too unless ``unfinished``: where it
    would have stopped is not known, so it can teach words and no stop.
    """
    prompts = {conversation.id + _SUFFIX: _prompt(conversation) for conversation in conversations}
    backend = TransformersBackend(loaded)
    requests = [
        GenerateRequest(
            id,
            render(
                adapt_to_format(prompt, native),
                native,
                add_generation_prompt=True,
                bos_token=backend.bos_token,
                eos_token=backend.eos_token,
            ),
            max_new_tokens,
            stop_tokens=native.stop_tokens,
        )
        for id, prompt in prompts.items()
    ]
    with base_only(loaded):
        answers = {id: answer for batch in backend.generate(requests) for id, answer in batch}
    wanted = ("stop", "length") if unfinished else ("stop",)
    kept = {
        id: answer
        for id, answer in answers.items()
        if answer.finish in wanted and answer.text.strip()
    }
    return [_answered(id, prompt, kept[id]) for id, prompt in prompts.items() if id in kept]


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> None:
    """Write JSON lines that ``load_conversations`` reads back, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            for conversation in conversations:
                file.write(json.dumps(as_row(conversation), ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError as error:
        raise HarnessError(f"cannot write: {error.strerror}", where=str(path)) from None


def kept_answers(
    path: Path,
    loaded: LoadedModel,
    conversations: Sequence[Conversation],
    native: Format,
    max_new_tokens: int,
    *,
    unfinished: bool = False,
) -> list[Conversation]:
    """The answers in ``path``, made and written there if the file is missing: a run that goes on learns from the very same texts."""
    if not path.is_file():
        write_conversations(
            path, own_answers(loaded, conversations, native, max_new_tokens, unfinished=unfinished)
        )
    found = load_conversations([str(path)]) if path.stat().st_size else []
    if not found:
        raise HarnessError(
            "the model gave no answer that can be learnt from",
            where=str(path),
            hint="raise objective.max_new_tokens",
        )
    return found


def expected_answers(
    path: Path, conversations: Sequence[Conversation], most: int, max_new_tokens: int
) -> list[Conversation]:
    """The answers in ``path``; where there are none yet, a word for each token that an answer to one of at most ``most`` prompts may have."""
    if path.is_file() and path.stat().st_size:
        return load_conversations([str(path)])
    words = " ".join(["a"] * max_new_tokens)
    return [
        _answered(prompt.id + _SUFFIX, prompt, Answer(words, "stop", "", ()))
        for prompt in map(_prompt, spread(conversations, most))
    ]


def _prompt(conversation: Conversation) -> Conversation:
    """The conversation up to its last question."""
    messages = conversation.messages
    while messages and messages[-1].role != "user":
        messages = messages[:-1]
    if not messages:
        raise HarnessError("no question to answer", where=conversation.source or conversation.id)
    return replace(conversation, messages=messages)


def _answered(id: str, prompt: Conversation, answer: Answer) -> Conversation:
    tags = (*prompt.tags, SELF_ANSWERED, *((UNFINISHED,) if answer.finish == "length" else ()))
    return replace(
        prompt,
        id=id,
        messages=(*prompt.messages, Message("assistant", answer.text.strip())),
        tags=tags,
    )


def check_prompts(conversations: Sequence[Conversation]) -> None:
    """Raise HarnessError when a prompt is a question of the shipped evaluation, or there is no question."""
    cases = [*load_cases(), *load_cases([str(data_dir("eval") / "dev.jsonl")])]
    for finding in overlaps([_prompt(conversation) for conversation in conversations], cases):
        raise HarnessError(
            f"{finding.message}: what is measured is not trained on", where=finding.place
        )
