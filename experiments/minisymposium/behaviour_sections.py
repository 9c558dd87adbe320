"""The sections of parts 2, 6, 7 and 8, of the demands and of the time: what the models do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.minisymposium.section import (
    VERDICTS,
    Part,
    Section,
    by_part,
    step_text,
    value_text,
)
from experiments.paired import spelt
from harness.training.selection.memorisation import beyond


def demands_section(results: Mapping[str, Any]) -> Section:
    """The demands on the experiment, each with its verdict."""
    rows = tuple(
        (verdict["demand"], VERDICTS[verdict["holds"]], verdict["found"])
        for verdict in results["verdicts"]
    )
    gate = results.get("gate")
    lines = (
        (
            f"The gate was run with `{gate['command']}`. Among its failures are:",
            *(f"- {line}" for line in gate["failures"]),
        )
        if gate
        else ()
    )
    return Section("The demands on this experiment", lines, ("demand", "verdict", "found"), rows)


def symptoms_section(part: Part) -> Section:
    """Part 2."""
    rows = tuple(
        (
            row["symptom"],
            row["null"],
            step_text(row["from"]),
            value_text(row["points"][0]["value"]),
            value_text(row["points"][-1]["value"]),
        )
        for row in part["symptoms"]
    )
    line = (
        f"The symptoms of the run {part['run']}, in the order in which they exceed their nulls. "
        "Answers were generated at some checkpoints only (the ticks in the figure). The step is "
        "the first checkpoint from which a symptom was seen to the end."
    )
    return Section(
        "2. The over-trained run",
        (line,),
        ("symptom", "null", "seen from step", "at the start", "at the end"),
        rows,
        ("symptoms",),
    )


def formats_section(part: Part) -> Section:
    """Part 6."""
    base = part["base"]
    rows = tuple(
        (
            row["run"].removeprefix("format-"),
            str(row["steps"]),
            spelt(row["gap_closed"], ".0%"),
            spelt(row["native_nll_change"]),
            spelt(row["native_choice_change"]),
            _recall(row["recall_excess"]),
            ", ".join(f"{each} {value:+.2f}" for each, value in row["recall"].items()),
        )
        for row in part["rows"]
    )
    start = (
        f"Before training the held-out excess is {spelt(base['excess'])} nats a token and "
        f"native choice accuracy {spelt(base['choice_native'])}."
    )
    heads = (
        "trained on",
        "steps",
        "gap closed",
        "native NLL",
        "native choice",
        "recall excess, and the limit of its null",
        "recall gained by format, nats a token",
    )
    return Section(
        "6. Formats",
        (start, *(f"- {line['text']}" for line in part["best"]["lines"])),
        heads,
        rows,
        ("formats",),
    )


def drift_section(part: Part) -> Section:
    """Part 7."""
    rows = tuple(
        (
            format_id,
            row["symptom"],
            step_text(row["from"]),
            value_text(row["points"][0]["value"]),
            value_text(row["points"][-1]["value"]),
        )
        for format_id, found in part["formats"].items()
        for row in found
    )
    taught = _taught(part)
    line = (
        f"{taught} The step is the first checkpoint from which the paired difference from the "
        "base is significantly worse to the end."
    )
    return Section(
        "7. Another language",
        (line,),
        ("format", "measure", "seen from step", "at the start", "at the end"),
        rows,
        ("drift",),
    )


def _taught(part: Part) -> str:
    """How many rows teach another script. Results of November 2026 hold a text."""
    if isinstance(part["rows"], str):
        return f"A positive control: {part['rows']}."
    if not part["taught"]:
        return f"None of the {part['rows']} training rows has an answer in another script."
    return (
        f"A positive control: {part['taught']} of {part['rows']} training rows have an answer in "
        "another script."
    )


def card_section(part: Part) -> Section:
    """Part 8."""
    lines = (
        f"`{part['recipe']}` ({part['model']}) was validated with `--dry-run` and has never been "
        "run, because no such card was available. Tokens were counted with the tokenizer of "
        f"{part['tokenizer_of']}.",
        f"Peak memory {part['memory_gib']:.1f} GiB with gradient checkpointing. "
        f"{part['tokens_per_epoch']} tokens an epoch × 7.24e9 weights × 6 operations at an assumed "
        f"{part['card_flops']:.0e} operations a second: {part['minutes_per_epoch']:.0f} min an "
        f"epoch, {part['epochs']:g} epochs.",
    )
    rows = tuple((row["name"], f"{row['mib']:.0f}", row["why"]) for row in part["memory"])
    return Section("8. The 7B plan", lines, ("memory", "MiB", "because"), rows)


def time_section(results: Mapping[str, Any]) -> Section:
    """The minutes of each run and measurement."""
    rows = tuple((what, f"{minutes:.1f}") for what, minutes in results["minutes"].items())
    total = sum(results["minutes"].values())
    machines = by_part(
        results,
        lambda made: (
            f"on {made['machine']} with {made['threads']} thread{'s' * (made['threads'] != 1)}"
        ),
    )
    return Section("Time", (f"{total:.0f} minutes in total, {machines}.",), ("", "minutes"), rows)


def _recall(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "–"
    place = "above" if beyond(found["value"], found["limit"]) else "within"
    return f"{found['value']:+.2f}, {place} {found['limit']:+.2f}"
