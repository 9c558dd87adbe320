"""harness phrases: count canned phrases of outputs, and find new ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from harness.cli.arguments import at_least, parse
from harness.cli.output import print_json
from harness.errors import EXIT_OK, HarnessError


@dataclass(frozen=True)
class PhrasesOptions:
    outputs: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Model outputs: JSON lines of {"id", "text"}, or conversations, of which the last answer
    counts; or a log of lm-eval, Inspect, promptfoo or an OpenAI batch."""
    against: str
    """Texts to compare with: the training set or the base model's outputs, as JSON lines or a
    folder of them."""
    limit: Annotated[int, tyro.conf.arg(aliases=["--most"])] = 20
    """Show at most this many new phrases."""
    json: bool = False
    """Print {"listed", "new"} as JSON: kinds, then listed phrases; new phrases."""


def phrases(args: list[str]) -> int:
    """Count canned phrases of outputs and their lift over other texts, and find new phrases.

    Example: harness phrases outputs.jsonl --against train.jsonl
    """
    options = parse(PhrasesOptions, args, "phrases", phrases.__doc__)
    at_least(options, 0, "limit")
    from harness.data.outputs import read_answers, read_outputs
    from harness.metrics.phrases import KINDS, distinctive, lift

    texts = [output.text for output in read_outputs(options.outputs)]
    base = [text for _, text in read_answers(options.against)]
    for file, found in ((options.outputs, texts), (options.against, base)):
        if not any(map(str.strip, found)):
            raise HarnessError("no words to compare", where=file)
    listed, new = lift(texts, base), distinctive(texts, base, options.limit)
    if options.json:
        kinds: list[dict[str, object]] = [
            {"is": "kind" if item.name in KINDS else "phrase", **asdict(item)} for item in listed
        ]
        more = [{**asdict(phrase), "z": round(phrase.z, 2)} for phrase in new]
        print_json({"listed": kinds, "new": more})
        return EXIT_OK
    if not listed:
        print("no canned phrase on either side")
    for item in listed:
        print(
            f"{item.name}: {item.hits} ({item.rate:.2f} per 1000 words) against {item.base_hits} "
            f"({item.base_rate:.2f}), lift {item.lift:.1f}{' (new)' if item.new else ''}"
        )
    print(
        "used more in the outputs, by log-odds:"
        if new
        else "no other phrase is used significantly more in the outputs"
    )
    for phrase in new:
        print(
            f"  {phrase.text}: in {phrase.texts} texts against {phrase.base_texts}, "
            f"z {phrase.z:.1f}"
        )
    return EXIT_OK
