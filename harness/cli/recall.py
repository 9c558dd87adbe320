"""harness recall: find outputs that copy a training set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from harness.cli.arguments import parse
from harness.cli.output import print_json
from harness.errors import EXIT_OK

if TYPE_CHECKING:
    from harness.data.outputs import Output
    from harness.metrics.copies.recall_index import RecallHit


@dataclass(frozen=True)
class RecallOptions:
    outputs: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Model outputs: JSON lines of {"id", "text"}, or conversations, of which the last answer
    counts; or a log of lm-eval, Inspect, promptfoo or an OpenAI batch."""
    against: str
    """The training set: JSON lines of texts or conversations, a folder of them, or an index written
    with --save-index."""
    controls: Annotated[str | None, tyro.conf.arg(aliases=["--null"])] = None
    """Texts of the same kind that were never trained on. They show what is shared by chance."""
    save_index: str | None = None
    """Folder to store the index in, for later runs with the same training set."""
    json: bool = False
    """Print {"outputs", "summary"} as JSON."""


def recall(args: list[str]) -> int:
    """Find outputs that copy a training example, and where.

    String matching is a lower bound on memorisation.

    Example: harness recall outputs.jsonl --against train.jsonl --controls held-out.jsonl
    """
    options = parse(RecallOptions, args, "recall", recall.__doc__)
    from harness import api

    result = api.recall(options.outputs, options.against, null=options.controls)
    if options.save_index:
        result.index.save(options.save_index)
    if options.json:
        print_json({"outputs": list(result.rows()), "summary": result.summary})
        return EXIT_OK
    for output, hit in zip(result.outputs, result.hits, strict=True):
        print(_line(output, hit))
    print("\n".join(_sentences(result.summary)))
    return EXIT_OK


def _line(output: Output, hit: RecallHit) -> str:
    if not output.text.strip():
        return f"{output.id}: not scored, the text is empty"
    if hit.source is None or hit.span is None or hit.source_span is None:
        return f"{output.id}: nothing in common with the training set"
    verb = "copies" if hit.near else "shares words with"
    here, there = ("-".join(map(str, span)) for span in (hit.span, hit.source_span))
    return (
        f"{output.id}: {verb} {hit.source}: {hit.span_words} words (characters {here} of it, "
        f"{there} there), indel {hit.indel:.2f}, nv_recall {hit.nv_recall:.2f}, "
        f"copied {hit.copied_frac:.0%}"
    )


def _span(found: dict[str, Any], form: str) -> str:
    if found["low"] is None:
        return f"no interval: {found['why']}"
    return f"95 % interval {found['low']:{form}} to {found['high']:{form}}"


def _sentences(summary: dict[str, Any]) -> Iterator[str]:
    scored = f"{summary['scored']} of {summary['n']} outputs scored"
    yield f"{scored} against {summary['trained']} training texts"
    for name, what in (
        ("near", "copy an example"),
        ("nv_recall", "of an example's words occur near-verbatim"),
        ("copied_frac", "of the outputs' words are copied"),
    ):
        if name not in summary:
            continue
        found = summary[name]
        line = f"{found['mean']:.1%} {what} ({_span(found, '.1%')})"
        if f"{name}_excess" in summary:
            excess = summary[f"{name}_excess"]
            chance = f"{summary[f'{name}_null']['mean']:.1%}"
            line += f"; by chance {chance}, excess {excess['mean']:+.1%} ({_span(excess, '+.1%')})"
        yield line
    if "note" in summary:
        yield f"note: {summary['note']}"
    if summary["null"] == 0:
        yield (
            "no controls: give --controls HELDOUT.jsonl, texts never trained on, to see what is "
            "shared by chance"
        )
