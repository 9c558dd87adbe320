"""harness data check."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from harness.cli.arguments import parse
from harness.errors import EXIT_FINDINGS, EXIT_OK


@dataclass(frozen=True)
class DataCheckOptions:
    files: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Conversation files or folders. Empty: the shipped training set."""
    cases: tuple[str, ...] = ()
    """Evaluation cases that must not be in the data. Empty: the shipped ones."""
    expect_language: str = "en"
    """Language of the answers."""
    longest: int = 8000
    """Characters of the longest conversation."""
    json: bool = False
    """Print JSON."""


def check(args: list[str]) -> int:
    """Find bad rows, duplicates, canned phrases, other languages, over-long rows and overlap with the evaluation."""
    options = parse(DataCheckOptions, args, "data check", "Find mistakes in a training set. Exit code 1 when there are any.")
    from harness.data.check import check_files
    from harness.evaluate.cases import load_cases
    from harness.resources import data_dir

    files = list(options.files) or [str(data_dir("trainset"))]
    conversations, findings = check_files(files, load_cases(options.cases), expect=options.expect_language, longest=options.longest)
    if options.json:
        print(json.dumps({"conversations": len(conversations), "findings": [asdict(finding) for finding in findings]}, indent=1, ensure_ascii=False))
        return EXIT_FINDINGS if findings else EXIT_OK
    for finding in findings:
        print(f"{finding.place}: {finding.kind}: {finding.message}")
    tags = Counter(tag for conversation in conversations for tag in conversation.tags[:1])
    print(f"{len(conversations)} conversations ({', '.join(f'{count} {tag}' for tag, count in sorted(tags.items()))}), {len(findings)} findings")
    return EXIT_FINDINGS if findings else EXIT_OK
