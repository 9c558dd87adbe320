"""The table of docs/claims.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.claims.claims import CLAIMS, Claim
from experiments.paired import spelt

#: A claim's name → its effect and other numbers, as claims.json holds them.
Results = Mapping[str, Mapping[str, Any]]
RESULTS_FILE = "claims.json"
_WORDS = {True: "holds here", False: "does not hold here", None: "inconclusive"}


def read_results(out: Path) -> dict[str, Any]:
    """What was measured so far."""
    file = out / RESULTS_FILE
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return found


def verdict(claim: Claim, results: Results) -> str:
    """The verdict in words."""
    if claim.name not in results:
        return "not run"
    effect = results[claim.name]["effect"]
    return "not measured" if effect is None else _WORDS[claim.holds(effect)]


def results_text(results: Results) -> str:
    """A row for each claim, as Markdown."""
    head = ("name", "claim", "verdict", "effect with its 95 % interval", "smallest that matters")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for claim in CLAIMS:
        found = results.get(claim.name, {})
        effect = spelt(found.get("effect"), "+.3f")
        shown = f"{claim.what}: {effect}"
        if found.get("also"):
            shown += f"; {found['also']}"
        text = f"{claim.text} ({claim.source})"
        cells = (f"`{claim.name}`", text, verdict(claim, results), shown, f"{claim.least:g}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
