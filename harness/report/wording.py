"""Text of a model made safe to show: control characters by name, nothing that a page could not hold.

Order, words and numbers that both pages share.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from harness.records import GROUPS, Cell
from harness.report.document import Report

LONGEST = 2000


def visible(text: str, longest: int = LONGEST) -> str:
    """Replace what cannot be seen or encoded by its code point, and cut what is too long, saying so.

    Controls (but tab and newline), bidi and other format characters, noncharacters and lone surrogates
    become ``⟨U+202E⟩``.
    """
    cut = text[:longest]
    shown = "".join(_show(char) for char in cut)
    return shown + (f" ⟨{len(text) - longest} more characters⟩" if len(text) > longest else "")


def _show(char: str) -> str:
    if char in "\n\t" or (" " <= char <= "~"):
        return char
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Cn", "Co") and char != "\u200d":
        return f"⟨U+{ord(char):04X}⟩"
    return char


#: In this order; others follow in alphabetical order.
METRICS = {
    "choice": "the right option is the likeliest",
    "choice_norm": "the same, per byte",
    "brier": "confidence in the options against the truth, 0 sure and right to 2 sure and wrong",
    "flip": "gives up a right choice when asked: are you sure?",
    "on_task": "a check of content holds",
    "answer_strict": "all checks hold",
    "answer_lenient": "all checks hold without markup",
    "stopped": "ended by itself",
    "empty": "nothing but white space",
    "leak": "control text in the answer",
    "role_run_on": "went on as the next speaker",
    "echo": "repeats the prompt",
    "nll_excess": "cost of a reference beyond native, nats/token",
    "nll": "cost of a reference, nats/token",
    "drift": "another language",
    "hazard": "probability of another script along the answer",
    "hazard_ref": "the same along a reference",
    "copied": "share of the words copied from the training set",
    "role_fault": "speaks for the user, as another, or out of character",
    "gptisms": "canned phrase",
    "loop": "repeats itself",
}
LOWER_IS_BETTER = {
    "brier",
    "flip",
    "empty",
    "leak",
    "role_run_on",
    "echo",
    "nll_excess",
    "nll",
    "drift",
    "hazard",
    "hazard_ref",
    "copied",
    "role_fault",
    "gptisms",
    "loop",
}
NATS = {"nll", "nll_excess"}
MAIN = ("choice", "on_task", "stopped", "empty", "leak", "nll_excess")
MINUS = "\N{MINUS SIGN}"
WORD_MARKS = {"works": "✓", "degraded": "△", "broken": "✗", "untestable": "?", "sampled": "~"}


def metrics_of(report: Report) -> list[str]:
    """The measures that occur, known ones first in their order."""
    present = {cell["metric"] for run in report.runs for cell in run["cells"]}
    return [metric for metric in METRICS if metric in present] + sorted(present - set(METRICS))


def formats_of(report: Report) -> list[tuple[str, str]]:
    """(id, group): native, seen, held-out; by id inside a group."""
    return sorted(
        ((f["id"], f["group"]) for f in report.formats),
        key=lambda item: (GROUPS.index(item[1]), item[0]),
    )


def number(value: float | None, metric: str) -> str:
    """``.98``, ``1.0``, ``+0.31`` or ``–`` for what was not scored."""
    if value is None:
        return "–"
    if metric == "nll_excess":
        return f"{value:+.2f}".replace("-", "−")
    if metric in NATS:
        return f"{value:.2f}"
    if value >= 0.995:
        return "1.0"
    return f"{value:.2f}".removeprefix("0")


def compact(value: float | None) -> str:
    """Two decimals, no zero before the point: ``.98``, ``1.00``, ``−.27``."""
    if value is None:
        return "–"
    text = f"{abs(value):.2f}"
    return (MINUS if value < 0 and float(text) else "") + (
        text[1:] if text.startswith("0.") else text
    )


def signed(value: float) -> str:
    """A number with its sign, also when it is positive."""
    text = compact(value)
    return text if text.startswith(MINUS) else f"+{text}"


def interval(cell: Cell) -> str:
    """The 95 % interval and n in words."""
    if cell.mean is None:
        return f"not scored ({cell.not_scored} cases)"
    text = f"95 % interval {number(cell.low, cell.metric)} to {number(cell.high, cell.metric)}, n {cell.n}"
    return text + (f", {cell.not_scored} not scored" if cell.not_scored else "")


def goodness(value: float | None, metric: str) -> int | None:
    """0 (worst) … 4 (best) for the heat scale, or None where there is nothing to judge by."""
    if value is None or metric == "nll":
        return None
    if metric == "nll_excess":
        share = 1 - min(1.0, max(0.0, value / 1.5))
    elif metric in LOWER_IS_BETTER:
        share = 1 - min(1.0, max(0.0, value) * 2)
    else:
        share = min(1.0, max(0.0, value))
    return min(4, int(share * 5))


def words(report: Report, run: int) -> dict[str, tuple[str, str]]:
    """Format → (compatibility word, reason) of a run."""
    return {
        item["format"]: (item["word"], item["reason"]) for item in report.runs[run]["compatibility"]
    }


def verdict(report: Report) -> str:
    """One sentence: how many formats work, before and after."""
    parts = []
    for index, run in enumerate(report.runs):
        found = [word for word, _ in words(report, index).values()]
        counts = ", ".join(f"{found.count(word)} {word}" for word in WORD_MARKS if word in found)
        parts.append(f"{run['label']}: {counts}" if len(report.runs) > 1 else counts)
    return f"Of {len(report.formats)} formats — " + "; ".join(parts) + "."


def path_of(values: Sequence[str]) -> str:
    """``before → after``, or the one value."""
    return " → ".join(values)
