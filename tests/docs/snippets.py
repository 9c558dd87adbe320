"""The fenced blocks of the pages, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Pages that are made of the code whole; test_docs.py holds them against it.
MADE = (
    "docs/formats.md",
    "docs/reference/cli.md",
    "docs/reference/settings.md",
    "docs/reference/report-json.md",
)
PAGES = tuple(
    str(path.relative_to(ROOT))
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "trainset" / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
)
SHELL = ("", "sh", "console")
_FENCE = re.compile(
    r"^(?P<fence>`{3,}|~{3,})(?P<language>[\w{}-]*)[^\n]*\n(?P<text>.*?)^(?P=fence)$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """One fenced block. ``line`` is that of its first fence, for messages."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command of a shell block: its words, and the output that a console block shows."""

    block: Block
    text: str
    words: tuple[str, ...]
    output: str = ""


def blocks(page: str) -> Iterator[Block]:
    """Every fenced block of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found["language"], found["text"])


def commands(block: Block) -> Iterator[Command]:
    """The commands of a shell block; in a console block those after ``$``, with their output."""
    for line, output in _lines(block):
        for part in re.split(r" && | \|\| ", re.sub(r"\s&$", "", line)):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # a variable before the command
                words = words[1:]
            if words:
                yield Command(block, part.strip(), tuple(words), output)


def _lines(block: Block) -> Iterator[tuple[str, str]]:
    text = block.text.replace("\\\n", " ")
    if block.language != "console":
        yield from (
            (line, "")
            for line in text.splitlines()
            if line.strip() and not line.lstrip().startswith("#")
        )
        return
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        line, _, output = part.partition("\n")
        yield line, output


def harness_commands() -> list[Command]:
    """Every ``harness …`` on the pages that people wrote, in their order."""
    written = (
        block
        for page in PAGES
        if page not in MADE
        for block in blocks(page)
        if block.language in SHELL
    )
    return [
        command for block in written for command in commands(block) if command.words[0] == "harness"
    ]


def shown_files(page: str) -> dict[str, str]:
    """The files that a page lets its reader write: a name in backticks before a block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = r"`([\w-]+\.(?:jsonl?|py))`:\n\n```(?:json|python)\n(.*?)^```"
    return dict(re.findall(named, text, re.M | re.S))


def shown_outputs(commands_run: tuple[str, ...]) -> list[Command]:
    """The commands of console blocks that begin with one of these words."""
    return [
        command
        for command in harness_commands()
        if command.block.language == "console"
        and " ".join(command.words[1:]).startswith(commands_run)
    ]


def is_printed(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed, but for lines and words left out as ``…``."""
    lines = [line.rstrip() for line in shown.rstrip("\n").splitlines()]
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\s*?\n"
        for line in lines
    )
    return bool(re.fullmatch(pattern, printed.rstrip("\n") + "\n"))
