"""harness drift: which texts slip into another language."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from harness.cli.arguments import comma, parse
from harness.errors import EXIT_OK, HarnessError

if TYPE_CHECKING:
    from harness.metrics.drift import Drift


@dataclass(frozen=True)
class DriftOptions:
    texts: Annotated[str, tyro.conf.Positional]
    """JSON lines of {"id", "text"} (with "prompt", what it quotes is not judged), or conversations whose last answer is meant."""
    expect: tuple[str, ...] = ("en",)
    """Languages that a text may be in, as codes (en, de, zh-Hant)."""
    json: bool = False
    """Print one JSON object a line, the summary last."""


def drift(args: list[str]) -> int:
    """Judge texts against the language they should be in."""
    options = parse(
        DriftOptions,
        args,
        "drift",
        "Judge texts against the language they should be in: script, windows of words, onset, whether they return.",
    )
    from harness.data.outputs import read_outputs
    from harness.metrics.drift import drift as judge

    outputs = read_outputs(options.texts)
    if not outputs:
        raise HarnessError("the file is empty", where=options.texts)
    expect = _languages(comma(options.expect))
    found = [judge(output.text, expect, output.prompt) for output in outputs]
    for output, row in zip(outputs, found, strict=True):
        print(json.dumps(_row(output.id, row)) if options.json else _line(output.id, row))
    summary = _summary(found)
    print(json.dumps({"summary": summary}) if options.json else _sentence(summary))
    return EXIT_OK


def _languages(codes: tuple[str, ...]) -> tuple[str, ...]:
    """Codes as BCP 47 writes them: two or three letters, then parts that are not read here."""
    for code in codes:
        if not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*", code):
            raise HarnessError(
                f"--expect {code!r} is no language code",
                hint="two or three letters, such as en, de, zh-Hant",
            )
    if not codes:
        raise HarnessError("--expect names no language", hint="for example --expect en,de")
    return codes


def _row(id: str, found: Drift) -> dict[str, Any]:
    return {
        "id": id,
        "drift": found.drift,
        "why": found.why,
        "languages": list(found.languages),
        "onset_char": found.onset_char,
        "off_script": round(found.off_script, 4),
        "sticky": None if found.sticky is None else round(found.sticky, 4),
        "returns": found.returns,
    }


def _line(id: str, found: Drift) -> str:
    if found.drift is None:
        return f"{id}: {found.why}"
    if not found.drift:
        return f"{id}: no drift"
    back = "and comes back" if found.returns else "and does not come back"
    return f"{id}: drift at character {found.onset_char} ({found.why}), {found.sticky:.0%} of the letters after it, {back}"


def _summary(found: list[Drift]) -> dict[str, Any]:
    from harness.stats import mean_interval

    scored = [float(row.drift) for row in found if row.drift is not None]
    summary: dict[str, Any] = {"n": len(found), "scored": len(scored)}
    if scored:
        rate = mean_interval(scored)
        summary["drift"] = {
            "mean": round(rate.value, 4),
            "low": round(rate.low, 4),
            "high": round(rate.high, 4),
        }
    return summary


def _sentence(summary: dict[str, Any]) -> str:
    if "drift" not in summary:
        return f"none of {summary['n']} texts could be scored"
    rate = summary["drift"]
    return f"{rate['mean']:.1%} of {summary['scored']} scored texts drift (95 % interval {rate['low']:.1%} to {rate['high']:.1%}); {summary['n'] - summary['scored']} not scored"
