"""harness phrases: canned phrases of outputs, and new ones."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from harness.cli.arguments import parse
from harness.errors import EXIT_OK, HarnessError


@dataclass(frozen=True)
class PhrasesOptions:
    outputs: Annotated[str, tyro.conf.Positional]
    """Model outputs: JSON lines of {"id", "text"}, or conversations whose last answer is meant."""
    against: str
    """What to compare with: the training set, or the outputs of the base model. JSON lines or a folder of them."""
    most: int = 20
    """Show at most so many new phrases."""
    json: bool = False
    """Print one JSON object a line: kinds, then listed phrases, then new ones."""


def phrases(args: list[str]) -> int:
    """Compare the canned phrases of two sets of texts."""
    options = parse(
        PhrasesOptions,
        args,
        "phrases",
        "Canned phrases of outputs and their lift over other texts; new phrases that no list holds.",
    )
    from harness.data.outputs import read_answers, read_outputs
    from harness.metrics.phrases import KINDS, distinctive, lift

    texts = [output.text for output in read_outputs(options.outputs)]
    base = [text for _, text in read_answers(options.against)]
    if not any(map(str.strip, texts)) or not any(map(str.strip, base)):
        raise HarnessError(
            "no words to compare",
            where=options.outputs if not any(map(str.strip, texts)) else options.against,
        )
    listed, new = lift(texts, base), distinctive(texts, base, options.most)
    if options.json:
        for item in listed:
            print(
                json.dumps({"listed": "kind" if item.name in KINDS else "phrase", **asdict(item)})
            )
        for phrase in new:
            print(
                json.dumps(
                    {
                        "new": phrase.text,
                        "texts": phrase.texts,
                        "base_texts": phrase.base_texts,
                        "z": round(phrase.z, 2),
                    }
                )
            )
        return EXIT_OK
    if not listed:
        print("no canned phrase on either side")
    for item in listed:
        mark = " (new)" if item.new else ""
        print(
            f"{item.name}: {item.hits} ({item.rate:.2f} per 1000 words) against {item.base_hits} ({item.base_rate:.2f}), lift {item.lift:.1f}{mark}"
        )
    print(
        "said more here than there, by log-odds:"
        if new
        else "no other phrase is said clearly more here than there"
    )
    for phrase in new:
        print(
            f"  {phrase.text}: in {phrase.texts} texts against {phrase.base_texts}, z {phrase.z:.1f}"
        )
    return EXIT_OK
