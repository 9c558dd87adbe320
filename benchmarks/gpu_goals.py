"""The goals that benchmarks/gpu.py is held against, computed from its lines.

A goal is met (true), missed (false), or open (null) when a line that it needs is not there: a peer
that is not installed, a part that failed or was not reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Lines = Sequence[dict[str, Any]]
#: What torch may hold on a card of 12 GB, beside the context and the screen.
CAP_GIB = 11.3
CAPPED = f"under {CAP_GIB} GiB"
LIMIT_GIB = 12.0
BUSY = 0.6
WITHIN = 0.10


@dataclass(frozen=True)
class Goal:
    """A figure, what it must at least be (or, with ``most``, at most), and its two numbers."""

    name: str
    measure: Callable[[Lines], tuple[Any, Any, Any]]
    """Computes our number, the peer's number and the goal's figure; each is None if unknown."""
    least: float | None = None
    most: float | None = None

    def judge(self, lines: Lines) -> dict[str, Any]:
        """The goal's line of the summary."""
        ours, peer, figure = self.measure(lines)
        met = None
        if figure is not None and (self.least is not None or self.most is not None):
            met = (self.least is None or figure >= self.least) and (
                self.most is None or figure <= self.most
            )
        return {
            "part": "summary",
            "status": "measured" if figure is not None else "open",
            "goal": self.name,
            "ours": ours,
            "peer": peer,
            "figure": figure,
            "least": self.least,
            "most": self.most,
            "met": met,
        }


def select(lines: Lines, **wanted: Any) -> list[dict[str, Any]]:
    """The measured lines with these values."""
    return [
        line
        for line in lines
        if line.get("status") == "measured"
        and all(line.get(key) == value for key, value in wanted.items())
    ]


def best(lines: Lines, key: str, **wanted: Any) -> Any:
    """The highest value of ``key``, or None."""
    values = [line[key] for line in select(lines, **wanted) if line.get(key) is not None]
    return max(values, default=None)


def speed(
    work: str, model: str, peers: Sequence[str], key: str, ours: str = ""
) -> Callable[[Lines], tuple[Any, Any, Any]]:
    """Our speed by the best of these peers'. ``ours`` names our variant, if not any."""
    mine = {"variant": ours} if ours else {}

    def measure(lines: Lines) -> tuple[Any, Any, Any]:
        own = best(lines, key, work=work, model=model, side="ours", **mine)
        found = [best(lines, key, work=work, model=model, side=peer) for peer in peers]
        other = max((value for value in found if value is not None), default=None)
        ratio = own / other if own is not None and other else None
        return own, other, ratio

    return measure


def busy(work: str, model: str) -> Callable[[Lines], tuple[Any, Any, Any]]:
    """The share of the time in which the card computes for us."""

    def measure(lines: Lines) -> tuple[Any, Any, Any]:
        share = best(lines, "busy", work=work, model=model, side="ours")
        return share, None, share

    return measure


def memory_by_peer(lines: Lines) -> tuple[Any, Any, Any]:
    """Our peak under the cap by that of peft's bare loop."""
    own = best(lines, "allocated_GiB", work="training", model="7b", side="ours", variant=CAPPED)
    other = best(lines, "allocated_GiB", work="training", model="7b", side="peft")
    return own, other, own / other if own is not None and other else None


def memory_on_card(lines: Lines) -> tuple[Any, Any, Any]:
    """All that our process had on the card under the cap, in GiB."""
    seen = best(lines, "seen_GiB", work="memory", model="7b")
    return seen, None, seen


def memory_by_prediction(lines: Lines) -> tuple[Any, Any, Any]:
    """What was seen by what --dry-run predicted."""
    found = select(lines, work="memory", model="7b")
    if not found:
        return None, None, None
    line = found[-1]
    return line["seen_GiB"], line["predicted_GiB"], line["seen_by_predicted"]


def equal(work: str, **wanted: Any) -> Callable[[Lines], tuple[Any, Any, Any]]:
    """1 if all lines say that the two results are equal, else 0."""

    def measure(lines: Lines) -> tuple[Any, Any, Any]:
        found = [line["equal"] for line in select(lines, work=work, **wanted)]
        return None, None, int(all(found)) if found else None

    return measure


TRAINING, GENERATING = ("training", "7b"), ("generate",)
GOALS = (
    Goal("7B nf4 training by TRL", speed(*TRAINING, ["trl"], "tokens_s", CAPPED), least=2.0),
    Goal("7B nf4 training by peft", speed(*TRAINING, ["peft"], "tokens_s", CAPPED), least=1.2),
    Goal("7B nf4 training, memory by peft", memory_by_peer, most=1.0),
    Goal("7B nf4 training, GiB on the card", memory_on_card, most=LIMIT_GIB),
    Goal("memory by --dry-run", memory_by_prediction, least=1 - WITHIN, most=1 + WITHIN),
    Goal("7B nf4 training without the cap by TRL", speed(*TRAINING, ["trl"], "tokens_s", "defaults")),
    Goal("small training by peft", speed("training", "small", ["peft"], "tokens_s"), least=1.5),
    Goal("small training by TRL", speed("training", "small", ["trl"], "tokens_s")),
    *(
        Goal(f"{model} scoring by lm-eval", speed("scoring", model, ["lm-eval"], "requests_s"), least=5.0)
        for model in ("7b", "small")
    ),
    *(
        Goal(f"{model} generation by transformers", speed("generation", model, GENERATING, "tokens_s"), least=3.0)
        for model in ("7b", "small")
    ),
    *(
        Goal(f"{model} {work}, card busy", busy(work, model), least=BUSY)
        for work in ("training", "scoring", "generation")
        for model in ("7b", "small")
    ),
    Goal("resumed run equals the whole one", equal("resume", objective="supervised"), least=1),
    Goal("resumed run, consistency", equal("resume", objective="consistency"), least=1),
    Goal("picks and answers equal the CPU's", equal("agreement"), least=1),
)  # fmt: skip


def summarise(lines: Lines) -> list[dict[str, Any]]:
    """A line for each goal."""
    return [goal.judge(lines) for goal in GOALS]


def table(summary: Lines) -> str:
    """The summary for people."""
    rows = [("goal", "ours", "peer", "figure", "wanted", "met")]
    for line in summary:
        bounds = [f"≥ {line['least']:g}"] if line["least"] is not None else []
        bounds += [f"≤ {line['most']:g}"] if line["most"] is not None else []
        met = {True: "yes", False: "NO", None: "–"}[line["met"]]
        numbers = [_number(line[key]) for key in ("ours", "peer", "figure")]
        rows.append((line["goal"], *numbers, ", ".join(bounds) or "–", met))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
