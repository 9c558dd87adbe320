"""harness recall: find outputs that copy a training set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from harness.cli.arguments import parse
from harness.errors import EXIT_OK, HarnessError

if TYPE_CHECKING:
    from harness.data.outputs import Output
    from harness.metrics.copies.recall_index import RecallHit, RecallIndex

_FIELDS = (
    "near",
    "span_words",
    "span_chars",
    "span",
    "source",
    "source_span",
    "indel",
    "nv_recall",
    "copied_frac",
    "misplaced",
)


@dataclass(frozen=True)
class RecallOptions:
    outputs: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Model outputs: JSON lines of {"id", "text"}, or conversations, of which the last answer
    counts."""
    against: str
    """The training set: JSON lines of texts or conversations, a folder of them, or an index written
    with --save-index."""
    null: str | None = None
    """Texts of the same kind that were never trained on. They show what is shared by chance."""
    save_index: str | None = None
    """Folder to store the index in, for later runs with the same training set."""
    json: bool = False
    """Print one JSON object a line, the summary last."""


def recall(args: list[str]) -> int:
    """Find outputs that copy a training example, and where.

    String matching is a lower bound on memorisation.
    """
    options = parse(RecallOptions, args, "recall", recall.__doc__)
    from harness.data.outputs import read_outputs

    outputs = read_outputs(options.outputs)
    index = _index(options.against)
    if not outputs or not len(index):
        raise HarnessError(
            "nothing to compare: the file is empty",
            where=options.outputs if not outputs else options.against,
        )
    if options.save_index:
        index.save(options.save_index)
    never = _index(options.null) if options.null else None
    hits = [index.query(output.text, own=output.id) for output in outputs]
    for output, hit in zip(outputs, hits, strict=True):
        print(json.dumps(_row(output, hit)) if options.json else _line(output, hit))
    summary = _summary(outputs, hits, never, len(index))
    print(json.dumps({"summary": summary}) if options.json else "\n".join(_sentences(summary)))
    return EXIT_OK


def _index(name: str) -> RecallIndex:
    from harness.data.outputs import read_answers
    from harness.metrics.copies.recall_index import INDEX_FILE, RecallIndex

    return (
        RecallIndex.load(name)
        if (Path(name) / INDEX_FILE).is_file()
        else RecallIndex.build(read_answers(name))
    )


def _row(output: Output, hit: RecallHit) -> dict[str, Any]:
    """One row of the JSON. A value that was not scored is null, never 0."""
    if not output.text.strip():
        return {"id": output.id, **dict.fromkeys(_FIELDS), "why": "not scored: the text is empty"}
    found = {name: getattr(hit, name) for name in _FIELDS if name != "misplaced"}
    found |= {name: round(found[name], 4) for name in ("indel", "nv_recall", "copied_frac")}
    return {"id": output.id, **found, "misplaced": hit.misplaced(output.id)}


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


def _summary(
    outputs: list[Output], hits: list[RecallHit], null: RecallIndex | None, trained: int
) -> dict[str, Any]:
    """Rates with 95 % intervals; the excess is the paired mean of (training set − null)."""
    from harness.stats import mean_interval, paired_bootstrap

    scored = [at for at, output in enumerate(outputs) if output.text.strip()]
    never = len(null) if null else 0
    summary: dict[str, Any] = {
        "n": len(outputs),
        "scored": len(scored),
        "trained": trained,
        "null": never,
    }
    by_chance = [null.query(outputs[at].text) for at in scored] if null else []
    for name in ("near", "nv_recall", "copied_frac"):
        values = [float(getattr(hits[at], name)) for at in scored]
        if not values:
            continue
        summary[name] = _interval(mean_interval(values))
        if null:
            chance = [float(getattr(hit, name)) for hit in by_chance]
            summary[f"{name}_null"] = _interval(mean_interval(chance))
            summary[f"{name}_excess"] = _interval(
                paired_bootstrap([a - b for a, b in zip(values, chance, strict=True)])
            )
    if null and never < trained:
        summary["note"] = (
            f"the null has {never} texts and the training set {trained}: chance matches grow with "
            "the number of texts, so the excess is slightly too high"
        )
    return summary


def _interval(found: Any) -> dict[str, float]:
    return {"mean": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


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
        line = (
            f"{found['mean']:.1%} {what} (95 % interval {found['low']:.1%} to {found['high']:.1%})"
        )
        if f"{name}_excess" in summary:
            excess = summary[f"{name}_excess"]
            interval = f"{excess['low']:+.1%} to {excess['high']:+.1%}"
            chance = f"{summary[f'{name}_null']['mean']:.1%}"
            line += f"; by chance {chance}, excess {excess['mean']:+.1%} ({interval})"
        yield line
    if "note" in summary:
        yield f"note: {summary['note']}"
    if summary["null"] == 0:
        yield (
            "no null: give --null HELDOUT.jsonl, texts never trained on, to see what is shared by "
            "chance"
        )
