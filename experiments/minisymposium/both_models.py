"""The models side by side: the order of the symptoms, and what held on both, on one, on none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.minisymposium.claims import CLAIMS, LEAST, Finding, findings, symptom
from experiments.minisymposium.effects import absent_until
from experiments.minisymposium.section import Section

#: Model → its results, or None where it was not run yet.
Results = Mapping[str, Mapping[str, Any] | None]

NOT_RUN = "not run"
#: How a verdict on a claim is spelt.
VERDICTS = {True: "**holds**", False: "does not hold", None: "cannot be told"}


def both_models(results: Results) -> list[Section]:
    """The sections that compare the models, for the top of the page. Empty without any results."""
    if not any(results.values()):
        return []
    return [_claims(results), _symptoms(results)]


def held_on(found: Sequence[Finding | None]) -> str:
    """``both``, ``one``, ``none`` or ``open``, from the findings of the models; None is not run."""
    if any(finding is None for finding in found):
        return "open"
    verdicts = [finding.holds for finding in found if finding is not None]
    if all(verdicts):
        return "both" if len(verdicts) == 2 else "all"
    if any(verdicts):
        return "one" if None not in verdicts else "one, and the other cannot tell"
    return "none" if None not in verdicts else "open"


def _claims(results: Results) -> Section:
    table = {model: findings(found["parts"]) if found else None for model, found in results.items()}
    alone = len(results) == 1
    rows: list[tuple[str, ...]] = []
    kinds: dict[str, list[str]] = {}
    for at, claim in enumerate(CLAIMS):
        found = [column[at] if column else None for column in table.values()]
        kind = held_on(found)
        kinds.setdefault(kind.partition(",")[0], []).append(claim.text)
        cells = [f"{VERDICTS[one.holds]}: {one.evidence}" if one else NOT_RUN for one in found]
        rows.append((claim.text, claim.measure, *cells, *(() if alone else (kind,))))
    missing = [model for model, found in results.items() if found is None]
    lines = [
        "Each row is a claim of the original experiment or of its readers. The verdict is computed "
        "from the results. It holds if the whole 95 % interval is on the claim's side of 0. It "
        "does not hold if the interval excludes an effect large enough to matter. Else it cannot "
        "be told.",
        *(f"{model} was {NOT_RUN} yet, so nothing is known to hold on both." for model in missing),
        *(
            f"- **Held on {kind}** ({len(kinds[kind])} of {len(CLAIMS)}): {'; '.join(kinds[kind])}."
            for kind in ("both", "one", "none")
            if kind in kinds and not alone
        ),
    ]
    for model, column in table.items():
        if column:
            counts = [sum(one.holds is verdict for one in column) for verdict in VERDICTS]
            lines.append(
                f"- On {model} {counts[0]} of {len(CLAIMS)} claims hold, {counts[1]} do not, and "
                f"{counts[2]} cannot be told."
            )
    heads = ("claim", "measured", *results, *(() if alone else ("held on",)))
    title = "What the claims are worth" if alone else "What held on both, on one, on none"
    return Section(title, tuple(lines), heads, tuple(rows))


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
        "The over-trained run of each model, in the order of the first. A symptom began after the "
        "last checkpoint that excludes a change large enough to matter, and at the latest at the "
        "one from which it was seen to the end: that is the interval in brackets, in steps."
    )
    return Section("The order of the symptoms", (line,), ("symptom", *results), rows)


def _began(parts: Mapping[str, Mapping[str, Any]], name: str) -> tuple[float, str]:
    """For sorting, and in words: the step of a symptom with its interval."""
    row = symptom(parts, name)
    if row is None:
        return float("inf"), "not measured"
    after = row["after"] if "after" in row else absent_until(row["points"], LEAST[name])
    last = row["points"][-1]["step"]
    if row["from"] is not None:
        epochs = {point["step"]: point["epoch"] for point in parts["2"]["curve"]}
        when = f"step {row['from']}, epoch {epochs[row['from']]:g}"
        if after >= row["from"]:  # significant, and small
            return row["from"], f"{when}, but below what matters until step {after}"
        return row["from"], f"{when} (after {after}, by {row.get('by', row['from'])})"
    if after >= last:
        return float("inf"), f"absent to the end (step {last})"
    return float("inf"), f"not seen; not excluded after step {after}"
