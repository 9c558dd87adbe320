"""Two models side by side: the claims that hold on both, one or none, and the symptoms' order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.effects import absent_until
from experiments.minisymposium.claims import (
    CLAIMS,
    LEAST,
    NOT_MEASURED,
    Finding,
    findings,
    symptom,
)
from experiments.minisymposium.section import VERDICTS, Section

#: Model → its results, or None if it has not been run yet.
Results = Mapping[str, Mapping[str, Any] | None]

NOT_RUN = "not run"


def both_models(results: Results) -> list[Section]:
    """The sections that compare the models, for the top of the page. Empty without any results."""
    if not any(results.values()):
        return []
    return [_claims(results), _symptoms(results)]


def held_on(found: Sequence[Finding | None]) -> str:
    """Whether a claim holds on ``both``, ``one`` or ``none`` of two models; None is not run."""
    if None in found or NOT_MEASURED in found:
        return "not known yet"
    verdicts = [finding.holds for finding in found if finding]
    if None in verdicts:
        return "one, the other inconclusive" if any(verdicts) else "inconclusive"
    return ("none", "one", "both")[verdicts.count(True)]


def _claims(results: Results) -> Section:
    table = {model: findings(found["parts"]) if found else None for model, found in results.items()}
    alone = len(results) == 1
    rows: list[tuple[str, ...]] = []
    kinds: dict[str, list[str]] = {}
    for at, claim in enumerate(CLAIMS):
        found = [column[at] if column else None for column in table.values()]
        cells = [claim.text, claim.measure, *map(_cell, found)]
        if not alone:
            cells.append(held_on(found))
            kinds.setdefault(cells[-1].partition(",")[0], []).append(claim.text)
        rows.append(tuple(cells))
    lines = [
        "Each row is a claim that the author of the original experiment or a reader made, with a "
        "verdict that is computed from the results. A claim holds if the whole 95 % interval is on "
        "its side of 0. It does not hold if the interval excludes every effect that is large "
        "enough to matter. Otherwise the result is inconclusive. For the claim that rows are "
        "*not* memorised, the first two rules change places.",
        *(
            f"{model} has not been run yet, so it is not known which claims hold on both models."
            for model, column in table.items()
            if column is None
        ),
        *(
            f"- **Held on {kind}** ({len(kinds[kind])} of {len(CLAIMS)}): {'; '.join(kinds[kind])}."
            for kind in ("both", "one", "none")
            if kind in kinds
        ),
        *(_counts(model, column) for model, column in table.items() if column),
    ]
    heads = ("claim", "measured", *results, *(() if alone else ("held on",)))
    title = "The claims and their verdicts" if alone else "What held on both models, one or none"
    return Section(title, tuple(lines), heads, tuple(rows))


def _cell(found: Finding | None) -> str:
    if found is None:
        return NOT_RUN
    if found == NOT_MEASURED:
        return found.evidence
    return f"{VERDICTS[found.holds]}: {found.evidence}"


def _counts(model: str, found: Sequence[Finding]) -> str:
    measured = [one.holds for one in found if one != NOT_MEASURED]
    hold, fail, open_ = (measured.count(verdict) for verdict in (True, False, None))
    return (
        f"- On {model}, {hold} of {len(found)} claims hold, {fail} do not hold, and for {open_} "
        f"the result is inconclusive. {len(found) - len(measured)} have not been measured."
    )


def _symptoms(results: Results) -> Section:
    names = list(LEAST)
    firsts = {
        model: {n: _began(found["parts"], n) for n in names} if found else None
        for model, found in results.items()
    }
    some = next(found for found in firsts.values() if found)
    order = sorted(names, key=lambda name: (some[name][0], names.index(name)))
    rows = tuple(
        (name, *(found[name][1] if found else NOT_RUN for found in firsts.values()))
        for name in order
    )
    line = (
        "The symptoms of each model's over-trained run, in the order in which the first model "
        "showed them. The steps in brackets are the interval in which a symptom began: after the "
        "last checkpoint that excludes a change large enough to matter, and no later than the "
        "checkpoint from which the symptom was seen to the end."
    )
    return Section("The order of the symptoms", (line,), ("symptom", *results), rows)


def _began(parts: Mapping[str, Mapping[str, Any]], name: str) -> tuple[float, str]:
    """The step at which a symptom began: a number to sort by, and words with its interval."""
    row = symptom(parts, name)
    if row is None:
        return float("inf"), "not measured"
    after = row["after"] if "after" in row else absent_until(row["points"], LEAST[name])
    last = row["points"][-1]["step"]
    if row["from"] is not None:
        epochs = {point["step"]: point["epoch"] for point in parts["2"]["curve"]}
        when = f"step {row['from']}, epoch {epochs[row['from']]:g}"
        if after >= row["from"]:  # significant, and small
            return row["from"], f"{when}, but too small to matter until step {after}"
        return row["from"], f"{when} (after {after}, by {row.get('by', row['from'])})"
    if after >= last:
        return float("inf"), f"absent to the end (step {last})"
    return float("inf"), f"not seen, but not excluded after step {after}"
