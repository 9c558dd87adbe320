"""The sections of parts 1, 3, 4, 5 and 9: rates, patience, schedules, alpha, the longest run."""

from __future__ import annotations

from experiments.minisymposium.section import Part, Section, step_text
from experiments.minisymposium.study import ORIGINAL_EPOCHS
from experiments.paired import above, below, spelt


def map_section(part: Part) -> Section:
    """Part 1."""
    rows = tuple(
        (
            f"{row['rate']:g}",
            f"{row['curve'][-1]['epoch']:g}",
            f"{row['sum_lr']:.3g}",
            f"{row['lowest']:.3f} at step {row['lowest_step']}",
            f"{row['curve'][-1]['nll_held_out']:.3f}",
            step_text(row.get("pick")),
            step_text(row.get("recall_from")),
            row["region"],
        )
        for row in part["rows"]
    )
    shorter = (
        f"The best checkpoint that `harness pick` chose is {part['pick_short_of_lowest']:.2%} "
        "above it."
        if part["pick_short_of_lowest"] is not None
        else ""
    )
    line = (
        f"Held-out NLL before training is {part['start']:.3f} nats a token on the development "
        f"references. The lowest value on the map is {part['lowest']:.3f}, in {part['lowest_run']} "
        f"at step {part['lowest_step']}. {shorter}"
    )
    heads = (
        "rate",
        "epochs",
        "Σ rate",
        "lowest held-out NLL",
        "at the end",
        "picked step",
        "recall above its null from step",
        "region",
    )
    return Section("1. Learning rate × epochs", (line,), heads, rows, ("map", "sum-lr"))


def patience_section(part: Part) -> Section:
    """Part 3."""
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
        "Held-out NLL of the low rate's picked checkpoint minus that of the high rate's, on "
        f"{part['items']} references that were used for no choice, over {part['seeds']} seeds: "
        f"{spelt(total)}; {verdict}."
    )
    if "stopping" in part:
        line += f" The high rate's end minus its picked checkpoint: {spelt(part['stopping'])}."
    return Section(
        "3. Does patience pay?",
        (line,),
        (
            "seed",
            "high rate, picked",
            "NLL",
            "low rate, picked",
            "NLL",
            "difference",
            "low rate where its Σ equals that of the high pick, minus the high pick",
        ),
        rows,
    )


def schedules_section(part: Part) -> Section:
    """Part 4."""
    rows = tuple(
        (
            row["shape"],
            str(row["step"]),
            f"{row['sum_lr']:.3g}",
            f"{row['nll']:.3f}",
            "–" if row["native"] is None else f"{row['native']:.3f}",
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
    gained = auto.get("against_trunk")
    less = (
        " Its NLL minus that of the trunk's picked checkpoint, on references that were used for "
        f"neither choice: {spelt(gained)}."
        if gained
        else ""
    )
    lines = (
        "All shapes have the same steps, the same Σ learning rate and the same seed. An interval "
        "that includes 0 shows no difference; one that excludes it speaks for this seed only.",
        f"The automatic branch chose step {auto['chosen']['step']} of "
        f"{_place(auto['chosen']['run'])}, held-out NLL {auto['nll']:.3f} ({rounds}).{less}",
    )
    return Section(
        "4. Schedules",
        lines,
        ("shape", "step", "Σ rate", "held-out NLL", "native NLL", "minus constant"),
        rows,
        ("schedules",),
    )


def alpha_section(part: Part) -> Section:
    """Part 5."""
    rows = tuple(
        (
            f"{row['alpha']:g}",
            "the reference"
            if row["reference"]
            else "corrected"
            if row["compensated"]
            else "not corrected",
            f"{row['strays']:.3f}",
            spelt(row["difference"]) if "difference" in row else "not measured",
        )
        for row in part["rows"]
    )
    return Section(
        "5. Alpha",
        (
            "The largest distance between the curve of held-out NLL and that of the reference "
            "alpha, and the difference at the end on references that were used for no choice.",
        ),
        ("alpha", "B's rate", "largest distance", "minus the reference alpha at the end"),
        rows,
        ("alpha",),
    )


def long_section(part: Part) -> Section:
    """Part 9."""
    rows = tuple(
        (
            str(point["step"]),
            f"{point['epoch']:g}",
            f"{point['sum_lr']:.3g}",
            f"{point['nll_held_out']:.3f}",
            "–" if point["recall"] is None else f"{point['recall']:+.3f}",
        )
        for point in part["curve"]
    )
    epochs = part["end"]["epoch"]
    line = (
        f"{part['rows']} rows at a rate of {part['rate']:g}, {epochs:g} of the original's "
        f"{ORIGINAL_EPOCHS} epochs. Held-out NLL at the end minus that of the base, on references "
        f"that were used for no choice: {spelt(part['difference'])}. Training answers gained "
        f"{spelt(part['recall'])} nats a token more than controls."
    )
    heads = ("step", "epoch", "Σ rate", "held-out NLL", "recall gained, nats a token")
    return Section("9. The longest run at a very low rate", (line,), heads, rows, ("long",))


def _place(run: str) -> str:
    """A run of the tree, seen from its trunk."""
    return "the trunk" if run == "." else run


def _at(pick: Part) -> str:
    return f"step {pick['step']}, Σ {pick['sum_lr']:.3g} of {pick['end_sum_lr']:.3g}"
