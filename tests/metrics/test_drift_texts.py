"""Drift on hand-written texts with their prompts: what is mentioned and what has slipped.

``development.jsonl`` was looked at while the detector was built: it guards against loss and
measures nothing. ``unseen.jsonl`` was written after the detector was finished and measured once: 0
false alarms of 35 and 0 misses of 36 (the detector before these rules: 15 and 15). No rule for what
is drift changed afterwards. The author of the texts was that of the detector.
"""

import json
from pathlib import Path

import pytest

from harness.metrics.drift import drift

FOLDER = Path(__file__).parent / "drift_texts"


def wrong(name: str) -> tuple[list[str], list[str], int, int]:
    """False alarms and misses of a set, and how many texts of either kind it has."""
    rows = [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]
    found = [drift(row["text"], row["expect"], row.get("prompt", "")).drift is True for row in rows]
    alarms = [row["id"] for row, is_found in zip(rows, found, strict=True) if is_found]
    misses = [row["id"] for row, is_found in zip(rows, found, strict=True) if not is_found]
    drifts = {row["id"] for row in rows if row["drift"]}
    assert len({row["id"] for row in rows}) == len(rows)
    return (
        [each for each in alarms if each not in drifts],
        [each for each in misses if each in drifts],
        len(rows) - len(drifts),
        len(drifts),
    )


def test_the_development_set() -> None:
    alarms, misses, clean, drifts = wrong("development.jsonl")
    assert (clean, drifts) == (125, 124)
    assert len(alarms) <= 3, alarms
    assert not misses


def test_the_unseen_set() -> None:
    assert wrong("unseen.jsonl") == ([], [], 35, 36)


@pytest.mark.parametrize(
    ("text", "prompt", "drifts"),
    [
        (
            "<think>\n用户想知道为什么天空是蓝色的。先说太阳光由多种颜色组成。\n</think>\n\nThe sky"
            " looks blue because air scatters short wavelengths more than long ones.",
            "",
            True,
        ),
        (
            "Here is the plan for the week: buy paint on Monday, sand the door on Tuesday."
            " 希望这个计划对你有帮助。",
            "",
            True,
        ),
        ("好的。", "Ok?", True),
        (
            "“早上好” means good morning in Chinese; you say it as zao shang hao when you meet"
            " somebody early.",
            "How do you say good morning in Chinese?",
            False,
        ),
    ],
)
def test_a_thought_and_a_phrase_asked_for(text: str, prompt: str, drifts: bool) -> None:
    """DeepSeek-V3 issues 1642 and 1226."""
    assert drift(text, prompt=prompt).drift is drifts
