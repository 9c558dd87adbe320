"""harness drift: find texts that slip into another language."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from harness.cli.arguments import parse, split_commas
from harness.errors import EXIT_OK, HarnessError

if TYPE_CHECKING:
    from harness.metrics.drift import Drift


@dataclass(frozen=True)
class DriftOptions:
    texts: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """JSON lines of {"id", "text"}, or conversations, of which the last answer counts. With a
    "prompt", text that quotes it is not judged."""
    expect: tuple[str, ...] = ("en",)
    """Languages that a text may use, as codes (en, de, zh-Hant)."""
    json: bool = False
    """Print one JSON object a line, the summary last."""


def drift(args: list[str]) -> int:
    """Find texts that slip into another language: script, windows of words, onset, recovery."""
    options = parse(DriftOptions, args, "drift", drift.__doc__)
    from harness.data.outputs import read_outputs
    from harness.metrics.drift import drift as judge

    outputs = read_outputs(options.texts)
    if not outputs:
        raise HarnessError("the file is empty", where=options.texts)
    expect = _languages(split_commas(options.expect))
    found = [judge(output.text, expect, output.prompt) for output in outputs]
    for output, row in zip(outputs, found, strict=True):
        print(json.dumps(_row(output.id, row)) if options.json else _line(output.id, row))
    summary = _summary(found)
    print(json.dumps({"summary": summary}) if options.json else _sentence(summary))
    return EXIT_OK


def _languages(codes: tuple[str, ...]) -> tuple[str, ...]:
    """Codes as BCP 47 writes them: two or three letters; further parts are not read."""
    for code in codes:
        if not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*", code):
            raise HarnessError(
                f"invalid --expect {code!r}: expected a language code such as en, de or zh-Hant"
            )
    if not codes:
        raise HarnessError("--expect needs a language code", hint="for example --expect en,de")
    return codes


def _row(output_id: str, found: Drift) -> dict[str, Any]:
    return {
        "id": output_id,
        "drift": found.drift,
        "why": found.why,
        "languages": list(found.languages),
        "onset_char": found.onset_char,
        "off_script": round(found.off_script, 4),
        "sticky": None if found.sticky is None else round(found.sticky, 4),
        "returns": found.returns,
    }


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


def _summary(found: list[Drift]) -> dict[str, Any]:
    from harness.stats import mean_interval

    scored = [float(row.drift) for row in found if row.drift is not None]
    summary: dict[str, Any] = {"n": len(found), "scored": len(scored)}
    if scored:
        rate = mean_interval(scored)
        numbers = {"mean": rate.value, "low": rate.low, "high": rate.high}
        summary["drift"] = {name: round(value, 4) for name, value in numbers.items()}
    return summary


def _sentence(summary: dict[str, Any]) -> str:
    if "drift" not in summary:
        return f"none of {summary['n']} texts could be scored"
    rate = summary["drift"]
    interval = f"95 % interval {rate['low']:.1%} to {rate['high']:.1%}"
    return (
        f"{rate['mean']:.1%} of {summary['scored']} scored texts drift ({interval}); "
        f"{summary['n'] - summary['scored']} not scored"
    )
