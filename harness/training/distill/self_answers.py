"""The model's own answers to the prompts of conversations, in its native format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.local.backend import TransformersBackend
from harness.backends.protocol import Answer, GenerateRequest
from harness.conversation import Conversation, Message, ParsedAnswer
from harness.data.check import overlaps
from harness.data.conversations import as_row, load_conversations
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import load_cases, spread_evenly
from harness.files import write_text
from harness.formats.adapt import adapt_to_format
from harness.formats.parse import opened_by, parse_answer
from harness.formats.render import render
from harness.models.adapters import base_only
from harness.records import Finish, Format
from harness.resources import data_dir

if TYPE_CHECKING:
    from harness.models import LoadedModel

#: The tag of a conversation whose last answer is the model's own.
SELF_ANSWERED = "self-answered"
#: The tag of a conversation whose last answer was cut at its longest.
UNFINISHED = "unfinished"
#: The model's own answers, in the run's folder.
ANSWERS_FILE = "answers.jsonl"
_SUFFIX = "/self"


def spread_prompts(conversations: Sequence[Conversation], most: int) -> list[Conversation]:
    """At most ``most`` of the conversations, evenly over the whole. 0: all."""
    return spread_evenly(conversations, most or len(conversations))


def own_answers(
    loaded: LoadedModel,
    conversations: Sequence[Conversation],
    native: Format,
    max_new_tokens: int,
    *,
    unfinished: bool = False,
) -> list[Conversation]:
    """Each conversation up to its last question, followed by the base model's greedy answer.

    Its thought and calls are read back by the format's marks. An empty answer is left out, and one
    with a mark that does not close. So is one without an end after ``max_new_tokens``, unless
    ``unfinished``: its stop is unknown, so it can teach words but no stop.
    """
    prompts = {conversation.id + _SUFFIX: _prompt(conversation) for conversation in conversations}
    backend = TransformersBackend.steady(loaded)
    rendered = {
        key: render(
            adapt_to_format(prompt, native),
            native,
            add_generation_prompt=True,
            bos_token=backend.bos_token,
            eos_token=backend.eos_token,
        )
        for key, prompt in prompts.items()
    }
    requests = [
        GenerateRequest(key, prompt, max_new_tokens, stop_tokens=native.stop_tokens)
        for key, prompt in rendered.items()
    ]
    with base_only(loaded):
        answers = dict(pair for batch in backend.generate(requests) for pair in batch)
    finished = ("stop", "length") if unfinished else ("stop",)
    found = []
    for key, prompt in prompts.items():
        answer = answers.get(key)
        if not isinstance(answer, Answer) or answer.finish not in finished:
            continue
        opened = opened_by(rendered[key], native)
        parsed = parse_answer(answer.text, native, opened=opened, tools=prompt.tools)
        if (message := _message(parsed)) is not None:
            found.append(_answered(key, prompt, message, answer.finish))
    return found


def _message(answer: ParsedAnswer) -> Message | None:
    """The answer as a message; None for an empty one, and one whose marks do not close."""
    if answer.malformed or answer.unclosed:
        return None
    words, calls = answer.content.strip(), answer.tool_calls
    if not words and not calls:
        return None
    return Message("assistant", words, reasoning=answer.reasoning, tool_calls=calls)


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> None:
    """Write JSON lines that ``load_conversations`` reads back. Raises as ``write_text``."""
    rows = (json.dumps(as_row(conversation), ensure_ascii=False) for conversation in conversations)
    write_text(path, "".join(row + "\n" for row in rows))


def recorded_answers(
    path: Path,
    loaded: LoadedModel,
    conversations: Sequence[Conversation],
    native: Format,
    max_new_tokens: int,
    *,
    unfinished: bool = False,
) -> list[Conversation]:
    """The answers in ``path``; they are made and written there first if the file is missing.

    So a resumed run learns from exactly the same texts.
    """
    if not path.is_file():
        write_conversations(
            path, own_answers(loaded, conversations, native, max_new_tokens, unfinished=unfinished)
        )
    answers = load_conversations([str(path)]) if path.stat().st_size else []
    if not answers:
        raise HarnessError(
            "the model gave no answer that can be learnt from",
            where=str(path),
            hint="raise objective.max_new_tokens",
        )
    return answers


def expected_answers(
    path: Path, conversations: Sequence[Conversation], most: int, max_new_tokens: int
) -> list[Conversation]:
    """The answers in ``path``; if there are none yet, a word for each token that one may have."""
    if path.is_file() and path.stat().st_size:
        return load_conversations([str(path)])
    words = " ".join(["a"] * max_new_tokens)
    return [
        _answered(prompt.id + _SUFFIX, prompt, Message("assistant", words), "stop")
        for prompt in map(_prompt, spread_prompts(conversations, most))
    ]


def _prompt(conversation: Conversation) -> Conversation:
    """The conversation up to its last question."""
    messages = conversation.messages
    while messages and messages[-1].role != "user":
        messages = messages[:-1]
    if not messages:
        raise HarnessError("no question to answer", where=conversation.place)
    return replace(conversation, messages=messages)


def _answered(key: str, prompt: Conversation, answer: Message, finish: Finish) -> Conversation:
    tags = (*prompt.tags, SELF_ANSWERED, *((UNFINISHED,) if finish == "length" else ()))
    return replace(prompt, id=key, messages=(*prompt.messages, answer), tags=tags)


def check_prompts(conversations: Sequence[Conversation]) -> None:
    """Raise HarnessError for a prompt without a question, or with one of the evaluation's."""
    cases = [*load_cases(), *load_cases([str(data_dir("eval") / "dev.jsonl")])]
    for finding in overlaps([_prompt(conversation) for conversation in conversations], cases):
        raise HarnessError(
            f"{finding.message}: evaluation questions cannot be trained on", where=finding.place
        )
