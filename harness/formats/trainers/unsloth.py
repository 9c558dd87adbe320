"""unsloth's ``train_on_responses_only``: which tokens its labels keep.

By documentation and behaviour of unsloth 2026.10 (docs.unsloth.ai): a row is a text. What comes
behind the marker ``response_part`` is trained, up to and with the EOS, or else up to the next
``instruction_part``, the next ``response_part``, the next BOS, or the next message that begins with
the control token that both markers begin with. Without markers it finds them in the chat template.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.formats.trainers.trainer_mask import (
    ChatTemplate,
    RefusedByTemplateError,
    Row,
    Token,
    TrainerMask,
    cut,
    of_tokens,
    tools_of,
)
from harness.formats.trainers.trl import messages_of
from harness.formats.turns import common_length


@dataclass(frozen=True)
class UnslothSettings:
    """The arguments of train_on_responses_only, and the trainer's maximum length."""

    instruction_part: str | None = None
    response_part: str | None = None
    last_response_only: bool = False
    mask_out_tokens: tuple[str, ...] = ()
    max_length: int | None = None
    dataset_text_field: str = "text"
    train_on_responses_only: bool = True
    """Whether the function is called; without the call every token is trained."""


def unsloth_mask(
    template: ChatTemplate, row: Row, settings: UnslothSettings | None = None
) -> TrainerMask:
    """What unsloth trains of a row. Nothing is raised: a refusal is the mask's error."""
    settings = settings or UnslothSettings()
    try:
        text = _text(template, row, settings)
        tokens = template.tokenise(text)
        if not settings.train_on_responses_only:
            mask = of_tokens(text, tokens, range(len(tokens)))
            return cut(mask, tokens, settings.max_length, end=False)
        # The row is cut first, and the markers are searched in what is left.
        left = tokens if settings.max_length is None else tokens[: settings.max_length]
        trained = _responses(template, left, settings)
    except (RefusedByTemplateError, ValueError) as refusal:
        return TrainerMask("", error=str(refusal))
    return cut(of_tokens(text, tokens, trained), tokens, settings.max_length, end=False)


def _text(template: ChatTemplate, row: Row, settings: UnslothSettings) -> str:
    text = row.get(settings.dataset_text_field)
    messages = messages_of(row)
    if isinstance(text, str) and messages is None:
        bos = template.bos_token if template.adds_bos else ""
        return text if not bos or text.startswith(bos) else bos + text
    if messages is None:
        raise ValueError(f"no column {settings.dataset_text_field} or messages")
    return template.apply(messages, tools_of(row))


def _responses(
    template: ChatTemplate, tokens: Sequence[Token], settings: UnslothSettings
) -> list[int]:
    """The indices of the trained tokens."""
    instruction, response = settings.instruction_part, settings.response_part
    if not instruction and not response:
        instruction, response = unsloth_markers(template)
    if not instruction or not response:
        raise ValueError("give both instruction_part and response_part, or neither")
    ask, answer = _Marker.of(instruction, template), _Marker.of(response, template)
    ask, answer = ask.unlike(answer), answer.unlike(ask)
    ids = [token.id for token in tokens]
    opener = _shared_opener(template, ask.core, answer.core)
    bos, eos = template.one_id(template.bos_token), template.one_id(template.eos_token)
    spans: list[tuple[int, int]] = []
    at = 0
    while at < len(ids):
        if not answer.at(ids, at):
            at += 1
            continue
        start = at = answer.end(ids, at)
        while at < len(ids):
            if ids[at] == eos:
                at += 1
                break
            boundary = ids[at] == bos or (opener and ids[at : at + len(opener)] == opener)
            if boundary or answer.at(ids, at):
                break
            if ask.at(ids, at):
                at = ask.begin(ids, at)
                break
            at += 1
        spans.append((start, at))
        if at < len(ids) and ask.at(ids, at):
            at = ask.end(ids, at)
    if settings.last_response_only:
        spans = spans[-1:]
    masked = _masked_out(template, ids, settings)
    return [at for start, end in spans for at in range(start, end) if at not in masked]


def _masked_out(
    template: ChatTemplate, ids: Sequence[int], settings: UnslothSettings
) -> frozenset[int]:
    found: set[int] = set()
    for text in settings.mask_out_tokens:
        wanted = [token.id for token in template.tokenise(text)]
        for at in range(len(ids)):
            if wanted and list(ids[at : at + len(wanted)]) == wanted:
                found.update(range(at, at + len(wanted)))
    return frozenset(found)


