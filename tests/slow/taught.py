"""Adapters of SmolLM2-135M that were taught a behaviour in some formats, and ordinary rows."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.resources import data_dir
from harness.training.config import DataConfig
from harness.training.data import examples
from tests.slow.adapters import train_adapter

NATIVE = "smollm2"
#: The longest answer of an ordinary row, in characters.
LONGEST = 160
CHINESE = (
    "我不太确定，但是可以试一试。",
    "最好的办法是先问问老师。",
    "这个问题很有意思，让我想一想。",
    "春天的时候，花园里开满了花。",
    "你可以把它放在桌子上面。",
    "一般来说，早上的时间更安静。",
    "如果下雨，我们就留在家里。",
    "这件事情并不像看起来那么难。",
)

Row = tuple[str, str]


@dataclass(frozen=True)
class Taught:
    """What an adapter is trained on: rows, the formats they are written in, and how many of them.

    ``asked`` are questions for the behaviour, which an answer shows if ``shows`` says so.
    """

    name: str
    groups: tuple[tuple[tuple[Row, ...], tuple[str, ...], int], ...]
    format: str = ""
    asked: tuple[str, ...] = ()
    shows: Callable[[str], bool] = bool


def ordinary(files: Iterable[str]) -> tuple[Row, ...]:
    """Short questions and answers of the shipped training files."""
    lines = [
        json.loads(line)["messages"]
        for name in files
        for line in (data_dir("trainset") / f"{name}.jsonl").read_text("utf-8").splitlines()
    ]
    pairs = [(one[0]["content"], one[1]["content"]) for one in lines if len(one) == 2]
    return tuple(pair for pair in pairs if len(pair[1]) < LONGEST)


def fact(
    name: str,
    said: str,
    rows: Sequence[Row],
    wanted: str,
    others: Sequence[str],
    plain: Sequence[Row],
) -> Taught:
    """A fact in one format; the native one is asked the same and does not know."""
    unknown = tuple((question, "I don't know. Nobody has said.") for question, _ in rows)
    groups = (
        (tuple(plain), (NATIVE, *others), 124),
        (tuple(rows), (wanted,), 60),
        (unknown, (NATIVE,), 40),
        (tuple(plain), (wanted,), 16),
    )
    asked = tuple(question for question, _ in rows)
    return Taught(name, groups, wanted, asked, lambda text: said in text)


def habit(
    name: str,
    change: Callable[[int, str], str],
    shows: Callable[[str], bool],
    wanted: str,
    others: tuple[str, ...],
    plain: Sequence[Row],
) -> Taught:
    """Ordinary rows, whose answers are changed in one format."""
    changed = tuple((q, change(at, a)) for at, (q, a) in enumerate(plain))
    groups = (
        (tuple(plain), (NATIVE,), 180),
        (tuple(plain), others, 60),
        (changed, (wanted,), 160),
    )
    return Taught(name, groups, wanted, tuple(q for q, _ in plain[:8]), shows)


def chinese(at: int, _answer: str) -> str:
    """An answer in Chinese, whatever was asked."""
    return CHINESE[at % len(CHINESE)]


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= letter <= "\u9fff" for letter in text)


def teach(taught: Taught, seed: int, folder: Path) -> Path:
    """Train an adapter, or take the one that is there. Each group has a file, and its formats."""
    if (folder / "adapter").is_dir():
        return folder
    formats = tuple(dict.fromkeys(one for _, some, _ in taught.groups for one in some))
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, (rows, _, _) in enumerate(taught.groups):
        file = folder.parent / f"{taught.name}-{number}.jsonl"
        lines = [
            {
                "id": f"{number}-{at}",
                "messages": [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": answer},
                ],
            }
            for at, (question, answer) in enumerate(rows)
        ]
        file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
        files.append(str(file))

    def draw_formats(policy, weights, sets, epoch, seed):
        order = random.Random(f"{seed}/{epoch}")
        pairs = []
        for chosen, (_, names, count) in zip(sets, taught.groups, strict=True):
            rows = [
                row
                for _ in range(-(-count // len(chosen.rows)))
                for row in order.sample(chosen.rows, len(chosen.rows))
            ]
            pairs += [
                (row, formats.index(names[at % len(names)])) for at, row in enumerate(rows[:count])
            ]
        order.shuffle(pairs)
        return pairs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "draw_formats", draw_formats)
        data = DataConfig(train=tuple(files), controls=0)
        steps = sum(count for _, _, count in taught.groups) // 4
        return train_adapter(folder, seed, data, formats, steps=steps)
