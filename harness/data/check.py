"""Find the mistakes of a training set before a run is spent on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness.data.conversations import Collection
from harness.metrics.copies.recall_index import RecallIndex
from harness.metrics.drift import drift
from harness.metrics.phrases import find
from harness.records import Case, Conversation

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


def check_files(
    names: Iterable[str],
    cases: Sequence[Case] = (),
    *,
    expect: str = "en",
    longest: int = LONGEST_CHARS,
) -> tuple[list[Conversation], list[Finding]]:
    """Read all readable rows and list all mistakes: a row that does not parse hides no other."""
    collection = Collection()
    for name in names:
        collection.read(name)
    findings = [
        Finding(_KINDS.get(refusal.reason, "bad row"), refusal.place, refusal.message)
        for refusal in collection.refusals
    ]
    findings += check_conversations(collection.conversations, cases, expect=expect, longest=longest)
    return collection.conversations, findings


def check_conversations(
    conversations: Sequence[Conversation],
    cases: Sequence[Case] = (),
    *,
    expect: str = "en",
    longest: int = LONGEST_CHARS,
) -> list[Finding]:
    """Check structure, length, phrases, language, near-duplicates and overlap with cases."""
    findings: list[Finding] = []
    row_checks: tuple[Callable[[Conversation], Iterable[Finding]], ...] = (
        _structure,
        lambda c: _length(c, longest),
        _phrases,
        lambda c: _language(c, expect),
    )
    for conversation in conversations:
        for check in row_checks:
            findings += check(conversation)
    findings += _near_duplicates(conversations)
    findings += overlaps(conversations, cases)
    return findings


def _structure(conversation: Conversation) -> Iterable[Finding]:
    place = conversation.source or conversation.id
    roles = [message.role for message in conversation.messages]
    if "assistant" not in roles:
        yield Finding("no answer", place, "there is no assistant message to learn from")
    elif roles[-1] != "assistant":
        yield Finding(
            "open end",
            place,
            f"nothing is learnt from the last message, which is the {roles[-1]}'s",
        )
    for index, message in enumerate(conversation.messages):
        if not message.content.strip():
            yield Finding("empty message", place, f"messages[{index}] ({message.role}) is empty")
        if message.role == "system" and index:
            yield Finding(
                "late system",
                place,
                f"messages[{index}] is a system message in the middle; many formats refuse it",
            )
        if index and message.role == roles[index - 1]:
            yield Finding(
                "repeated role",
                place,
                f"messages[{index}] has the same role as the one before ({message.role})",
            )


def _length(conversation: Conversation, longest: int) -> Iterable[Finding]:
    size = sum(len(message.content) for message in conversation.messages)
    if size > longest:
        yield Finding(
            "over-long",
            conversation.source or conversation.id,
            f"{size} characters, over {longest}",
        )


def _answers(conversation: Conversation) -> str:
    return "\n".join(
        message.content for message in conversation.messages if message.role == "assistant"
    )


def _phrases(conversation: Conversation) -> Iterable[Finding]:
    for hit in find(_answers(conversation)):
        if hit.kind != "slop":  # one such word alone means little
            yield Finding(
                "canned phrase",
                conversation.source or conversation.id,
                f"{hit.text!r} ({hit.kind})",
            )


def _language(conversation: Conversation, expect: str) -> Iterable[Finding]:
    prompt = "\n".join(
        message.content for message in conversation.messages if message.role != "assistant"
    )
    language = drift(_answers(conversation), (expect,), prompt)
    if language.drift:
        yield Finding("other language", conversation.source or conversation.id, language.why)


def _near_duplicates(conversations: Sequence[Conversation]) -> Iterable[Finding]:
    """Pairs of rows whose texts are alike, without their system prompts."""
    from rapidfuzz import process
    from rapidfuzz.distance import Indel

    texts = [
        "\n".join(m.content for m in c.messages if m.role != "system").casefold()
        for c in conversations
    ]
    if len(texts) < 2:
        return
    for row, text in enumerate(texts[:-1]):
        scores = process.cdist(
            [text],
            texts[row + 1 :],
            scorer=Indel.normalized_similarity,
            score_cutoff=NEAR_DUPLICATE,
        )[0]
        for offset, score in enumerate(scores):
            if score >= NEAR_DUPLICATE:
                other = conversations[row + 1 + offset]
                kind = "duplicate" if score == 1 else "near-duplicate"
                yield Finding(
                    kind,
                    other.source or other.id,
                    f"{score:.0%} like {conversations[row].source or conversations[row].id}",
                )


def overlaps(conversations: Sequence[Conversation], cases: Sequence[Case]) -> Iterable[Finding]:
    """Training rows that contain a question or a reference of the evaluation."""
    if not conversations or not cases:
        return
    questions = {_plain(case.messages[-1].content): case for case in cases}
    references = [(case.id, case.reference) for case in cases if case.reference]
    index = RecallIndex.build(references) if references else None
    for conversation in conversations:
        place = conversation.source or conversation.id
        for message in conversation.messages:
            case = questions.get(_plain(message.content)) if message.role == "user" else None
            if case is not None:
                yield Finding(
                    "overlap", place, f"asks the question of case {case.id} ({case.source})"
                )
        if index is not None:
            hit = index.query(_answers(conversation))
            if hit.near:
                yield Finding(
                    "overlap", place, f"its answer is near the reference of case {hit.source}"
                )


def _plain(text: str) -> str:
    return " ".join("".join(char if char.isalnum() else " " for char in text.casefold()).split())
