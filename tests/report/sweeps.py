"""A sweep's points as harness sweep writes them, with curves that fall and turn."""

from __future__ import annotations

from typing import Any

from harness.report.sweep_document import RATE

STEPS = (0, 4, 8, 12, 16)


def point(
    rate: str,
    values: list[float],
    *,
    pick: int | None,
    turn: int | None = None,
    recall_from: int | None = None,
    **others: str,
) -> dict[str, Any]:
    """One run with a value for each of its checkpoints."""
    curve = [
        {"step": step, "epoch": step / 4, "sum_lr": step * float(rate), "nll_held_out": value}
        for step, value in zip(STEPS, values, strict=False)
    ]
    judged = {
        "measure": "nll_held_out",
        "pick": pick,
        "turn": turn,
        "recall_from": recall_from,
        "best": min(values),
        "last": values[-1],
        "why": "a reason.",
    }
    return {
        "run": f"runs/learning_rate-{rate}",
        "settings": {RATE: rate, **others},
        "done": True,
        "curve": curve,
        **(judged if len(values) > 1 else {}),
    }


def points() -> list[dict[str, Any]]:
    """A rate that is too low, a good one, and one that turns."""
    return [
        point("1e-4", [2.41, 2.30, 2.21, 2.14, 2.08], pick=16),
        point("1e-3", [2.41, 1.98, 1.79, 1.71, 1.73], pick=12),
        point("5e-3", [2.41, 1.74, 1.82, 2.05, 2.38], pick=4, turn=4, recall_from=8),
    ]