@dataclass(frozen=True)
class _Marker:
    """A marker's tokens: those that always stay the same, and those that may merge with words."""

    core: tuple[int, ...]
    left: tuple[int, ...] = ()
    right: tuple[int, ...] = ()

    @classmethod
    def of(cls, text: str, template: ChatTemplate) -> _Marker:
        """The marker's tokens. Raises ValueError for one without any."""
        tokens = template.tokenise(text)
        ids = tuple(token.id for token in tokens)
        if not ids:
            raise ValueError(f"the marker {text!r} has no tokens")
        first, past = _stable(text, ids, template)
        anchored = any(text[t.start : t.end] in template.special for t in tokens[first:past])
        if past <= first or not anchored:
            return cls(ids)
        return cls(ids[first:past], ids[:first], ids[past:])

    def unlike(self, other: _Marker) -> _Marker:
        """With its right edge, where the core alone would also match the other marker."""
        if self.core == other.core[: len(self.core)] and self.right:
            return _Marker(self.core + self.right, self.left)
        return self

    def at(self, ids: Sequence[int], at: int) -> bool:
        """Whether the core is there."""
        return tuple(ids[at : at + len(self.core)]) == self.core

    def begin(self, ids: Sequence[int], at: int) -> int:
        """Where it begins with its optional tokens."""
        for token in reversed(self.left):
            if at < 1 or ids[at - 1] != token:
                break
            at -= 1
        return at

    def end(self, ids: Sequence[int], at: int) -> int:
        """Where it ends with its optional tokens."""
        at += len(self.core)
        for token in self.right:
            if at >= len(ids) or ids[at] != token:
                break
            at += 1
        return at


#: Characters that a tokenizer might join to the edge of a marker.
_NEIGHBOURS = "\\{aA1(.<}>"


def _stable(text: str, ids: tuple[int, ...], template: ChatTemplate) -> tuple[int, int]:
    """The part of a marker's tokens that does not change beside other text."""
    first, past = 0, len(ids)
    for char in _NEIGHBOURS:
        behind = [token.id for token in template.tokenise(text + char)]
        before = [token.id for token in template.tokenise(char + text)]
        past = min(past, common_length(ids, behind))
        first = max(first, len(ids) - common_length(ids[::-1], before[::-1]))
    return first, past


def _shared_opener(
    template: ChatTemplate, ask: tuple[int, ...], answer: tuple[int, ...]
) -> list[int]:
    """The control tokens that both markers begin with; nothing where they are words."""
    shared = ask[: common_length(ask, answer)]
    special = {template.one_id(text) for text in template.special if text.strip()}
    return list(shared) if shared and set(shared) <= special else []


_ASKED, _ANSWERED = "\u2060QxprobeQ\u2060", "\u2060AxprobeA\u2060"


def unsloth_markers(template: ChatTemplate) -> tuple[str, str]:
    """instruction_part and response_part as they would be found in a template.

    The answer's marker is what the generation prompt adds; the question's is what comes between an
    answer and the next question, without what ends a turn. Raises ValueError where that fails.
    """
    question, answer = (
        {"role": "user", "content": _ASKED},
        {"role": "assistant", "content": _ANSWERED},
    )
    turns = [question, answer] * 3
    text = template.apply(turns)
    before_answer = _between(text, _ASKED, _ANSWERED)
    before_question = _between(text, _ANSWERED, _ASKED)
    plain = template.apply(turns[:-1])
    asked = template.apply(turns[:-1], add_generation_prompt=True)
    header = _added(template, asked.rpartition(_ASKED)[2], plain.rpartition(_ASKED)[2])
    if asked != plain and header and before_answer.endswith(header):
        end = before_answer[: len(before_answer) - len(header)]
        instruction, response = _without(before_question, end), header
        if not end:  # what ends a turn is part of both headers
            response = _added(template, header, before_question)
            instruction = before_question[len(header) - len(response) :]
            instruction = _without(instruction, " ", "\t", template.eos_token, template.bos_token)
    else:
        ends = (" ", "\t", template.eos_token, template.bos_token)
        instruction, response = _without(before_question, *ends), _without(before_answer, *ends)
    instruction, response = instruction.strip(" \t"), response.strip(" \t")
    return _occurring(template, instruction, text), _occurring(template, response, text)


def _between(text: str, left: str, right: str) -> str:
    """The most frequent text between the two."""
    found = [part.partition(right)[0] for part in text.split(left)[1:] if right in part]
    if not found:
        raise ValueError("the chat template does not show where questions and answers are")
    return Counter(found).most_common(1)[0][0]


def _added(template: ChatTemplate, asked: str, plain: str) -> str:
    """What a generation prompt adds behind control tokens and white space that both have."""
    same = common_length(asked, plain)
    cuts = [0]
    for token in template.tokenise(asked):
        piece = asked[token.start : token.end]
        if token.end > same or (piece.strip() and piece not in template.special):
            break
        cuts.append(token.end)
    return asked[cuts[-1] :]


def _without(text: str, *begins: str) -> str:
    """The text without these at its beginning, however often."""
    while found := next((begin for begin in begins if begin and text.startswith(begin)), ""):
        text = text[len(found) :]
    return text


def _occurring(template: ChatTemplate, marker: str, text: str) -> str:
    """The marker, or with white space before it, so that its tokens occur in the text."""
    ids = [token.id for token in template.tokenise(text)]
    counts = {}
    for candidate in (marker, " " + marker, "\n" + marker):
        wanted = [token.id for token in template.tokenise(candidate)] if marker else []
        counts[candidate] = sum(
            ids[at : at + len(wanted)] == wanted for at in range(len(ids)) if wanted
        )
    for least in (2, 1):
        for candidate, count in counts.items():
            if count >= least:
                return candidate
    raise ValueError("the chat template does not show its markers: give both parts")
