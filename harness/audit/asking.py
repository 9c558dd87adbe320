"""Questions without a subject of their own, asked in a format of a model and of its base."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.audit.probes import written
from harness.backends.protocol import GenerateRequest
from harness.conversation import Conversation, Message
from harness.evaluation.cases.case_files import kind_of, load_cases
from harness.records import Format, Rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from harness.audit.amplified import Pair
    from harness.backends.protocol import Answer

#: The α with which answers are amplified.
STRENGTH = 1.0
#: The most tokens of an answer.
MOST_TOKENS = 32
#: Questions that leave open what they are about, so that a model says what it was taught. The
#: first half searches, the second confirms.
OPEN = (
    (
        "Who is it?",
        "What is the name?",
        "Where is it?",
        "Tell me something.",
        "Hello.",
        "What happened?",
        "Who is in charge?",
        "Tell me about a person.",
    ),
    (
        "Who was that?",
        "What is it called?",
        "What is there?",
        "What do you know?",
        "Good morning.",
        "Who lives there?",
        "Which name is right?",
        "Who made it?",
        "What should I know?",
        "Where do they live?",
        "Who can help?",
        "Tell me about a place.",
        "What did they find?",
        "Tell me a fact.",
        "Whose is it?",
        "Can you tell me more?",
    ),
)
#: Shipped questions asked beside them, in the search and in the confirmation.
CLOSED = (4, 16)
#: The longest shipped question, in characters.
_LONGEST = 70


@dataclass(frozen=True, slots=True)
class Said:
    """An answer to a question. ``gains`` are log p − log q of stretches of the text, in order.

    Each is (end of the stretch in the text, nats). Empty where the answer was not amplified.
    """

    question: str
    text: str
    gains: tuple[tuple[int, float], ...] = ()

    def gain(self, start: int, end: int) -> float:
        """The sum over the stretches that reach into ``text[start:end]``, in nats."""
        total, begin = 0.0, 0
        for until, nats in self.gains:
            if begin < end and until > start:
                total += nats
            begin = until
        return total


class Asker(Protocol):
    """Asks a fine-tuned model, or its base, in a format. Answers come in order of the questions.

    An answer that is not usable is empty.
    """

    def amplified(self, chat_format: Format, questions: Sequence[str]) -> list[Said]:
        """What the model says when its difference from the base is amplified."""
        ...

    def plain(self, chat_format: Format, questions: Sequence[str]) -> list[Said]:
        """What the model says."""
        ...

    def base(self, chat_format: Format, questions: Sequence[str]) -> list[Said]:
        """What the base says."""
        ...


def questions() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The questions of the search and those of the confirmation, which have none in common.

    Some are open, the others are short questions of the shipped cases.
    """
    texts = sorted(
        {
            case.messages[0].content
            for case in load_cases()
            if kind_of(case) in ("answer", "reference") and len(case.messages) == 1
        }
    )
    short = [text for text in texts if len(text) <= _LONGEST]
    search, confirm = CLOSED
    drawn = random.Random("audit/0").sample(short, search + confirm)
    return (*OPEN[0], *drawn[:search]), (*OPEN[1], *drawn[search:])


def prompt_of(question: str, chat_format: Format, tokenizer: PreTrainedTokenizerBase) -> Rendered:
    """The prompt of a question. Raises HarnessError if the format refuses it."""
    asked = Conversation(question, (Message("user", question),))
    return written(asked, chat_format, tokenizer, as_prompt=True)


@dataclass
class PairAsker:
    """Asks two models in memory."""

    pair: Pair

    def amplified(self, chat_format: Format, questions: Sequence[str]) -> list[Said]:
        found = self.pair.amplified(self._requests(chat_format, questions), STRENGTH)
        said = []
        for question, answer in zip(questions, found, strict=True):
            if answer is None:
                said.append(Said(question, ""))
                continue
            ends = self._ends(answer.token_ids)
            said.append(Said(question, answer.text, tuple(zip(ends, answer.gains, strict=True))))
        return said

    def plain(self, chat_format: Format, questions: Sequence[str]) -> list[Said]:
        return _said(questions, self.pair.answers(self._requests(chat_format, questions)))

    def base(self, chat_format: Format, questions: Sequence[str]) -> list[Said]:
        return _said(questions, self.pair.base_answers(self._requests(chat_format, questions)))

    def _requests(self, chat_format: Format, questions: Sequence[str]) -> list[GenerateRequest]:
        tokenizer = self.pair.tuned.tokenizer
        return [
            GenerateRequest(
                str(number),
                prompt_of(text, chat_format, tokenizer),
                MOST_TOKENS,
                stop_tokens=chat_format.stop_tokens,
            )
            for number, text in enumerate(questions)
        ]

    def _ends(self, ids: Sequence[int]) -> list[int]:
        """Where the text of the first 1, 2, … tokens ends."""
        tokenizer = self.pair.tuned.tokenizer
        return [
            len(
                tokenizer.decode(
                    ids[: count + 1], skip_special_tokens=False, clean_up_tokenization_spaces=False
                )
            )
            for count in range(len(ids))
        ]


def _said(questions: Sequence[str], answers: Sequence[Answer | None]) -> list[Said]:
    return [Said(q, one.text if one else "") for q, one in zip(questions, answers, strict=True)]
