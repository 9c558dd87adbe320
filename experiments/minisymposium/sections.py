"""The page as data: sentences and tables of each part. All numbers are read from the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.minisymposium.paired import above, below, spelt
from harness.training.selection.memorisation import beyond

#: What the page says of a demand that holds, that does not, and that its interval leaves open.
OUTCOMES = {True: "holds", False: "**does not hold**", None: "undecided"}
Part = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, sentences, a table and figures by name."""

    title: str
    lines: tuple[str, ...]
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    figures: tuple[str, ...] = ()


def sections(results: Mapping[str, Any]) -> list[Section]:
    """The sections of the parts that were run, the demands first."""
    parts = results["parts"]
    found = [_demands(results)] if results["verdicts"] else []
    found += [make(parts[number]) for number, make in _PARTS.items() if number in parts]
    return [*found, _time(results)] if results["minutes"] else found


def _demands(results: Mapping[str, Any]) -> Section:
    rows = tuple(
        (verdict["demand"], OUTCOMES[verdict["holds"]], verdict["found"])
        for verdict in results["verdicts"]
    )
    gate = results.get("gate")
    lines = (
        (
            f"The gate was asked by `{gate['command']}`. It named, among others:",
            *(f"- {line}" for line in gate["failures"]),
        )
        if gate
        else ()
    )
    return Section("What was asked, and what holds", lines, ("demand", "", "found"), rows)


def _map(part: Part) -> Section:
    rows = tuple(
        (
            f"{row['rate']:g}",
            f"{row['curve'][-1]['epoch']:g}",
            f"{row['sum_lr']:.3g}",
            f"{row['lowest']:.3f} at step {row['lowest_step']}",
            f"{row['curve'][-1]['nll_held_out']:.3f}",
            _step(row.get("pick")),
            _step(row.get("recall_from")),
            row["region"],
        )
        for row in part["rows"]
    )
    shorter = (
        f"`harness pick` takes a checkpoint {part['pick_short_of_lowest']:+.2%} from it."
        if part["pick_short_of_lowest"] is not None
        else ""
    )
    line = (
        f"Held-out NLL before training is {part['start']:.3f} nats a token on the development "
        f"references. The lowest of the map is {part['lowest']:.3f}, in {part['lowest_run']} at "
        f"step {part['lowest_step']}. {shorter}"
    )
    heads = (
        "rate",
        "epochs",
        "Σ rate",
        "lowest held-out NLL",
        "at the end",
        "picked step",
        "recall leaves its null at",
        "",
    )
    return Section("1. Learning rate × epochs", (line,), heads, rows, ("map", "sum-lr"))


def _symptoms(part: Part) -> Section:
    rows = tuple(
        (
            row["symptom"],
            row["null"],
            _step(row["from"]),
            _value(row["points"][0]["value"]),
            _value(row["points"][-1]["value"]),
        )
        for row in part["symptoms"]
    )
    line = (
        f"The run {part['run']}, in the order in which its symptoms leave their nulls. Answers "
        "were asked for at some checkpoints only (the ticks), so a step is the first of those from "
        "which it was seen to the end."
    )
    return Section(
        "2. The over-trained run",
        (line,),
        ("symptom", "null", "seen from step", "at the start", "at the end"),
        rows,
        ("symptoms",),
    )


def _patience(part: Part) -> Section:
    total = part["difference"]
    rows = tuple(
        (
            str(pair["seed"]),
            _at(pair["high"]),
            f"{pair['high']['nll']:.3f}",
            _at(pair["low"]),
            f"{pair['low']['nll']:.3f}",
            spelt(pair["difference"]),
            f"step {pair['equal']['step']}, Σ {pair['equal']['sum_lr']:.3g}: "
            f"{spelt(pair['equal_difference'])}",
        )
        for pair in part["pairs"]
    )
    verdict = (
        "the low rate is better"
        if below(total)
        else "the high rate is better"
        if above(total)
        else "neither is significantly better"
    )
    line = (
        "Picked checkpoint of the low rate less that of the high one, held-out NLL on "
        f"{part['items']} references that nothing was chosen by, {part['seeds']} seeds: "
        f"{spelt(total)}; {verdict}."
    )
    return Section(
        "3. Does patience buy anything?",
        (line,),
        (
            "seed",
            "high rate, picked",
            "NLL",
            "low rate, picked",
            "NLL",
            "difference",
            "low rate where its Σ is that of the high pick, less the high pick",
        ),
        rows,
    )


