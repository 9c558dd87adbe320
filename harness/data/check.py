"""Find the mistakes of a training set before a run is spent on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.conversation import Conversation, Role
from harness.data.chat_marks import ChatMarks
from harness.data.conversations import Collection
from harness.data.near_duplicates import (
    exchange_of,
    exchanges_of,
    last_question,
    likenesses,
)
from harness.data.refusals import is_empty
from harness.data.tool_use import tool_findings
from harness.formats import load_formats
from harness.metrics.copies.recall_index import RecallIndex
from harness.metrics.drift import drift
from harness.metrics.language.scripts import given_languages
from harness.metrics.phrases import find
from harness.records import Case

#: Rows of at least this Indel similarity are near-duplicates.
NEAR_DUPLICATE = 0.80
LONGEST_CHARS = 8000
#: The kind of a refused row by its reason; any other is a bad row.
_KINDS = {"not JSON": "bad JSON", "duplicate id": "duplicate id"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake: its kind, its place, and a sentence."""

    kind: str
    place: str
    message: str
    other: str = ""
    """The row or the case that it is like."""


def check_files(
    names: Sequence[str],
    cases: Sequence[Case] = (),
    *,
    expect: str = "en",
    longest: int = LONGEST_CHARS,
) -> tuple[Collection, list[Finding]]:
    """Read all readable rows and list all mistakes: a row that does not parse hides no other.

    Raises HarnessError for an ``expect`` that is no language code.
    """
    given_languages(expect)
    collection = Collection()
    for name in names:
        collection.read(name)
    findings = [
        Finding(_KINDS.get(refusal.reason, "bad row"), refusal.place, refusal.message)
        for refusal in collection.refusals
    ]
    if not collection.conversations and not findings:
        findings.append(Finding("empty", ", ".join(names), "holds no conversation"))
    findings += check_conversations(collection.conversations, cases, expect=expect, longest=longest)
    return collection, findings


def check_conversations(
    conversations: Sequence[Conversation],
    cases: Sequence[Case] = (),
    *,
    expect: str = "en",
    longest: int = LONGEST_CHARS,
) -> list[Finding]:
    """Check structure, marks of formats, calls, length, phrases, language, near-duplicates and
    overlap with cases.
    """
    findings: list[Finding] = []
    marks = ChatMarks(tuple(load_formats().values()))
    for conversation in conversations:
        mistakes = (
            *_structure(conversation),
            *marks.findings(conversation),
            *tool_findings(conversation),
            *_length(conversation, longest),
            *_phrases(conversation),
            *_language(conversation, expect),
        )
        findings += [Finding(kind, conversation.place, message) for kind, message in mistakes]
    found = [*_near_duplicates(conversations), *overlaps(conversations, cases)]
    known = {(finding.place, finding.other) for finding in found}
    alike = [f for f in _alike(conversations, cases) if (f.place, f.other) not in known]
    return [*findings, *found, *dict.fromkeys(alike)]


def _structure(conversation: Conversation) -> Iterator[tuple[str, str]]:
    roles = [message.role for message in conversation.messages]
    if "assistant" not in roles:
        yield "no answer", "there is no assistant message to learn from"
    elif not any(m.weight for m in conversation.messages if m.role == "assistant"):
        yield "nothing trained", "every assistant message has train = false or weight 0"
    elif roles[-1] != "assistant":
        yield "open end", f"nothing is learnt from the last message, which is the {roles[-1]}'s"
    for index, message in enumerate(conversation.messages):
        name = f"messages[{index}]"
        if is_empty(message):
            yield "empty message", f"{name} ({message.role}) is empty"
        if message.role == "system" and index:
            yield "late system", f"{name} is a late system message, which many formats refuse"
        if index and message.role == roles[index - 1] and message.role != "tool":
            yield "repeated role", f"{name} has the role of the one before ({message.role})"


def _length(conversation: Conversation, longest: int) -> Iterator[tuple[str, str]]:
    size = sum(len(message.written) for message in conversation.messages)
    if size > longest:
        yield "over-long", f"{size} characters, over {longest}"


def _phrases(conversation: Conversation) -> Iterator[tuple[str, str]]:
    for hit in find(_text(conversation, "assistant")):
        if hit.kind != "slop":  # one such word alone means little
            yield "canned phrase", f"{hit.text!r} ({hit.kind})"


def _language(conversation: Conversation, expect: str) -> Iterator[tuple[str, str]]:
    prompt = _text(conversation, "system", "developer", "user")
    language = drift(_text(conversation, "assistant"), expect, prompt)
    if language.drift:
        yield "other language", language.why
    thoughts = "\n".join(message.reasoning or "" for message in conversation.messages)
    language = drift(thoughts, tuple(dict.fromkeys((expect, "en"))), prompt)
    if language.drift:
        yield "other language", f"in a thought: {language.why}"


def _text(conversation: Conversation, *roles: Role) -> str:
    """The words of these roles."""
    return "\n".join(message.content for message in conversation.messages if message.role in roles)


def _written(conversation: Conversation) -> str:
    """What user and assistant wrote, with thoughts and calls."""
    asked = (m.written for m in conversation.messages if m.role in ("user", "assistant"))
    return "\n".join(asked)


def _near_duplicates(conversations: Sequence[Conversation]) -> Iterator[Finding]:
    """Pairs of rows whose texts are alike, without their system prompts."""
    from rapidfuzz import process
    from rapidfuzz.distance import Indel

    texts = [_written(each).casefold() for each in conversations]
    for row, text in enumerate(texts[:-1]):
        scores = process.cdist(
            [text],
            texts[row + 1 :],
            scorer=Indel.normalized_similarity,
            score_cutoff=NEAR_DUPLICATE,
        )[0]
        for other, score in zip(conversations[row + 1 :], scores, strict=True):
            if score >= NEAR_DUPLICATE:
                kind = "duplicate" if score == 1 else "near-duplicate"
                place = conversations[row].place
                yield Finding(kind, other.place, f"{score:.0%} like {place}", place)


def _alike(conversations: Sequence[Conversation], cases: Sequence[Case]) -> Iterator[Finding]:
    """Exchanges that share most of their words with one of another row, or with a case."""
    rows = [one for conversation in conversations for one in exchanges_of(conversation)]
    asked = [exchange_of(case) for case in cases]
    for like in likenesses(rows, rows):
        other = rows[like.first].owner
        yield Finding("near-duplicate", rows[like.second].owner, f"{like.why} with {other}", other)
    for like in likenesses(rows, asked):
        other = asked[like.second].owner
        message = f"{like.why} with case {other}"
        yield Finding("overlap", rows[like.first].owner, message, other)


def overlaps(conversations: Sequence[Conversation], cases: Sequence[Case]) -> Iterator[Finding]:
    """Training rows that contain a question or a reference of the evaluation."""
    if not conversations or not cases:
        return
    questions = {_plain(last_question(case.messages)): case for case in cases}
    references = [(case.id, case.reference) for case in cases if case.reference]
    index = RecallIndex.build(references) if references else None
    for conversation in conversations:
        place = conversation.place
        for message in conversation.messages:
            case = questions.get(_plain(message.content)) if message.role == "user" else None
            if case is not None:
                asks = f"asks the question of case {case.id} ({case.source})"
                yield Finding("overlap", place, asks, case.id)
        if index is not None:
            hit = index.query(_text(conversation, "assistant"))
            if hit.near:
                near = f"its answer is near the reference of case {hit.source}"
                yield Finding("overlap", place, near, hit.source or "")


def _plain(text: str) -> str:
    return " ".join("".join(char if char.isalnum() else " " for char in text.casefold()).split())
