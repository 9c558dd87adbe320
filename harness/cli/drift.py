"""harness drift: find texts that slip into another language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from harness.cli.arguments import parse, split_commas
from harness.cli.output import print_json
from harness.errors import EXIT_OK

if TYPE_CHECKING:
    from harness.metrics.drift import Drift


@dataclass(frozen=True)
class DriftOptions:
    texts: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """JSON lines of {"id", "text"}, or conversations, of which the last answer counts; or a log of
    lm-eval, Inspect, promptfoo or an OpenAI batch. With a "prompt", text that quotes it is not
    judged."""
    expect_language: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--expect"])] = ("en",)
    """Languages that a text may use, as codes (en, de, zh-Hant)."""
    json: bool = False
    """Print {"texts", "summary"} as JSON."""


def drift(args: list[str]) -> int:
    """Find texts that slip into another language: script, windows of words, onset, recovery.

    Example: harness drift outputs.jsonl --expect-language en,de
    """
    options = parse(DriftOptions, args, "drift", drift.__doc__)
    from harness import api

    result = api.drift(options.texts, split_commas(options.expect_language))
    if options.json:
        print_json({"texts": list(result.rows()), "summary": result.summary})
        return EXIT_OK
    for output, found in zip(result.outputs, result.found, strict=True):
        print(_line(output.id, found))
    print(_sentence(result.summary))
    return EXIT_OK


def _line(output_id: str, found: Drift) -> str:
    if found.drift is None:
        return f"{output_id}: {found.why}"
    if not found.drift:
        return f"{output_id}: no drift"
    back = "and comes back" if found.returns else "and does not come back"
    return (
        f"{output_id}: drift at character {found.onset_char} ({found.why}), "
        f"{found.sticky:.0%} of the letters after it, {back}"
    )


def _sentence(summary: dict[str, Any]) -> str:
    if "drift" not in summary:
        return f"none of {summary['n']} texts could be scored"
    rate = summary["drift"]
    interval = f"95 % interval {rate['low']:.1%} to {rate['high']:.1%}"
    return (
        f"{rate['mean']:.1%} of {summary['scored']} scored texts drift ({interval}); "
        f"{summary['n'] - summary['scored']} not scored"
    )