def _schedules(part: Part) -> Section:
    rows = tuple(
        (
            row["shape"],
            str(row["step"]),
            f"{row['sum_lr']:.3g}",
            f"{row['nll']:.3f}",
            f"{row['native']:.3f}",
            spelt(row["against_constant"]),
        )
        for row in part["rows"]
    )
    auto = part["auto_branch"]
    rounds = "; ".join(
        f"{_place(found['run'])} at rate {found['learning_rate']:g}: lowest {found['value']:.3f} "
        f"at step {found['step']}, {found['why']}"
        for found in auto["rounds"]
    )
    lines = (
        "Equal steps and equal Σ learning rate, one seed: a difference smaller than its interval "
        "says nothing, and one beyond it is of this seed.",
        f"The automatic branch chose step {auto['chosen']['step']} of "
        f"{_place(auto['chosen']['run'])}, held-out NLL {auto['nll']:.3f} ({rounds}).",
    )
    return Section(
        "4. Schedules",
        lines,
        ("shape", "step", "Σ rate", "held-out NLL", "native NLL", "less constant"),
        rows,
        ("schedules",),
    )


def _alpha(part: Part) -> Section:
    rows = tuple(
        (
            f"{row['alpha']:g}",
            "the reference"
            if row["reference"]
            else "corrected"
            if row["compensated"]
            else "not corrected",
            f"{row['strays']:.3f}",
        )
        for row in part["rows"]
    )
    return Section(
        "5. Alpha",
        ("How far the curve of held-out NLL strays from that of the reference alpha, at most.",),
        ("alpha", "B's rate", "strays by"),
        rows,
        ("alpha",),
    )


def _formats(part: Part) -> Section:
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
        "recall excess, and its null",
        "recall gained by format, nats a token",
    )
    return Section(
        "6. Formats",
        (start, *(f"- {line['text']}" for line in part["best"]["lines"])),
        heads,
        rows,
        ("formats",),
    )


def _drift(part: Part) -> Section:
    rows = tuple(
        (
            format_id,
            row["symptom"],
            _step(row["from"]),
            _value(row["points"][0]["value"]),
            _value(row["points"][-1]["value"]),
        )
        for format_id, found in part["formats"].items()
        for row in found
    )
    line = (
        f"A positive control: {part['rows']}. The step is the first from which the paired "
        "difference to the base is significantly worse at every checkpoint."
    )
    return Section(
        "7. Drift on purpose",
        (line,),
        ("format", "measure", "seen from step", "at the start", "at the end"),
        rows,
        ("drift",),
    )


def _card(part: Part) -> Section:
    lines = (
        f"`{part['recipe']}` ({part['model']}) was validated by `--dry-run` and has never been run "
        "here: no such card was at hand. Tokens were counted with the tokenizer of "
        f"{part['tokenizer_of']}.",
        f"Peak memory {part['memory_gib']:.1f} GiB with gradient checkpointing. "
        f"{part['tokens_per_epoch']} tokens an epoch × 7.24e9 weights × 6 operations at an assumed "
        f"{part['card_flops']:.0e} operations a second: {part['minutes_per_epoch']:.0f} min an "
        f"epoch, {part['epochs']:g} epochs.",
    )
    rows = tuple((row["name"], f"{row['mib']:.0f}", row["why"]) for row in part["memory"])
    return Section("8. The 7B plan", lines, ("memory", "MiB", "because"), rows)


def _time(results: Mapping[str, Any]) -> Section:
    rows = tuple((what, f"{minutes:.1f}") for what, minutes in results["minutes"].items())
    total = sum(results["minutes"].values())
    return Section(
        "What it took",
        (
            f"{total:.0f} minutes of work in all, on {results['environment']['machine']} with "
            f"{results['environment']['threads']} threads.",
        ),
        ("", "minutes"),
        rows,
    )


_PARTS: dict[str, Callable[[Part], Section]] = {
    "1": _map,
    "2": _symptoms,
    "3": _patience,
    "4": _schedules,
    "5": _alpha,
    "6": _formats,
    "7": _drift,
    "8": _card,
}


def _place(run: str) -> str:
    """A run of the tree, seen from its trunk."""
    return "the trunk" if run == "." else run


def _at(pick: Part) -> str:
    return f"step {pick['step']}, Σ {pick['sum_lr']:.3g} of {pick['end_sum_lr']:.3g}"


def _recall(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "–"
    verb = "leaves" if beyond(found["value"], found["limit"]) else "within"
    return f"{found['value']:+.2f} {verb} {found['limit']:+.2f}"


def _step(step: int | None) -> str:
    return "–" if step is None else str(step)


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
