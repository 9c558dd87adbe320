"""Verify the loss mask of a kept template by rendering probe conversations again.

- Tracing does not change the text.
- If the words of an answer are replaced, only those characters change, and they are trained.
- The prompt equals the text before the answer, unless a finding says otherwise.
- Nothing trained belongs to another message, and no literal text in an answer holds the mark that
  opens a question.
- Each answer has its stop, unless a fault says that there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.conversation import Message
from harness.formats.kept.kept_facts import Facts
from harness.formats.kept.kept_pieces import MARK, Answer
from harness.formats.kept.kept_probes import (
    A1,
    A2,
    CALL,
    RESULT,
    SYSTEM,
    T1,
    T2,
    U1,
    U2,
    Prober,
    carries,
)
from harness.formats.kept.kept_render import KeptRendering

_OTHER = "words of another answer, and more of them"
_HOSTILE = "two\nlines, {{ braces }}, 'quotes', \\ and <tags> — naïve 漢字"
_TWO_CALLS = replace(
    CALL, tool_calls=(*CALL.tool_calls, replace(CALL.tool_calls[0], id="call67890"))
)
_RESULTS = (RESULT, replace(RESULT, content="another result", tool_call_id="call67890"))


@dataclass(frozen=True)
class Proof:
    """The shapes of conversation on which the mask was proved, and why it was not on others.

    ``refused`` are shapes that the template refuses or whose words it changes.
    """

    proved: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


#: Name → messages, and whether they come with tools.
SHAPES: dict[str, tuple[tuple[Message, ...], bool]] = {
    "one exchange": ((U1, A1), False),
    "two exchanges": ((U1, A1, U2, A2), False),
    "three exchanges": ((U1, A1, U2, A2, replace(U1, content="third"), A1), False),
    "a system prompt": ((SYSTEM, U1, A1, U2, A2), False),
    "hostile words": (
        (replace(U1, content=_HOSTILE), replace(A1, content=_HOSTILE), U2, A2),
        False,
    ),
    "outer white space": (
        (replace(U1, content=" \n a question "), replace(A1, content="\n an answer \n"), U2, A2),
        False,
    ),
    "two questions in a row": ((U1, U2, A1), False),
    "two answers in a row": ((U1, A1, A2), False),
    "thoughts": ((U1, T1, U2, T2), False),
    "a thought alone": ((U1, replace(T1, content="")), False),
    "a call": ((U1, CALL, RESULT, A2), True),
    "a call with words": ((U1, replace(CALL, content="let me see"), RESULT, A2, U2, A1), True),
    "two calls": ((U1, _TWO_CALLS, *_RESULTS, A2), True),
    "a thought and a call": ((U1, replace(CALL, reasoning="why"), RESULT, T2), True),
    "a call at the end": ((U1, CALL), True),
}


def prove(prober: Prober, facts: Facts) -> Proof:
    """Check the mask on each shape that the template supports."""
    proved, refused, wrong = [], [], []
    for name, (messages, tools) in SHAPES.items():
        if not _has_place(facts, messages, tools):
            continue
        rendering = prober.render(*messages, tools=tools)
        if rendering is None or not carries(rendering, messages):
            reason = "its words are not kept" if rendering else prober.reason
            refused.append(f"{name}: {reason}")
        elif fault := next(_faults(prober, facts, rendering, messages, tools), ""):
            wrong.append(f"{name}: {fault}")
        else:
            proved.append(name)
    return Proof(tuple(proved), tuple(refused), tuple(wrong))


def _has_place(facts: Facts, messages: Sequence[Message], tools: bool) -> bool:
    if tools and facts.tools == "none":
        return False
    if any(message.reasoning for message in messages) and facts.reasoning == "none":
        return False
    return messages[0].role != "system" or facts.system != "unsupported"


def _faults(
    prober: Prober,
    facts: Facts,
    rendering: KeptRendering,
    messages: Sequence[Message],
    tools: bool,
) -> Iterator[str]:
    plain = prober.render(*messages, plain=True, tools=tools)
    if plain is None or plain.text != rendering.text:
        yield "the text differs from that of transformers"
    answers = {answer.message: answer for answer in rendering.answers}
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        if index not in answers:
            yield f"answer {index} is not found"
            return
        yield from _of_words(prober, rendering, messages, index, answers[index], tools)
        yield from _of_prompt(prober, rendering, messages[:index], answers[index], tools)
        yield from _of_header(facts, rendering, answers[index])
        if answers[index].stop == answers[index].end and not answers[index].faults:
            yield f"answer {index} has no stop"
    yield from _of_spans(facts, rendering, messages)


def _of_words(
    prober: Prober,
    rendering: KeptRendering,
    messages: Sequence[Message],
    index: int,
    answer: Answer,
    tools: bool,
) -> Iterator[str]:
    """Replacing the words of one answer changes nothing else."""
    words = messages[index].content.strip()
    if not words:
        return
    changed = replace(messages[index], content=messages[index].content.replace(words, _OTHER))
    other = prober.render(
        *messages[:index], changed, *messages[index + 1 :], plain=True, tools=tools
    )
    trained = rendering.text[answer.start : answer.end]
    wanted = (
        rendering.text[: answer.start]
        + trained.replace(words, _OTHER)
        + rendering.text[answer.end :]
    )
    if other is None or trained.count(words) != 1 or other.text != wanted:
        yield f"other words in answer {index} change more than its trained text"


def _of_prompt(
    prober: Prober,
    rendering: KeptRendering,
    before: Sequence[Message],
    answer: Answer,
    tools: bool,
) -> Iterator[str]:
    """The prompt is the text before the answer."""
    prompt = prober.render(*before, prompt=True, plain=True, tools=tools) if before else None
    if prompt is None or {"earlier turns change", "prompt differs"} & set(answer.faults):
        return
    same = rendering.text.startswith(prompt.text)
    if not same or (
        answer.start != len(prompt.text) and "header not in the prompt" not in answer.faults
    ):
        yield f"answer {answer.message} does not begin where the prompt ends"


def _of_header(facts: Facts, rendering: KeptRendering, answer: Answer) -> Iterator[str]:
    """The header of an answer is outside its trained text."""
    header = _without_thought(facts.roles.get("assistant", ""))
    ahead = _without_thought(rendering.text[: answer.start])
    begins = rendering.text[answer.start :].lstrip()
    words = re.split(r"\W+", header)[-1] if header else ""
    if header and not ahead.endswith(header) and words and begins.startswith(words):
        yield f"the header of answer {answer.message} is trained"


def _without_thought(text: str) -> str:
    return re.sub(r"(?:\s*[<\[][^<>\[\]]*think[^<>\[\]]*[>\]])*\s*$", "", text, flags=re.IGNORECASE)


def _of_spans(facts: Facts, rendering: KeptRendering, messages: Sequence[Message]) -> Iterator[str]:
    opens = MARK.search(facts.roles.get("user", ""))
    stops = {*facts.stops}
    for span in rendering.spans:
        text = rendering.text[span.start : span.end]
        is_answer = span.message >= 0 and messages[span.message].role == "assistant"
        if span.kind in ("content", "reasoning") and span.trained != is_answer:
            yield f"{text!r} is {'trained' if span.trained else 'not trained'}"
        is_literal = span.trained and span.kind in ("glue", "stop", "eos")
        if is_literal and opens and opens[0] in text and opens[0] not in stops:
            yield f"{text!r} is trained and opens a question"
