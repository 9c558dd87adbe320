"""Verbatim, near-verbatim, misplaced and innocent outputs are told apart: 2000 of them, drawn with
seeds that no tuning used.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest

from harness.data.conversations import load_conversations
from harness.metrics.copies.recall_index import RecallIndex
from harness.resources import data_dir

EACH = 500
KINDS = ("verbatim", "near-verbatim", "misplaced", "innocent")


def answers() -> dict[str, str]:
    """Every answer of the training set of 25 words or more: real prose, on related subjects."""
    found = {}
    for conversation in load_conversations([str(data_dir("trainset"))]):
        for at, message in enumerate(conversation.messages):
            if message.role == "assistant" and len(message.content.split()) >= 25:
                found[f"{conversation.id}#{at}"] = message.content
    return found


TRAINED = answers()
INDEX = RecallIndex.build(list(TRAINED.items()))
NEXT: dict[str, list[str]] = defaultdict(list)
for text in TRAINED.values():
    for word, after in zip(text.split(), text.split()[1:], strict=False):
        NEXT[word].append(after)


def innocent(rng: random.Random, n: int) -> str:
    """Text in the training set's own words and turns of phrase, each word drawn after the one
    before.
    """
    words = [rng.choice(list(NEXT))]
    while len(words) < n:
        words.append(rng.choice(NEXT.get(words[-1]) or list(NEXT)))
    return " ".join(words)


def changed(rng: random.Random, text: str) -> str:
    """One word in eight is another, or one letter in twenty."""
    if rng.random() < 0.5:
        return " ".join(
            rng.choice(list(NEXT)) if rng.random() < 1 / 8 else word for word in text.split()
        )
    return "".join(
        rng.choice("aeiorst") if letter.isalpha() and rng.random() < 0.05 else letter
        for letter in text
    )


def output(rng: random.Random, kind: str, own: str) -> str:
    if kind == "innocent":
        return innocent(rng, rng.randint(30, 200))
    if kind == "verbatim":
        return rng.choice(["", "Certainly. "]) + TRAINED[own]
    if kind == "near-verbatim":
        return changed(rng, TRAINED[own])
    words = TRAINED[
        rng.choice([id for id in TRAINED if id != own and len(TRAINED[id].split()) >= 40])
    ].split()
    size = rng.randint(25, 40)
    start = rng.randint(0, len(words) - size)
    return f"{innocent(rng, 40)} {' '.join(words[start : start + size])} {innocent(rng, 40)}"


@pytest.mark.parametrize("seed", [90210])
def test_planted_copies_are_told_from_innocent_texts(seed: int) -> None:
    rng = random.Random(seed)
    said: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for kind in KINDS:
        for _ in range(EACH):
            own = rng.choice(list(TRAINED))
            hit = INDEX.query(output(rng, kind, own), own=own)
            said[kind]["near"] += hit.near
            said[kind]["misplaced"] += hit.misplaced(own)
            said[kind]["source"] += hit.source == own
    copies = sum(said[kind]["near"] for kind in KINDS[:3])
    assert copies / (3 * EACH) >= 0.98, said
    assert copies / (copies + said["innocent"]["near"]) >= 0.98, said
    assert said["misplaced"]["misplaced"] / EACH >= 0.98, said
    assert (
        said["misplaced"]["misplaced"] / sum(said[kind]["misplaced"] for kind in KINDS) >= 0.98
    ), said
    assert min(said[kind]["source"] for kind in KINDS[:2]) / EACH >= 0.98, said
